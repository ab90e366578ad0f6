"""Fit the weights in edge_agent/five_points.py: mesh vertices to YuNet-like five points.

    python -m training.fit_five_points --data ../shared/data > weights.txt

YuNet is an unsteady ruler at the size of these pictures: the same picture enlarged by a tenth moves
its points by 3 px of the 112 px crop.  The target is therefore its mean answer over several sizes.
Pictures of strangers and of every other known person are fitted; the rest is held out for the test.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from duetface.alignment import crop_transform, transform_points
from edge_agent.detector import FaceDetector
from edge_agent.landmarks import FaceMesh

SCALES = (1.0, 0.8, 0.9, 1.1, 1.28, 1.5, 2.0, 2.5)  # of the picture, for YuNet's mean answer
RIDGE = 300.0  # px^2: 30 deviates 0.04 px less, 3000 0.15 px more; the larger, the closer to the anatomist's points
# Where an anatomist would start: each point is drawn towards the mean of these vertices.
ANATOMY = ((33, 133, 159, 145), (263, 362, 386, 374), (4,), (61,), (291,))
VERTICES = (
    33, 133, 159, 145, 70, 105, 46, 52, 107, 98, 129, 50, 205, 61, 78, 57, 93, 234,
    263, 362, 386, 374, 300, 334, 276, 282, 336, 327, 358, 280, 425, 291, 308, 287, 323, 454,
    1, 4, 5, 195, 197, 6, 168, 0, 17, 13, 14, 2, 152, 10, 9, 8, 151, 199, 200,
)  # fmt: skip


def yunet_mean_points(bgr, near_px, yunet_file: Path):
    """Return (5, 2): YuNet's points of the face nearest to `near_px`, averaged over SCALES."""
    answers = []
    for scale in SCALES:
        sized = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        finder = cv2.FaceDetectorYN.create(str(yunet_file), "", (sized.shape[1], sized.shape[0]), 0.5, 0.3, 50)
        _, rows = finder.detect(sized)
        if rows is None:
            continue
        points = (rows[:, 4:14].reshape(-1, 5, 2) + 0.5) / scale - 0.5
        answers.append(points[np.argmin(np.linalg.norm(points.mean(axis=1) - near_px, axis=1))])
    return np.mean(answers, axis=0)


def observations(pictures: list[Path], models: Path, yunet_file: Path):
    """Return (N, V, 2) vertices and (N, 5, 2) YuNet points, both in template pixels."""
    detector, mesh = FaceDetector.load(models), FaceMesh.load(models)
    vertices, targets = [], []
    for path in pictures:
        bgr = cv2.imread(str(path))
        rgb = np.ascontiguousarray(bgr[:, :, ::-1])
        # The person a picture of LFW is about stands in its middle.
        middle = np.array([rgb.shape[1], rgb.shape[0]]) / 2
        face = min(detector.detect(rgb), key=lambda found: np.linalg.norm(found.centre_px - middle))
        reference = yunet_mean_points(bgr, face.keypoints_px[:4].mean(axis=0), yunet_file)
        to_crop = crop_transform(reference)
        vertices.append(transform_points(to_crop, mesh.place(rgb, face).points_px[list(VERTICES)]))
        targets.append(transform_points(to_crop, reference))
    return np.array(vertices, np.float64), np.array(targets, np.float64)


def anatomy():
    """Return (V, 5) weights of the plain anatomical points."""
    weights = np.zeros((len(VERTICES), 5))
    for point, vertices in enumerate(ANATOMY):
        weights[[VERTICES.index(vertex) for vertex in vertices], point] = 1.0 / len(vertices)
    return weights


def fit(vertices, targets):
    """Return (V, 5) weights, each column summing to 1."""
    centre = vertices.mean(axis=1, keepdims=True)
    inputs = (vertices - centre).transpose(0, 2, 1).reshape(-1, len(VERTICES))  # (2 N, V): x and y share weights
    outputs = (targets - centre).transpose(0, 2, 1).reshape(-1, 5)  # (2 N, 5)
    start = anatomy()
    normal = inputs.T @ inputs + RIDGE * np.eye(len(VERTICES))
    weights = start + np.linalg.solve(normal, inputs.T @ (outputs - inputs @ start))
    return weights + (1.0 - weights.sum(axis=0)) / len(VERTICES)


def rounded(weights):
    """Round to 4 decimals, keeping each sum at exactly 1 by the largest weight."""
    table = np.round(weights, 4)
    for column in table.T:
        column[np.argmax(np.abs(column))] += 1.0 - column.sum()
    return np.round(table, 4)


def main() -> None:
    """Print the table (vertex, then its weight in each of the five points) for edge_agent/five_points.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    arguments = parser.parse_args()
    root = arguments.data / "lfw_raw_dev"
    people = sorted(path for path in (root / "known").iterdir())
    fitted = sorted((root / "strangers").glob("*.jpg")) + sorted(p for d in people[::2] for p in d.glob("*.jpg"))
    found = observations(fitted, arguments.models, arguments.data / "teacher" / "yunet.onnx")
    weights = rounded(fit(*found))
    for vertex, row in zip(VERTICES, weights, strict=True):
        print(f"    ({vertex}, {', '.join(f'{weight:.4f}' for weight in row)}),")


if __name__ == "__main__":
    main()
