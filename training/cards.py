"""Model cards: what a published folder holds, where it comes from, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from duetface.manifest import SpaceManifest
from duetface.spec import SplitSpec
from gallery.calibration import Calibration, SourceFigures
from training.calibrate import FMRS

if TYPE_CHECKING:
    from training.publish import Parity

CAUTION = """## Licence and limits

{licence}.
The training faces come from public research sets without demographic labels, so nothing is known
about how error rates differ between groups of people: measure on your own before you rely on them.
"""
LEAKS = {
    "interpolated": """For comparison only: the service itself gives the picture back by linear algebra and looks at it
(docs/privacy.md), so this split protects nothing; `serve` takes it only if it is asked for by name.""",
    "fixed": """This split leaves out what a person would recognise at a glance; whoever holds the message can identify,
and a trained attacker rebuilds the picture from it (docs/privacy.md).""",
    "learned": """A message tells what the template tells that it turns into, and how good the picture was;
whoever holds either can identify (docs/privacy.md says how it was measured).""",
}

SERVERS = {
    "interpolated": "the picture as linear algebra gives it back, then MobileFaceNet with interactive blocks",
    "fixed": "inverse block DCT of what was sent, then MobileFaceNet with interactive blocks",
    "learned": "one linear layer over the device's codes",
}


def _kind(spec: SplitSpec) -> str:
    return "interpolated" if spec.interpolated else spec.family


def split_card(spec: SplitSpec, client: nn.Module, parity: Parity, licence: str) -> str:
    """README.md of a split's folder."""
    rows = "\n".join(
        f"| `{plane.name}` | {' x '.join(map(str, plane.shape))} | {plane.bits} | {plane.codec} |"
        f" {plane.packed_length} |"
        for plane in spec.planes
    )
    what = _learned(spec, client, parity) if spec.family == "learned" else _fixed(spec, client, parity)
    return f"""# Split `{spec.name}`

Digest `{spec.digest.hex()}`.

{what}

| plane | shape | bits | codec | bytes before deflating |
|---|---|---|---|---|
{rows}

{CAUTION.format(licence=licence)}
{LEAKS[_kind(spec)]}
"""


def _quantised(parity: Parity, which: str) -> str:
    if which not in parity.quantised:
        return ""
    mean, least = parity.quantised[which]
    return (
        f"\nThe file is int8: its cosine to float32 is {mean:.4f} in the mean, {least:.4f} at least, on held-out faces."
    )


def _fixed(spec: SplitSpec, client: nn.Module, parity: Parity) -> str:
    return f"""Upsampling {spec.upsampling}, 8 x 8 block DCT of full-range YCbCr.
Of the 64 channels of each colour plane, {len(spec.client_channels)} stay on the device
({_listed(spec.client_channels)}; channel = 8 x vertical + horizontal frequency),
{len(spec.server_channels)} are sent.

`client.onnx` makes the masks on the device: {_parameters(client):,} parameters.
In float32 it differs from the torch module by at most {parity.client:.1e} (masks lie in [0, 1]).
{_quantised(parity, "client")}"""


def _learned(spec: SplitSpec, client: nn.Module, parity: Parity) -> str:
    return f"""8 x 8 block DCT of full-range YCbCr; every channel stays on the device.
`client.onnx` reads {len(spec.client_channels)} of the 64 channels of each colour plane there
({_listed(spec.client_channels)}; channel = 8 x vertical + horizontal frequency), without the outermost blocks,
and makes one vector of them: {_parameters(client):,} parameters.
In float32 it differs from the torch module by at most {parity.client:.1e} (its values have unit variance).
{_quantised(parity, "client")}"""


def _listed(channels: tuple[int, ...]) -> str:
    return ", ".join(map(str, channels))


def space_card(
    space: SpaceManifest,
    spec: SplitSpec,
    calibration: Calibration,
    server: nn.Module,
    parity: Parity,
    run: Mapping[str, Any],
    note: str,
) -> str:
    """README.md of a space's folder."""
    seen = f"{int(run['faces']):,} faces seen (augmented; {run.get('training_faces', 19061):,} different ones)"
    device = f" on {run['device'].upper()}" if "device" in run else ""
    start = f", started from `{run['start']}`" if run.get("start") else ""
    commit = f", commit `{run['commit'][:12]}`" if "commit" in run else ""
    return f"""# Template space `{space.name}`

The server network for split `{spec.name}`: {SERVERS[_kind(spec)]};
{_parameters(server):,} parameters, {space.precision}.
Digest `{space.digest.hex()}`.

Training: {seen} in {run["seconds"] / 60:.0f} minutes{device}{start}{commit}.
{note}
In float32 `server.onnx` differs from the torch module by at most {parity.server:.1e} a component of the unit
embedding.
{_quantised(parity, "server")}
Accuracy: docs/accuracy.md.

{_thresholds(calibration)}

{CAUTION.format(licence=space.licence)}
{LEAKS[_kind(spec)]}
"""


def _thresholds(calibration: Calibration) -> str:
    supported = [fmr for fmr in FMRS if fmr >= calibration.smallest_fmr]
    points = "\n".join(_operating_point(calibration, fmr) for fmr in supported)
    return f"""## Thresholds

From {calibration.n_impostor:,} comparisons of {calibration.n_identities} people: {calibration.sample}.

| FMR | threshold (cosine) | 95 % interval of the FMR | FNMR on the same sample |
|---|---|---|---|
{points}

Comparisons that share a person hang together, so the true intervals are wider.

### By source set

People of one set among themselves, at the thresholds above; no false match seen in n comparisons says
that the rate is below 3 / n at 95 % (rule of three).

| set | people | FMR at {" / ".join(f"{fmr:g}" for fmr in supported)} (comparisons) | FNMR at the same (comparisons) |
|---|---|---|---|
{_by_source(calibration.by_source)}"""


def _by_source(sources: Mapping[str, SourceFigures]) -> str:
    rows = []
    for name, found in sources.items():
        false = " / ".join(_rate(count, found.impostor) for count in found.false_matches)
        missed = " / ".join(_rate(count, found.genuine) for count in found.false_non_matches)
        rows.append(f"| {name} | {found.people} | {false} ({found.impostor:,}) | {missed} ({found.genuine:,}) |")
    return "\n".join(rows)


def _rate(count: int, trials: int) -> str:
    if trials == 0:
        return "-"
    return f"{count / trials:.2g}" if count else f"< {3 / trials:.2g}"


def _operating_point(calibration: Calibration, fmr: float) -> str:
    threshold = calibration.threshold_at(fmr)
    low, high = calibration.interval(fmr)
    return f"| {fmr:g} | {threshold:.3f} | {low:.1e} to {high:.1e} | {calibration.fnmr_at(threshold):.3f} |"


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
