"""Measure the edge's capture on a folder of pictures: detection, refusals, milliseconds a stage.

    python -m benchmarks.capture_quality ../shared/data/lfw_raw_dev

Prints one JSON object.  Detection counts a face near the middle of the picture, as in LFW.
"""

import argparse
import json
import platform
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import CaptureError
from duetface.manifest import models_root
from edge_agent.pipeline import Outcome, Protector
from edge_agent.quality import ENROLMENT, VERIFICATION, Measurement, QualityPolicy
from edge_agent.sources import PICTURE_SUFFIXES, read_picture

MEASURES = tuple(Measurement.__annotations__)
PERCENTILES = (0, 1, 2, 50, 98, 99, 100)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures, in any depth")
    parser.add_argument("--every", type=int, default=1, help="take every n-th picture")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    protector = Protector.load(models_root())
    started = time.process_time()
    results = [(picture, protector.protect(picture)) for picture in _read(paths[:: arguments.every])]
    report = _report(results) | {"cpu_s": round(time.process_time() - started, 1), "machine": platform.platform()}
    print(json.dumps(report, indent=2))


def _read(paths: list[Path]) -> list[NDArray[np.uint8]]:
    pictures = []
    for path in paths:
        try:
            pictures.append(read_picture(path))
        except CaptureError:
            continue
    return pictures


def _report(results: list[tuple[NDArray[np.uint8], Outcome]]) -> dict[str, object]:
    outcomes = [outcome for _, outcome in results]
    measured = [outcome.measured for outcome in outcomes if outcome.measured is not None]
    stages = {stage: None for outcome in outcomes for stage in outcome.timings_ms}
    return {
        "pictures": len(outcomes),
        "face_in_the_middle": sum(_in_the_middle(picture, outcome) for picture, outcome in results) / len(results),
        "failure_to_acquire": {
            "verification": _refused(outcomes, VERIFICATION),
            "enrolment": _refused(outcomes, ENROLMENT),
        },
        "stage_ms": {stage: _milliseconds(outcomes, stage) for stage in stages},
        "percentiles": list(PERCENTILES),
        "measures": {
            name: [round(float(v), 3) for v in np.percentile([getattr(m, name) for m in measured], PERCENTILES)]
            for name in MEASURES
        },
    }


def _in_the_middle(picture: NDArray[np.uint8], outcome: Outcome) -> bool:
    if outcome.detection is None:
        return False
    middle = np.array(picture.shape[1::-1]) / 2
    return bool(np.linalg.norm(outcome.detection.centre_px - middle) < outcome.detection.width_px / 2)


def _refused(outcomes: list[Outcome], policy: QualityPolicy) -> dict[str, object]:
    reasons = [o.reason if o.measured is None else policy.refusal(o.measured) for o in outcomes]
    counts = Counter(str(reason) for reason in reasons if reason is not None)
    return {"share": round(sum(counts.values()) / len(outcomes), 4), "reasons": dict(counts)}


def _milliseconds(outcomes: list[Outcome], stage: str) -> dict[str, float]:
    values = [outcome.timings_ms[stage] for outcome in outcomes if stage in outcome.timings_ms]
    return {"p50": round(float(np.median(values)), 2), "p99": round(float(np.percentile(values, 99)), 2)}


if __name__ == "__main__":
    main()
