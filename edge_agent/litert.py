"""Open the detector files by LiteRT: digests checked, one thread, a quiet terminal."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from duetface.errors import ModelError

DETECTOR_FOLDER = "detector"
REMEDY = "install duetface again or restore the file from the release"


class LiteRtModel:
    """One float32 model with one image input (1, H, W, 3); not safe for two threads at once."""

    def __init__(self, path: Path, interpreter: Interpreter) -> None:
        self.path = path
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]
        self.input_height, self.input_width = (int(side) for side in interpreter.get_input_details()[0]["shape"][1:3])

    @classmethod
    def load(cls, models_root: Path, role: str, threads: int = 1) -> "LiteRtModel":
        """Open the model that models/detector/manifest.json names for `role`.

        Raises ModelError, naming file and remedy, when it is missing, altered or unreadable.
        """
        folder = models_root / DETECTOR_FOLDER
        entry = _manifest_entry(folder, role)
        path = folder / str(entry["file"])
        content = _verified_bytes(path, str(entry["sha256"]))
        try:
            with _quiet_native_stderr():
                interpreter = Interpreter(model_content=content, num_threads=threads)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: LiteRT cannot read it ({error}); {REMEDY}") from error
        return cls(path, interpreter)

    def run(self, image_float32_nhwc: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the output tensors, in the file's order, for one (1, H, W, 3) image."""
        self._interpreter.set_tensor(self._input, image_float32_nhwc)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def _manifest_entry(folder: Path, role: str) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["models"][role]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no readable entry for {role!r} ({error}); {REMEDY}") from error
    return entry


def _verified_bytes(path: Path, expected_sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    got_sha256 = hashlib.sha256(content).hexdigest()
    if got_sha256 != expected_sha256:
        raise ModelError(f"{path}: SHA-256 is {got_sha256[:16]}…, expected {expected_sha256[:16]}…; {REMEDY}")
    return content


@contextmanager
def _quiet_native_stderr() -> Iterator[None]:
    """Keep LiteRT's INFO lines, which C++ writes straight to descriptor 2, off the terminal.

    No setting of LiteRT 2.3 turns them off (TF_CPP_MIN_LOG_LEVEL does not reach them).
    What was caught is written out again if the body fails, so a real complaint is not lost.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            caught.seek(0)
            os.write(2, caught.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
