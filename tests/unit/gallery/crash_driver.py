"""`make chaos`: kills enrolling processes at random instants and looks at what is left.

python -m tests.unit.gallery.crash_driver [FOLDER] [--kills 200] [--seed 1] [--out benchmarks/results/chaos.json]

Each round forks a child that changes the gallery and writes every acknowledged change to a pipe, kills it by
SIGKILL, opens the gallery in another child, and compares.  Prints one JSON line; exits 1 if anything was found.
A program of its own, since forking is safe only before any thread was started.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from duetface.errors import GalleryError
from gallery.gallery import Gallery, GalleryOptions
from gallery.indexes import IndexKind, IndexSettings, index_factory
from tests.unit.gallery.world import KEYS, OPERATOR, SPACE, StandingClock, consent, person

DIMENSION = 32
CLOCK = StandingClock()
# Every so many subjects a snapshot is written, so that kills hit that as well, and starts begin from one.
SNAPSHOT_EVERY = 4
MOST_CHANGES = 40


# What a look afterwards may find, by the exit status of the child that looks.
FINDINGS = {10: "lost", 11: "half_there", 12: "index_differs"}


class Finding(Exception):
    """Something that a kill must never leave behind."""

    def __init__(self, kind: str, what: str) -> None:
        """kind: one of FINDINGS."""
        super().__init__(what)
        self.status = next(status for status, name in FINDINGS.items() if name == kind)


def require(kind: str, holds: bool, what: str) -> None:
    """Raises Finding unless it holds."""
    if not holds:
        raise Finding(kind, what)


@dataclass(frozen=True)
class Site:
    """Where the gallery under test lies, and what searches it."""

    folder: Path
    database: str
    index: IndexSettings

    def open(self, *, create: bool = False) -> Gallery:
        """As a service that starts."""
        options = GalleryOptions(
            dimension=DIMENSION,
            index_factory=index_factory(self.index),
            snapshot_path=self.folder / "gallery.snapshot" if self.index.kind in _IN_PROCESS else None,
        )
        return (Gallery.create if create else Gallery.open)(self.database, "hq", KEYS, CLOCK, options)


_IN_PROCESS = (IndexKind.FAISS_EXACT, IndexKind.FAISS_RABITQ)


def change_until_killed(site: Site, start: int, acknowledgements: int) -> None:
    """Enrol for ever, erase every third; each line on the pipe is a change whose call has returned."""
    gallery = site.open()
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
        if number % SNAPSHOT_EVERY == 0 and site.index.kind in _IN_PROCESS:
            # Refused while the bytes of a deletion are still being searched for: then there is none.
            with contextlib.suppress(GalleryError):
                gallery.maintenance.write_snapshot()


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked child; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  (whatever it is, the parent must not go on in this child)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(error.status if isinstance(error, Finding) else 1)
    return child


def check(site: Site, acknowledged: dict[str, int | None]) -> None:
    """Every acknowledged change is there; at most the one in flight besides; index, feed and audit agree."""
    gallery = site.open()
    stored = {record.subject_id: record.template_count for record in gallery.list_subjects(limit=10**6)}
    surprises = []
    for name, captures in acknowledged.items():
        if captures is None:
            require("half_there", name not in stored, f"{name} was erased and is back")
        elif name not in stored:
            surprises.append(name)  # its erasure may have been in flight
        elif stored[name] != captures:
            require("lost", stored[name] == captures + 1, f"{name} has {stored[name]} templates of {captures}")
            surprises.append(name)
    gone = [name for name in surprises if name not in stored]
    require("lost", all(int(name[1:]) % 3 == 0 for name in gone), f"{gone} were enrolled and not erased")
    surprises += [name for name in stored if name not in acknowledged]
    require("half_there", len(surprises) <= 1, f"more than one change in flight: {surprises}")
    revisions = [change.revision for change in gallery.changes(limit=10**6)]
    require("lost", revisions == list(range(1, gallery.revision + 1)), "the feed has a gap")
    require("half_there", gallery.verify_audit() == gallery.revision, "audit and feed differ")
    check_index(gallery, stored)


def check_index(gallery: Gallery, stored: dict[str, int]) -> None:
    """The index holds the store's templates and no other, and finds each of the newest by its own capture."""
    report = gallery.maintenance.check(SPACE, 1.0)
    require("half_there", report.templates == sum(stored.values()), "templates without a subject")
    require("index_differs", (report.missing, report.stale) == ((), ()), "index and store differ")
    for name in sorted(stored, key=lambda name: int(name[1:]))[-5:]:
        for captures in range(1, stored[name] + 1):
            (match,) = gallery.identify(person(int(name[1:]), captures, dimension=DIMENSION), SPACE)
            found = match.subject_id == name and match.cosine_similarity > 0.9999
            require("index_differs", found, f"{name} is not found")


