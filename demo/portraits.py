"""Fetches the portraits of the demo and the tests from two packages, each picture checked by its SHA-256.

They are in the public domain: official portraits made by the United States' government
(`face-recognition`, folder tests/test_images) and NASA's portrait of Eileen Collins
(`scikit-image`, data/astronaut.png). The packages are only unpacked, never installed.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements" / "portraits.txt"

# SHA-256 of each picture, looked at on 24 November 2026.
PORTRAITS = {
    "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
    "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
    "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
    "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
}


def complete(folder: Path) -> bool:
    """Say whether every portrait is there with its digest."""
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in PORTRAITS.items()
    )


def download(folder: Path) -> None:
    """Have pip put the two pinned archives into `folder`, checked by their hashes."""
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--require-hashes", "--only-binary", "scikit-image"]
    command += ["--no-binary", "face-recognition", "--dest", str(folder), "--requirement", str(REQUIREMENTS)]
    subprocess.run(command, check=True)


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield base name and content of every wanted picture of a wheel or source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.namelist():
                if Path(entry).name in PORTRAITS:
                    yield Path(entry).name, wheel.read(entry)
        return
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            content = source.extractfile(member) if Path(member.name).name in PORTRAITS else None
            if content is not None:
                yield Path(member.name).name, content.read()


def unpack(archives: Path, folder: Path) -> None:
    """Write every picture whose digest is right; a picture of another content is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for archive in sorted(archives.iterdir()):
        for name, content in members(archive):
            if hashlib.sha256(content).hexdigest() == PORTRAITS[name]:
                (folder / name).write_bytes(content)


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch what is missing; return 1 when a picture is not what it should be."""
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    if not complete(folder):
        print("set-up: portraits", flush=True)
        with tempfile.TemporaryDirectory() as archives:
            download(Path(archives))
            unpack(Path(archives), folder)
    if not complete(folder):
        print(f"{folder}: a portrait is missing or has another SHA-256 than demo/portraits.py says", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
