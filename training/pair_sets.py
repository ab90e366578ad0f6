"""Verification sets: a folder in LFW's form, or one of InsightFace's .bin files (LFW, CFP-FP, AgeDB-30, ...)."""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duetface.errors import ConfigError
from training.datasets import CROP, read_pairs
from training.scores import Folds

BIN_FOLDS = 10  # InsightFace's verification.py: ten contiguous folds


@dataclass(frozen=True)
class PairSet:
    """crops: (112, 112, 3) uint8 RGB by picture name.  folds: of (name, name, same person).  missing: left out."""

    name: str
    crops: Mapping[str, NDArray[np.uint8]]
    folds: Folds
    missing: int = 0

    @property
    def pairs(self) -> int:
        """Over all folds."""
        return sum(map(len, self.folds))


def read_pair_set(path: Path) -> PairSet:
    """A folder with pairs.txt and aligned_112.zip, or a .bin file. Raises ConfigError naming what is wrong."""
    if path.suffix == ".bin":
        return read_bin(path)
    for name in ("pairs.txt", "aligned_112.zip"):
        if not (path / name).is_file():
            raise ConfigError(f"{path / name} is missing: name a folder that holds it, or one of InsightFace's .bin")
    try:
        crops, folds = read_pairs(path)
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{path} is not a set in LFW's form: {error}") from error
    kept = [[pair for pair in fold if pair[0] in crops and pair[1] in crops] for fold in folds]
    missing = sum(map(len, folds)) - sum(map(len, kept))
    if not all(kept):
        raise ConfigError(
            f"{path}: a fold of pairs.txt has no picture in aligned_112.zip; the two do not belong together"
        )
    return PairSet(path.name, crops, kept, missing)


def read_bin(path: Path) -> PairSet:
    """InsightFace's pickle of (encoded pictures, is-same flags), two pictures a pair.

    Names are numbers: the file tells no people. Pairs of a picture that cannot be decoded are left out and counted.
    """
    pictures, same = _unpickled(path)
    crops = {}
    for i, coded in enumerate(pictures):
        crop = _decoded(coded)
        if crop is not None:
            crops[f"{i:06d}"] = crop
    pairs = [(f"{2 * i:06d}", f"{2 * i + 1:06d}", kind) for i, kind in enumerate(same)]
    kept = [pair for pair in pairs if pair[0] in crops and pair[1] in crops]
    if len(kept) < BIN_FOLDS:
        raise ConfigError(f"{path}: {len(kept)} pairs of readable 112 x 112 pictures, expected {BIN_FOLDS} or more")
    edges = np.linspace(0, len(kept), BIN_FOLDS + 1).astype(int)
    folds = [kept[start:stop] for start, stop in itertools.pairwise(edges)]
    return PairSet(path.stem, crops, folds, len(pairs) - len(kept))


class _PlainUnpickler(pickle.Unpickler):
    """Bytes, lists, flags and NumPy arrays; a pickle may otherwise call any function of this machine."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that such arrays need."""
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _plain_dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray, name)  # type: ignore[attr-defined]  # where NumPy 2 keeps them
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return _latin_1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _plain_dtype(name: Any, *_: Any) -> np.dtype[Any]:
    dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
    if dtype.kind not in "biu":
        raise pickle.UnpicklingError(f"it holds an array of {dtype}")
    return dtype


def _latin_1(text: str, _encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _unpickled(path: Path) -> tuple[list[Any], list[bool]]:
    try:
        content = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pictures, same = content
        flags = [bool(flag) for flag in same]
        pictures = list(pictures)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise ConfigError(f"{path} is not one of InsightFace's verification sets: {error}") from error
    if len(pictures) != 2 * len(flags):
        raise ConfigError(f"{path}: {len(pictures)} pictures for {len(flags)} pairs, expected two a pair")
    return pictures, flags


def _decoded(coded: Any) -> NDArray[np.uint8] | None:
    """(112, 112, 3) uint8 RGB of an encoded picture; None for anything else."""
    if not isinstance(coded, bytes | np.ndarray) or not len(coded):
        return None
    raw = np.frombuffer(coded, np.uint8) if isinstance(coded, bytes) else np.asarray(coded, np.uint8).reshape(-1)
    bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    if bgr is None or bgr.shape != (CROP, CROP, 3):
        return None
    return np.ascontiguousarray(bgr[..., ::-1])
