"""Naming another database in config.toml of a state folder, with every other line left as it is."""

import json
import os
import re
import tomllib
from pathlib import Path

from duetface.errors import ConfigError
from duetface.identity import write_private

_DATABASE = re.compile(r"^(\[storage\]\n(?:(?!\[).*\n)*?)database_url *=.*$", re.MULTILINE)
_STORAGE = re.compile(r"^\[storage\]$", re.MULTILINE)


def check_database_url(folder: Path, url: str) -> None:
    """Raises ConfigError unless `name_database` can write this URL into config.toml."""
    path = folder / "config.toml"
    if not os.access(path, os.W_OK) or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path} cannot be written: run this as the service's user")
    _with_database(path, url)


def name_database(folder: Path, url: str) -> None:
    """Write the gallery's database into config.toml; every other line stays as it is."""
    path = folder / "config.toml"
    write_private(path, _with_database(path, url).encode())


def _with_database(path: Path, url: str) -> str:
    text = path.read_text(encoding="utf-8")
    line = f"database_url = {json.dumps(url)}"
    if _DATABASE.search(text):
        text = _DATABASE.sub(lambda match: match[1] + line, text, count=1)
    elif _STORAGE.search(text):
        text = _STORAGE.sub(lambda match: f"{match[0]}\n{line}", text, count=1)
    else:
        text = f"{text.rstrip()}\n\n[storage]\n{line}\n"
    try:
        written = tomllib.loads(text)["storage"]["database_url"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        written = None
    if written != url:
        raise ConfigError(f"{path}: storage.database_url cannot be set here: write it as a line of its own first")
    return text
