"""A whole gallery of many people in SQLite, made in bulk: how long it takes to start from, and to change.

Rows are sealed and chained exactly as enrolments would leave them; only one transaction holds thousands of people
instead of one, since a million enrolments one by one are a million synchronisations of the disk.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from benchmarks.machine import percentiles, tell
from benchmarks.population import Population, Vectors
from benchmarks.rivals import milliseconds
from gallery.gallery import Gallery, GalleryOptions
from gallery.indexes import IndexKind, IndexSettings, index_factory
from gallery.keys import HeldKeys
from gallery.ledger import GENESIS, Entry, canonical, entry_digest, to_us
from gallery.migrate import MIGRATIONS, migrate
from gallery.realm import Realm, open_realm
from gallery.records import Actor, ChangeKind, Consent
from gallery.schema import NEVER_US, audit, changes, consents, realms, subject_keys, subjects, templates
from gallery.store import SqlStore
from gallery.vault import SubjectPlace, TemplatePlace

REALM = "bench.example"
SPACE = bytes(range(32))
KEYS = HeldKeys({1: b"r" * 32}, {1: b"s" * 32})
ACTOR = Actor(REALM, "operator", "bench", "ab" * 32)
BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIMENSION = 512
_PAUSE_S = 0.02
_PEOPLE_AT_ONCE = 8192
_LONGEST_REWRITE_S = 600


def built(folder: Path, population: Population, count: int, seed: int) -> Path:
    """The database of `count` people with a template each, made unless it is there; half of one is made anew."""
    newest = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    path = folder / f"gallery-{count}-{seed}-schema-{newest}.db"
    if path.exists():
        return path
    partial = path.with_name(path.name + ".partial")
    for suffix in ("", "-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with closing(SqlStore(str(partial), create=True)) as store:
        migrate(store, create=True)
        realm = open_realm(store, REALM, KEYS, lambda: BEGAN, dimension=DIMENSION, create=True)
        digest, done = GENESIS, 0
        for _, vectors in population.chunks(count, seed):
            for start in range(0, len(vectors), _PEOPLE_AT_ONCE):
                some = realm.vault.rotate(vectors[start : start + _PEOPLE_AT_ONCE])
                with store.writing() as connection:
                    digest = _write(connection, realm, done, some, digest)
                done += len(some)
                tell(f"people written: {done:,} of {count:,}")
        store.settle()
    partial.replace(path)
    return path


def _write(connection: Connection, realm: Realm, first: int, rotated: Vectors, digest: bytes) -> bytes:
    """Rows of people first, first + 1, ...; digest: of the audit row before; returns that of the last one."""
    rows: dict[Any, list[dict[str, Any]]] = {}
    for number, vector in enumerate(rotated, first):
        for table, row in _rows(realm, number, vector):
            rows.setdefault(table, []).append(row)
    for row in rows[audit]:
        entry = Entry(ACTOR, row["action"], row["subject_id"], revision=row["revision"], details=row["details"])
        row["previous_digest"], digest = digest, entry_digest(row["audit_id"], row["at_us"], entry, digest)
        row["own_digest"] = digest
    for table in (subjects, subject_keys, consents, templates, changes, audit):
        connection.execute(insert(table), rows[table])
    head = 2 * (first + len(rotated))
    values = {"revision": head, "audit_id": head, "audit_digest": digest}
    connection.execute(update(realms).where(realms.c.realm_id == realm.realm_id).values(values))
    return digest


def _rows(realm: Realm, number: int, vector: Vectors) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What the creation of one subject and the addition of one template write.  vector: (D,), rotated."""
    subject_key, template_id, at_us, name = 2 * number + 1, 2 * number + 2, to_us(BEGAN), person(number)
    place = SubjectPlace("", subject_key, name)
    key, sealed = realm.vault.new_subject_key(place, 1)
    of = {"realm_id": realm.realm_id, "subject_key": subject_key}
    label = realm.vault.seal_label(key, place, "")
    yield subjects, of | {"partition": "", "subject_id": name, "sealed_label": label, "created_at_us": at_us}
    versions = {"key_version": 1, "realm_key_version": sealed.realm_key_version, "sealed_key": sealed.sealed_key}
    yield subject_keys, of | versions
    term = {"purpose": "benchmark", "version": "1", "given_at_us": at_us, "expires_at_us": NEVER_US}
    yield consents, of | {"consent_id": subject_key} | term
    version = realm.vault.rotation_version
    ciphertext = realm.vault.seal_template(key, TemplatePlace("", subject_key, template_id, SPACE, 1, version), vector)
    under = {"consent_id": subject_key, "consent_given_at_us": at_us, "consent_expires_at_us": NEVER_US}
    versions = {"space_digest": SPACE, "key_version": 1, "rotation_version": version}
    capture = {"quality": 0.5, "device": "bench", "created_at_us": at_us, "ciphertext": ciphertext}
    yield templates, of | {"template_id": template_id} | under | versions | capture
    for revision, kind, template in (
        (subject_key, ChangeKind.SUBJECT_CREATED, 0),
        (template_id, ChangeKind.TEMPLATE_ADDED, template_id),
    ):
        when = {"revision": revision, "at_us": at_us}
        yield changes, of | when | {"kind": kind.value, "partition": "", "template_id": template}
        yield audit, {"realm_id": realm.realm_id, "audit_id": revision} | when | _audited(kind, name)


