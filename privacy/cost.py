"""What a split costs: the device's multiply-accumulates, the bytes of a message, the accuracy that is left."""

from __future__ import annotations

from pathlib import Path

from duetface.errors import ModelError
from duetface.spec import SplitSpec
from networks.cost import multiply_accumulates
from privacy.judges import Interval
from privacy.linkage import accuracy, similarities
from privacy.pack import Pack
from privacy.record import Result, names_of, sizes


def verification_accuracy(pack: Pack, which: str, seed: int) -> Interval:
    """Accuracy on the victims' pairs by "template" (the split's) or "teacher" (unprotected), with its interval."""
    embeddings = pack.victim.template if which == "template" else pack.victim.teacher
    if embeddings.shape[1] == 0:
        raise ModelError(f"split {pack.meta['split']} has no template space in models/: export one first")
    return accuracy(*similarities(embeddings, pack.victim.names, pack.pairs), seed)


def cost(pack: Pack, spec: SplitSpec, models: Path, seed: int) -> Result:
    """Accuracy left and lost, bytes, and the device's work, as one result: the other axes of the frontier."""
    metrics: dict[str, Interval | float] = {
        "message_bytes": float(pack.victim.wire_bytes.mean()),
        "message_bytes_largest": float(pack.victim.wire_bytes.max()),
        "teacher_accuracy": verification_accuracy(pack, "teacher", seed),
    }
    if pack.victim.template.shape[1]:
        left, whole = verification_accuracy(pack, "template", seed), metrics["teacher_accuracy"]
        assert isinstance(whole, Interval)
        metrics |= {"accuracy": left, "accuracy_lost_points": 100 * (whole.mean - left.mean)}
    network = models / "splits" / spec.name / "client.onnx"
    if network.exists():
        metrics["client_macs"] = multiply_accumulates(network)
    n = {**sizes(len(pack.victim.names), len(set(pack.victim_people)), 0), "comparisons": len(pack.pairs)}
    return Result("cost", "", **names_of(spec), seed=seed, n=n, metrics=metrics)