def settle(site: Site) -> dict[str, int | None]:
    """What is stored, told by a process of its own, as the start of the next round."""
    read, write = os.pipe()

    def work() -> None:
        gallery = site.open()
        stored = {record.subject_id: record.template_count for record in gallery.list_subjects(limit=10**6)}
        with os.fdopen(write, "w") as pipe:
            json.dump(stored, pipe)

    child = in_child(work)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
    stored: dict[str, int | None] = json.loads(told)
    return stored


def one_round(
    site: Site, acknowledged: dict[str, int | None], start: int, instants: random.Random
) -> tuple[int, str | None]:
    """Kill somewhere in the first changes, at a random instant, or in one of ten rounds while the gallery opens.

    Returns how many changes were acknowledged in it, and what was found afterwards that must not be.
    """
    read, write = os.pipe()
    child = in_child(lambda: change_until_killed(site, start, write))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        # By what was acknowledged and not by the clock alone, or a slow machine would only ever be killed at its start.
        before = [pipe.readline() for _ in range(instants.randint(1, MOST_CHANGES) if instants.random() < 0.9 else 0)]
        time.sleep(instants.uniform(0, 0.02 if before else 0.25))
        os.kill(child, signal.SIGKILL)
        if os.WTERMSIG(os.waitpid(child, 0)[1]) != signal.SIGKILL:
            sys.exit(1)  # it ended by itself, and has said why
        told = b"".join(before) + pipe.read()
    lines = [line for line in told.decode().splitlines() if line != "open"]
    for line in lines:
        verb, name, captures = line.split(" ")
        acknowledged[name] = int(captures) if verb == "+" else None
    status = os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: check(site, acknowledged)), 0)[1])
    if status not in (0, *FINDINGS):
        sys.exit(1)  # the gallery does not even open; why was said
    return len(lines), FINDINGS.get(status)


def run(site: Site, kills: int, seed: int) -> dict[str, int | str]:
    """All rounds, and what was found in them."""
    instants = random.Random(seed)
    if os.waitpid(in_child(lambda: site.open(create=True)), 0)[1] != 0:
        sys.exit(1)
    changes, found = 0, dict.fromkeys(FINDINGS.values(), 0)
    for number in range(kills):
        acknowledged = settle(site)
        more, finding = one_round(site, acknowledged, 1 + number * 10**4, instants)
        changes += more
        if finding is not None:
            found[finding] += 1
    about = {"kills": kills, "seed": seed, "index": site.index.kind.value, "acknowledged_changes": changes}
    return {**about, **found}


def main(argv: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="for the gallery; a temporary one unless named")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="SQLAlchemy URL; a SQLite file in the folder unless named")
    parser.add_argument("--index", type=IndexKind, default=IndexKind.FAISS_RABITQ, help="kind of index")
    parser.add_argument("--index-url", default="", help="of the index's server")
    parser.add_argument("--out", type=Path, help="where the JSON goes besides")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="duetface-chaos-") as temporary:
        folder = arguments.folder or Path(temporary)
        database = arguments.database or str(folder / "gallery.db")
        report = run(
            Site(folder, database, IndexSettings(arguments.index, url=arguments.index_url)),
            arguments.kills,
            arguments.seed,
        )
    sys.stdout.write(json.dumps(report) + "\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(report[name] for name in FINDINGS.values()))


if __name__ == "__main__":
    main()
