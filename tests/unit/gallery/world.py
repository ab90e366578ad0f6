"""A realm to test with: fixed keys, a clock that stands until it is moved, and embeddings of invented people."""

import contextlib
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from gallery.gallery import Gallery, GalleryOptions
from gallery.index import Vectors
from gallery.keys import HeldKeys
from gallery.records import Actor, AddedTemplate, Consent

OPERATOR = Actor("hq", "operator", "alma", "ab" * 32)
SPACE = bytes(range(32))
OTHER_SPACE = bytes(32)
# Smaller than the networks': the rotation matrix of 512 takes longer to make than most tests.
DIMENSION = 128
OPTIONS = GalleryOptions(dimension=DIMENSION)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEYS = HeldKeys({1: b"r" * 32}, {1: b"s" * 32})


@dataclass
class StandingClock:
    """A clock that tells `now` until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        """See gallery.records.Clock."""
        return self.now

    def move(self, **amount: float) -> None:
        """Move on by a timedelta's arguments."""
        self.now += timedelta(**amount)


def person(number: int, capture: int = 0, cosine: float = 0.6, dimension: int = DIMENSION) -> Vectors:
    """(D,) unit embedding of one capture of an invented person; two captures have about this cosine."""
    centre = np.random.default_rng([number, dimension]).normal(size=dimension)
    noise = np.random.default_rng([number, dimension, capture + 1]).normal(size=dimension)
    centre, noise = centre / np.linalg.norm(centre), noise / np.linalg.norm(noise)
    vector = np.sqrt(cosine) * centre + np.sqrt(1 - cosine) * noise
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def consent(clock: StandingClock, days: float | None = None) -> Consent:
    """A consent given now; days None: without end."""
    end = None if days is None else clock.now + timedelta(days=days)
    return Consent("door access", "2026-01", clock.now, end)


@dataclass
class World:
    """A gallery on a SQLite file of a test's own folder, and shorthand for what tests do with it."""

    folder: Path
    clock: StandingClock = field(default_factory=StandingClock)
    keys: HeldKeys = KEYS
    options: GalleryOptions = OPTIONS
    url: str = ""

    def __post_init__(self) -> None:
        """Make the store."""
        self.url = self.url or str(self.path)
        self.gallery = Gallery.create(self.url, "hq", self.keys, self.clock, self.options)

    @property
    def path(self) -> Path:
        """The database file."""
        return self.folder / "gallery.db"

    def reopen(self, keys: HeldKeys | None = None) -> Gallery:
        """Close the gallery and open it anew, as a restarted service does."""
        self.gallery.close()
        self.keys = keys or self.keys
        self.gallery = Gallery.open(self.url, "hq", self.keys, self.clock, self.options)
        return self.gallery

    def enrol(self, subject_id: str, number: int, captures: int = 1, partition: str = "") -> list[AddedTemplate]:
        """Create a subject and add captures of one person."""
        self.gallery.create_subject(subject_id, f"label of {subject_id}", consent(self.clock), OPERATOR, partition)
        return [self.add(subject_id, number, capture, partition) for capture in range(captures)]

    def add(self, subject_id: str, number: int, capture: int, partition: str = "") -> AddedTemplate:
        """Add one capture."""
        return self.gallery.add_template(subject_id, SPACE, person(number, capture), 0.5, "door-1", OPERATOR, partition)

    def sqlite(self, statement: str) -> list[tuple[object, ...]]:
        """Look into (or tamper with) the file behind the gallery's back."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement).fetchall()


def answers(gallery: Gallery) -> dict[str, float]:
    """Who is found for three people, and how alike."""
    found = [gallery.identify(person(number, 5), SPACE)[0] for number in (1, 2, 3)]
    return {match.subject_id: match.cosine_similarity for match in found}


def three_people(world: World) -> None:
    """Alice, bob and carl with two captures each."""
    for number, name in enumerate(("alice", "bob", "carl"), start=1):
        world.enrol(name, number, captures=2)
