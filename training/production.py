"""Crops through the production path: device encoder, packed wire bytes and back, service embedder.

Figures that are published, and thresholds that are shipped, come from here and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duetface.codec import decode_plane, encode_plane
from duetface.types import AlignedFace, ProtectedFace
from edge_agent.client_network import Encoder
from edge_agent.landmarks import FaceMesh, hull
from recognition_service.embedder import Embedder

BATCH = 32
MARGIN_PX = 14  # the mesh expects some room around the face; a crop has none
NO_FACE = -2.0  # logit of the mesh below which its points mean nothing: then no region is preferred


class CropHull:
    """The face mesh's hull on a crop that has lost its picture: as the device finds it, but from the crop alone."""

    def __init__(self, models: Path, threads: int = 1) -> None:
        """models: the models folder."""
        self._mesh = FaceMesh.load(models, threads)

    def __call__(self, rgb_u8_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(112, 112, 3) uint8 -> (K, 2) float32 in crop pixels."""
        margin = ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0))
        mesh = self._mesh.detect(np.pad(rgb_u8_hwc, margin, mode="edge"))
        return np.asarray(hull(mesh.points_px[:, :2]) - MARGIN_PX, np.float32)


@dataclass(frozen=True)
class ProductionPath:
    """Device and service of one split and space."""

    encoder: Encoder
    embedder: Embedder
    hull: CropHull
    space: str = ""

    @property
    def label(self) -> str:
        """What the scores say of the path."""
        return f"production, space {self.space}"

    @staticmethod
    def load(models: Path, split: str, space: str, threads: int = 1) -> ProductionPath:
        """Open the shipped files; they are checked against their digests."""
        encoder = Encoder.load(models / "splits" / split, threads)
        embedder = Embedder.load(models / "spaces" / space, encoder.spec, threads)
        return ProductionPath(encoder, embedder, CropHull(models, threads), space)

    def embed(self, crops: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(N, 512) embeddings and the bytes that each face took on the wire."""
        embeddings, lengths = [], []
        for group in groups(crops, BATCH):
            messages = [self.protect(crop) for crop in group]
            lengths += [sum(map(len, message.values())) for message in messages]
            embeddings.append(self.embedder.embed([self.receive(message) for message in messages]))
        return np.concatenate(embeddings), np.array(lengths)

    def protect(self, rgb_u8_hwc: NDArray[np.uint8]) -> dict[str, bytes]:
        """What the device sends of a crop: plane name -> wire bytes."""
        face = self.encoder.encode(AlignedFace(rgb_u8_hwc, self.hull(rgb_u8_hwc)))
        return {plane.name: encode_plane(face.planes[plane.name], plane) for plane in self.encoder.spec.planes}

    def receive(self, message: dict[str, bytes]) -> ProtectedFace:
        """What the service makes of it."""
        spec = self.encoder.spec
        return ProtectedFace(
            spec.digest, {plane.name: decode_plane(message[plane.name], plane) for plane in spec.planes}
        )


def groups(crops: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    """Lists of that many, the last one shorter."""
    group: list[NDArray[np.uint8]] = []
    for crop in crops:
        group.append(crop)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
