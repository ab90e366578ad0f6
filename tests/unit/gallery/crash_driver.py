"""Kills enrolling processes at random instants and looks at what is left: `python -m ... FOLDER ROUNDS SEED`.

Each round forks a child that changes the gallery and writes every acknowledged change to a pipe, kills it by
SIGKILL, opens the gallery in another child, and compares.  Prints one JSON line; exits 1 at the first loss.
A program of its own, since forking is safe only before any thread was started.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from gallery.gallery import Gallery, GalleryOptions
from tests.unit.gallery.world import KEYS, OPERATOR, SPACE, StandingClock, consent, person

DIMENSION = 32
CLOCK = StandingClock()


def open_gallery(path: Path, *, create: bool = False) -> Gallery:
    """The gallery under test."""
    opener = Gallery.create if create else Gallery.open
    return opener(str(path), "hq", KEYS, CLOCK, GalleryOptions(dimension=DIMENSION))


def change_until_killed(path: Path, start: int, acknowledgements: int) -> None:
    """Enrol for ever, erase every third; each line on the pipe is a change whose call has returned."""
    gallery = open_gallery(path)
    os.write(acknowledgements, b"open\n")
    for number in range(start, start + 10**6):
        name = f"s{number}"
        gallery.create_subject(name, "", consent(CLOCK), OPERATOR)
        os.write(acknowledgements, f"+ {name} 0\n".encode())
        for captures in (1, 2):
            vector = person(number, captures, dimension=DIMENSION)
            gallery.add_template(name, SPACE, vector, 0.5, "d", OPERATOR)
            os.write(acknowledgements, f"+ {name} {captures}\n".encode())
        if number % 3 == 0:
            gallery.delete_subject(name, OPERATOR)
            os.write(acknowledgements, f"- {name} 0\n".encode())


def in_child(work: object) -> int:
    """Run a function in a forked child; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(1)
    return child


def check(path: Path, acknowledged: dict[str, int | None]) -> None:
    """Every acknowledged change is there; at most the one in flight besides; index, feed and audit agree."""
    gallery = open_gallery(path)
    stored = {record.subject_id: record.template_count for record in gallery.list_subjects(limit=10**6)}
    surprises = []
    for name, captures in acknowledged.items():
        if captures is None:
            assert name not in stored, f"{name} was erased and is back"
        elif name not in stored:
            surprises.append(name)  # its erasure may have been in flight
        elif stored[name] != captures:
            assert stored[name] == captures + 1, f"{name} lost templates: {stored[name]} of {captures}"
            surprises.append(name)
    surprises += [name for name in stored if name not in acknowledged]
    assert len(surprises) <= 1, f"more than one change in flight: {surprises}"
    assert all(int(name[1:]) % 3 == 0 for name in surprises if name in acknowledged and name not in stored)
    revisions = [change.revision for change in gallery.changes(limit=10**6)]
    assert revisions == list(range(1, gallery.revision + 1))
    assert gallery.verify_audit() == gallery.revision
    assert gallery.statistics().templates == sum(stored.values())
    for name in list(stored)[-3:]:
        if stored[name]:
            probe = person(int(name[1:]), 1, dimension=DIMENSION)
            assert gallery.identify(probe, SPACE)[0].subject_id == name
    # What was in flight is decided now; later rounds must find it as it is.
    os._exit(0)


def settle(path: Path) -> dict[str, int | None]:
    """What is stored, in a process of its own, as the start of the next round."""
    read, write = os.pipe()

    def work() -> None:
        gallery = open_gallery(path)
        stored = {record.subject_id: record.template_count for record in gallery.list_subjects(limit=10**6)}
        os.write(write, json.dumps(stored).encode())
        os._exit(0)

    child = in_child(work)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        stored: dict[str, int | None] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return stored


def one_round(path: Path, acknowledged: dict[str, int | None], start: int, instants: random.Random) -> int:
    """Kill at a random instant while changes are made, or in one of ten rounds while the gallery opens.

    Returns how many changes were acknowledged in it.
    """
    read, write = os.pipe()
    child = in_child(lambda: change_until_killed(path, start, write))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        if instants.random() < 0.9:
            pipe.readline()
        time.sleep(instants.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines = [line for line in pipe.read().decode().splitlines() if line != "open"]
    for line in lines:
        verb, name, captures = line.split(" ")
        acknowledged[name] = int(captures) if verb == "+" else None
    _, status = os.waitpid(in_child(lambda: check(path, acknowledged)), 0)
    if status != 0:
        sys.exit(1)
    return len(lines)


def main(folder: str, rounds: str, seed: str) -> None:
    """See the module."""
    path, instants = Path(folder) / "gallery.db", random.Random(int(seed))
    os.waitpid(in_child(lambda: open_gallery(path, create=True) and os._exit(0)), 0)
    changes = 0
    for number in range(int(rounds)):
        acknowledged = settle(path)
        changes += one_round(path, acknowledged, 1 + number * 10**4, instants)
    sys.stdout.write(json.dumps({"kills": int(rounds), "acknowledged_changes": changes, "lost": 0}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
