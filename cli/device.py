"""What commands that look at a face share: the way from picture to probe, and how a decision is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import output
from cli.exits import ExitCode

if TYPE_CHECKING:
    from duetface.client import ServiceInfo
    from duetface.spec import SplitSpec
    from duetface.types import Decision, Probe
    from edge_agent.pipeline import Protector
    from edge_agent.quality import RetryReason
    from edge_agent.sources import Frame


def load_protector(info: "ServiceInfo | None" = None, *, for_enrolment: bool = False) -> "Protector":
    """The detector, the mesh and the client network of each split that the service reads; enrolment is stricter.

    info: what the service told; without one, the default split.
    """
    from duetface.manifest import models_root
    from edge_agent.pipeline import Protector
    from edge_agent.quality import ENROLMENT, VERIFICATION

    protector = Protector.load(models_root(), policy=ENROLMENT if for_enrolment else VERIFICATION)
    protector.encode_for(info.split_digests if info is not None else ())
    return protector


def installed_splits() -> "list[SplitSpec]":
    """The splits that this device can send."""
    from duetface.manifest import ModelCatalogue, models_root

    return ModelCatalogue(models_root()).splits()


def protect_picture(protector: "Protector", picture: Path) -> "tuple[Probe | None, RetryReason | None]":
    """Probe of a picture, or the reason why there is none.  Raises CaptureError if it is no picture."""
    from edge_agent.enrolment import as_of_now
    from edge_agent.sources import read_picture

    outcome = protector.protect(read_picture(picture))
    return (None if outcome.probe is None else as_of_now(outcome.probe)), outcome.reason


@contextmanager
def camera_frames(source: str) -> "Iterator[Iterator[Frame]]":
    """The newest frames of a camera, or every frame of a file.  Raises CaptureError or DeviceError."""
    from edge_agent.camera import open_feed, open_source
    from edge_agent.guided import frames_of

    feed = open_feed(open_source(source))
    try:
        yield frames_of(feed)
    finally:
        feed.close()


def tell_retry(picture: Path, reason: "RetryReason | None", as_json: bool) -> ExitCode:
    """Say that no face could be used."""
    if as_json:
        output.result_json({"outcome": "retry", "reason": reason})
    else:
        output.result(f"retry: {reason}")
        output.note(f"{picture}: {reason.advice if reason else ''} Nothing was sent.")
    return ExitCode.RETRY


def tell_decision(decision: "Decision", as_json: bool) -> ExitCode:
    """Say what was decided; returns the exit code that goes with it."""
    if as_json:
        output.result_json(_decision(decision))
    else:
        who = f" {decision.subject_id}" if decision.subject_id else ""
        at = f"FMR {decision.fmr:g}" + (f", expected FPIR {decision.fpir:.2g}" if decision.fpir else "")
        output.result(f"{decision.outcome}{who}: {decision.reason} at {at}; liveness {decision.liveness}")
    return {"accept": ExitCode.DONE, "reject": ExitCode.REJECTED}.get(str(decision.outcome), ExitCode.RETRY)


def _decision(decision: "Decision") -> dict[str, Any]:
    told = {
        "outcome": decision.outcome,
        "reason": decision.reason,
        "subject_id": decision.subject_id or None,
        "fmr": decision.fmr,
        "fpir": decision.fpir or None,
        "liveness": decision.liveness,
        "decision_id": decision.decision_id,
        "expires_in_s": decision.expires_in_s,
    }
    if decision.cosine_similarity is not None:
        told["cosine_similarity"] = decision.cosine_similarity
    return told
