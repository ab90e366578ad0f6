"""Splits by name, and the pair of networks for each: the only place where a number of a split is chosen."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from duetface.errors import ConfigError
from duetface.spec import PlaneSpec, SplitSpec
from networks.client import ClientNetwork
from networks.server import ServerNetwork
from networks.teacher import load_teacher

# TFace train.yaml SUB_CHS: row-major in the 8 x 8 block, not zigzag; the same for Y, Cb and Cr.
PAPER_CLIENT_CHANNELS = (0, 1, 2, 3, 4, 5, 8, 9, 16, 24)
PAPER_SERVER_CHANNELS = tuple(c for c in range(64) if c not in PAPER_CLIENT_CHANNELS)

# Luma channels whose RMS over 302 training crops is 10 or more (docs/adr/0001): a wider step keeps
# their peaks (309 measured, 381 representable) from saturating; the others have room at 254.
STRONG_LUMA_CHANNELS = frozenset({6, 10, 11, 12, 17, 18, 19, 25, 26, 32, 40})
STRONG_STEP = 3.0
STEP = 2.0

MASK_BITS = 4


def coefficient_steps() -> tuple[float, ...]:
    """One quantiser step a server channel: Y's 54, then Cb's and Cr's."""
    luma = [STRONG_STEP if c in STRONG_LUMA_CHANNELS else STEP for c in PAPER_SERVER_CHANNELS]
    return tuple(luma + [STEP] * (2 * len(PAPER_SERVER_CHANNELS)))


def fixed_split(name: str, upsampling: int, masks: tuple[int, ...] = (28, 14, 7)) -> SplitSpec:
    """A high-pass split with the paper's ten channels at the client. Float planes of one message a face."""
    blocks = 112 * upsampling // 8
    shape = (3 * len(PAPER_SERVER_CHANNELS), blocks, blocks)
    level = 1 / (2**MASK_BITS - 1)
    return SplitSpec(
        name=name,
        version=1,
        family="fixed",
        crop=112,
        colour="ycbcr-full-range",
        upsampling=upsampling,
        block=8,
        client_channels=PAPER_CLIENT_CHANNELS,
        server_channels=PAPER_SERVER_CHANNELS,
        planes=(
            PlaneSpec("coefficients", shape, 8, True, "deflate", coefficient_steps()),
            *(PlaneSpec(f"mask_{k}", (1, k, k), MASK_BITS, False, "stored", (level,)) for k in masks),
        ),
    )


def twin_split() -> SplitSpec:
    """The unprotected picture: what the price of protection is measured against. Never served."""
    rgb = PlaneSpec("rgb", (3, 112, 112), 8, False, "deflate", (1 / 127.5,), -1.0)
    return SplitSpec("twin", 1, "fixed", 112, "rgb", 1, 8, (), (), (rgb,))


SPLITS = {
    "twin": twin_split(),
    "r1": fixed_split("r1", 1),
    "r2": fixed_split("r2", 2, masks=()),
}


def split_named(name: str) -> SplitSpec:
    """The split of that name; ConfigError lists the known ones."""
    if name not in SPLITS:
        raise ConfigError(f"unknown split {name!r}: expected one of {sorted(SPLITS)}")
    return SPLITS[name]


def build(spec: SplitSpec, teacher: Path | None) -> tuple[nn.Module | None, ServerNetwork]:
    """Client (None where the split has no masks) and server network, the trunk warm-started if a teacher is given."""
    client = ClientNetwork(spec) if spec.mask_grids else None
    server = ServerNetwork(spec)
    if teacher is not None:
        server.trunk.load_state_dict(load_teacher(teacher).state_dict())
    return client, server
