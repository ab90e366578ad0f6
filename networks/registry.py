"""Splits by name, and the pair of networks for each: the only place where a number of a split is chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from duetface.errors import ConfigError
from duetface.spec import PlaneSpec, SplitSpec
from duetface.splitting import CHANNELS
from networks.client import ClientNetwork
from networks.learned import CORNER_CHANNELS, LearnedClient, LearnedServer
from networks.mobile_face_net import EMBEDDING, MobileFaceNet
from networks.server import ServerNetwork
from networks.steps import high_pass_steps, published_steps
from networks.teacher import load_teacher

# TFace train.yaml SUB_CHS: row-major in the 8 x 8 block, not zigzag; the same for Y, Cb and Cr.
PAPER_CLIENT_CHANNELS = (0, 1, 2, 3, 4, 5, 8, 9, 16, 24)
PAPER_SERVER_CHANNELS = tuple(c for c in range(CHANNELS) if c not in PAPER_CLIENT_CHANNELS)

MASK_BITS = 4
MASK_GRIDS = (28, 14, 7)
# Lower triangles u + v < 3 and u + v < 2 of the block: what a split with fewer channels at the client keeps there.
SIX_CHANNELS = (0, 1, 2, 8, 9, 16)
THREE_CHANNELS = (0, 1, 8)


def fixed_split(
    name: str, upsampling: int, client_channels: tuple[int, ...] = PAPER_CLIENT_CHANNELS, masks: bool = True
) -> SplitSpec:
    """A high-pass split: the given channels stay, of all colour planes; int8 coefficients and masks are sent."""
    goes = tuple(c for c in range(CHANNELS) if c not in client_channels)
    blocks = 112 * upsampling // 8
    steps = high_pass_steps(goes, upsampling)
    plane = PlaneSpec("coefficients", (3 * len(goes), blocks, blocks), 8, True, "deflate", steps)
    if upsampling > 2:  # values far below one level of the others': steps of their own, and nothing to deflate
        plane = replace(plane, codec="stored", scale=published_steps(goes, 112, upsampling))
    return SplitSpec(
        name=name,
        version=1,
        family="fixed",
        crop=112,
        colour="ycbcr-full-range",
        upsampling=upsampling,
        block=8,
        client_channels=client_channels,
        server_channels=goes,
        planes=(plane, *(_mask_plane(k) for k in MASK_GRIDS if masks)),
    )


def _mask_plane(cells: int) -> PlaneSpec:
    return PlaneSpec(f"mask_{cells}", (1, cells, cells), MASK_BITS, False, "stored", (1 / (2**MASK_BITS - 1),))


def without_masks(spec: SplitSpec) -> SplitSpec:
    """The same split with nothing but its first plane: what a device without a client network can send."""
    return replace(spec, planes=spec.planes[:1])


def twin_split() -> SplitSpec:
    """The unprotected picture: what the price of protection is measured against. Never served."""
    rgb = PlaneSpec("rgb", (3, 112, 112), 8, False, "deflate", (1 / 127.5,), -1.0)
    return SplitSpec("twin", 1, "fixed", 112, "rgb", 1, 8, (), (), (rgb,))


def learned_split(name: str, bits: int, step: float) -> SplitSpec:
    """A vector of few bits in place of channels and masks; its values have unit variance before rounding."""
    codes = PlaneSpec("codes", (EMBEDDING, 1, 1), bits, True, "stored", (step,))
    return SplitSpec(name, 1, "learned", 112, "ycbcr-full-range", 1, 8, CORNER_CHANNELS, (), (codes,))


SPLITS = {
    "twin": twin_split(),
    "l1": learned_split("l1", bits=4, step=0.4),
    "r1": fixed_split("r1", 1),
    "r2": fixed_split("r2", 2),
    "paper": fixed_split("paper", 8),
}
# For the table of docs/accuracy.md: never shipped.
ABLATIONS = {
    "r1-6": fixed_split("r1-6", 1, SIX_CHANNELS),
    "r1-3": fixed_split("r1-3", 1, THREE_CHANNELS),
    "r1-unmasked": fixed_split("r1-unmasked", 1, masks=False),
}


def split_named(name: str) -> SplitSpec:
    """The split of that name; ConfigError lists the known ones."""
    known = SPLITS | ABLATIONS
    if name not in known:
        raise ConfigError(f"unknown split {name!r}: expected one of {sorted(known)}")
    return known[name]


def split_of(digest: bytes) -> SplitSpec:
    """The split of that digest, before its client network's is known; ConfigError if none has it."""
    for spec in (SPLITS | ABLATIONS).values():
        if spec.digest == digest:
            return spec
    raise ConfigError(f"no split has the digest {digest.hex()[:16]}: the weights are of another version")


Server = ServerNetwork | LearnedServer


@dataclass(frozen=True)
class Form:
    """What of the networks a split leaves open.  trunk, interaction: see networks.server.ServerNetwork."""

    trunk: str = "insightface"
    interaction: str = "weighted"


def build(spec: SplitSpec, teacher: Path | None, form: Form | None = None) -> tuple[nn.Module | None, Server]:
    """Client (None where the split needs none) and server network.

    teacher: file to warm-start the trunk from; the trunk then has its shape, whatever the form says.
    """
    form = form or Form()
    warm = load_teacher(teacher) if teacher is not None else None
    if spec.family == "learned":
        return LearnedClient(spec, warm or MobileFaceNet(form.trunk)), LearnedServer()
    client = ClientNetwork(spec) if spec.mask_grids else None
    server = ServerNetwork(spec, warm.name if warm else form.trunk, form.interaction)
    if warm is not None:
        server.trunk.load_state_dict(warm.state_dict())
    return client, server
