"""Which network the service runs, and what it must say about it."""

from dataclasses import dataclass
from typing import Protocol

from duetface.spec import SplitSpec
from recognition_service.batcher import FaceEmbedder
from recognition_service.decision import OperatingPoint


class Thresholds(Protocol):
    """A calibration: which cosine similarity keeps impostors of this network at a false match rate."""

    def threshold_at(self, fmr: float) -> float:
        """Raises ConfigError if the sample is too small to know it."""
        ...

    def interval(self, fmr: float) -> tuple[float, float]:
        """95 % interval of the true FMR at `threshold_at(fmr)`: how much the sample lets us claim."""
        ...


@dataclass(frozen=True)
class Network:
    """A server network ready to run.

    split: whose faces it reads.  space_digest: 32 bytes, names the templates it makes.
    calibration: of this very network.  licence: the terms of its weights, which are not those of the code.
    """

    embedder: FaceEmbedder
    split: SplitSpec
    space_digest: bytes
    space_name: str
    calibration: Thresholds
    licence: str

    def operating_point(self, target_fmr: float) -> OperatingPoint:
        """The threshold at an FMR.  Raises ConfigError if the calibration does not reach it."""
        return OperatingPoint(target_fmr, self.calibration.threshold_at(target_fmr))