def _audited(kind: ChangeKind, name: str) -> dict[str, Any]:
    actor = {"actor_realm": ACTOR.realm, "actor_role": ACTOR.role, "actor_name": ACTOR.name}
    what = {"action": kind.value, "subject_id": name, "outcome": "", "reason": "", "details": canonical({})}
    return actor | {"actor_fingerprint": ACTOR.fingerprint} | what


def person(number: int) -> str:
    """The id of the person of a population's row."""
    return f"p{number:08d}"


def opened(path: Path, threads: int) -> Gallery:
    """As a service opens it, without a snapshot: everything is read, opened and indexed."""
    factory = index_factory(IndexSettings(IndexKind.FAISS_RABITQ, threads=threads))
    options = GalleryOptions(dimension=DIMENSION, index_factory=factory, templates_per_subject=10_000)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731  (a clock is a value here)
    return Gallery.open(str(path), REALM, KEYS, clock, options, lambda loaded: tell(f"templates loaded: {loaded:,}"))


def measure_start(path: Path, threads: int) -> tuple[Gallery, dict[str, Any]]:
    """The gallery, opened from SQL alone, and how long that took; the file is as warm as the machine keeps it."""
    started = time.perf_counter()
    gallery = opened(path, threads)
    seconds = time.perf_counter() - started
    count = gallery.statistics().templates
    return gallery, {
        "templates": count,
        "seconds": round(seconds, 2),
        "microseconds_a_template": round(seconds / count * 1e6, 1),
        "database_bytes": path.stat().st_size,
    }


def measure_changes(
    gallery: Gallery, folder: Path, population: Population, writes: int, probes: Vectors
) -> dict[str, Any]:
    """Templates added and removed one by one, each committed and visible: alone, and while another thread identifies.

    probes: (P, D).  What is added is taken away again; the search of the files for its bytes runs beside that, as it
    does in a service, and goes on until the process ends.
    """
    found: dict[str, Any] = {"fsync_ms": _fsyncs(folder, writes), "search_idle_ms": _idle(gallery, 2 * writes, probes)}
    name, ids = f"newcomer-{gallery.revision}", list[int]()
    newcomers = population.people(2 * writes, gallery.revision)
    gallery.create_subject(name, "", Consent("benchmark", "1", datetime.now(UTC)), ACTOR)

    def add(number: int) -> None:
        ids.append(gallery.add_template(name, SPACE, newcomers[number], 0.5, "bench", ACTOR).template_id)

    def remove(number: int) -> None:
        gallery.delete_template(ids[number], ACTOR)

    found |= _timed(gallery, probes, "add", add, writes)
    if gallery.identify(newcomers[-1], SPACE)[0].subject_id != name:
        raise SystemExit("what was added is not found: the figures would be of another thing")
    found |= _timed(gallery, probes, "remove", remove, writes)
    gallery.delete_subject(name, ACTOR)
    return found


def forget_erasures(path: Path) -> None:
    """Drop what still waits for the search of the files, which for so many people takes longer than the benchmark.

    The next run shall find the database as this one did.
    """
    with closing(sqlite3.connect(path, timeout=_LONGEST_REWRITE_S)) as connection, connection:
        connection.execute("DELETE FROM erasures")


def _idle(gallery: Gallery, count: int, probes: Vectors) -> dict[str, float | int]:
    times: list[float] = []
    with _searching(gallery, probes, times):
        while len(times) < count:
            time.sleep(_PAUSE_S)
    return percentiles(times)


def _timed(gallery: Gallery, probes: Vectors, what: str, change: Callable[[int], None], writes: int) -> dict[str, Any]:
    """Changes 0 .. writes - 1 alone, then as many while another thread identifies without pause."""
    alone, beside, searches = list[float](), list[float](), list[float]()
    for number in range(writes):
        alone.append(_one(change, number, what))
    with _searching(gallery, probes, searches):
        for number in range(writes, 2 * writes):
            beside.append(_one(change, number, what))
    return {
        f"{what}_ms": percentiles(alone),
        f"{what}_while_searching_ms": percentiles(beside),
        f"search_during_{what}_ms": percentiles(searches),
    }


def _one(change: Callable[[int], None], number: int, what: str) -> float:
    took = milliseconds(lambda: change(number))
    tell(f"{what}: {number + 1}")
    time.sleep(_PAUSE_S)
    return took


@contextmanager
def _searching(gallery: Gallery, probes: Vectors, times: list[float]) -> Iterator[None]:
    """One identification after the other in a thread, as long as the block runs; milliseconds of each into `times`."""
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            probe = probes[len(times) % len(probes)]
            times.append(milliseconds(lambda p=probe: gallery.identify(p, SPACE)))

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _fsyncs(folder: Path, count: int) -> dict[str, float | int]:
    """What the disk alone takes: one page appended and synchronised."""
    path, times = folder / "fsync.probe", list[float]()
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            times.append(milliseconds(lambda: os.fsync(file.fileno())))
    path.unlink()
    return percentiles(times)
