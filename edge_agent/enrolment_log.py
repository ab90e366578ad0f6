"""Which pictures of a folder were enrolled, so that a run that was broken off can go on."""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

from duetface.errors import ConfigError
from duetface.identity import write_private

Key = tuple[str, str]  # subject id, SHA-256 of the picture in hex


class EnrolmentLog:
    """One JSON object a line: subject, SHA-256 of the picture, template id.

    It holds no picture, only its owner may read it, and what was deleted from the gallery goes from here as well.
    One log is for one realm: name its file by the realm's root certificate, not by a name that can be given again.
    """

    def __init__(self, path: Path) -> None:
        """path: the log; need not exist.  A line that was cut off by a crash is passed over."""
        self._path = path
        self._done: dict[Key, str] = {}
        for line in _lines(path):
            try:
                entry = json.loads(line)
                self._done[entry["subject_id"], entry["picture_sha256"]] = entry["template_id"]
            except (ValueError, KeyError, TypeError):
                continue

    def template_of(self, subject_id: str, picture: Path) -> str:
        """The template that was made of this very picture for this subject, or empty."""
        return self._done.get((subject_id, _digest(picture)), "")

    def knows(self, subject_id: str) -> bool:
        """Whether any picture of this subject stands here."""
        return any(subject == subject_id for subject, _ in self._done)

    def write(self, subject_id: str, picture: Path, template_id: str) -> None:
        """Remember that a template was made.  Raises ConfigError that names the file."""
        key = subject_id, _digest(picture)
        self._done[key] = template_id
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_line(key, template_id))
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror or error}") from error

    def forget(self, subject_id: str) -> None:
        """Drop every line of a subject that was deleted."""
        self._keep(lambda key, _: key[0] != subject_id)

    def forget_template(self, template_id: str) -> None:
        """Drop the line of a template that was deleted."""
        self._keep(lambda _, template: template != template_id)

    def keep_only(self, subject_id: str, template_ids: Collection[str]) -> None:
        """Drop the lines of a subject whose templates the service no longer holds."""
        self._keep(lambda key, template: key[0] != subject_id or template in template_ids)

    def _keep(self, wanted: Callable[[Key, str], bool]) -> None:
        """Write the log anew without what is not wanted; an empty one is removed."""
        kept = {key: template for key, template in self._done.items() if wanted(key, template)}
        if kept == self._done:
            return
        self._done = kept
        if kept:
            write_private(self._path, "".join(_line(*entry) for entry in kept.items()).encode())
        else:
            self._path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _line(key: Key, template_id: str) -> str:
    subject_id, digest = key
    return json.dumps({"subject_id": subject_id, "picture_sha256": digest, "template_id": template_id}) + "\n"


def _digest(picture: Path) -> str:
    try:
        return hashlib.sha256(picture.read_bytes()).hexdigest()
    except OSError:
        return ""
