"""One realm of a store with its secrets: opened only when the keys at hand are the ones it was made with."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select

from duetface.errors import GalleryError, OverloadedError
from gallery.keys import KINDS, KeyKind, KeyProvider
from gallery.ledger import GENESIS, Ledger, to_us
from gallery.records import Clock
from gallery.schema import realms, secrets, subject_keys, templates
from gallery.store import SqlStore
from gallery.vault import Vault
from gallery.wakeup import announce

_IN_USE: dict[KeyKind, ColumnElement[int]] = {
    "realm": subject_keys.c.realm_key_version,
    "rotation": templates.c.rotation_version,
}


@dataclass(frozen=True)
class Writing:
    """One write transaction: what the statements of a change need.  All of it commits, or nothing."""

    connection: Connection
    realm_id: int
    vault: Vault
    ledger: Ledger


@dataclass(frozen=True)
class Realm:
    """A realm that has been opened."""

    realm_id: int
    name: str
    store: SqlStore
    vault: Vault
    clock: Clock

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A write transaction that holds the realm's lock; see SqlStore.writing."""
        with self.store.writing() as connection:
            ledger = Ledger(connection, self.realm_id, self.clock())
            before = ledger.revision
            yield Writing(connection, self.realm_id, self.vault, ledger)
            if ledger.revision != before:
                announce(self.store, connection)

    def adopt_secrets(self, *, begin: bool = False) -> None:
        """Use the newest secrets that are in use, after checking each version against what the store was made with.

        begin: those that are there and nobody has used yet are in use from now on, for every process of the realm.
        Raises GalleryError for a wrong key, or a missing version that stored rows still need.
        """
        with self.store.writing() as connection:
            in_use = _check_and_record(self.store, connection, self.realm_id, self.vault, self.now_us(), begin=begin)
        self.vault.adopt(in_use)

    def follow_secrets(self) -> None:
        """Adopt what another process has begun to use; a version that merely lies there is left alone."""
        unadopted = self.vault.unadopted()
        if not any(unadopted.values()):
            return
        with self.store.reading() as connection:
            in_use = {kind: _versions_in_use(connection, self.realm_id, kind) for kind in KINDS}
        if any(unadopted[kind] & in_use[kind] for kind in KINDS):
            self.adopt_secrets()

    def revision(self, connection: Connection) -> int:
        """The newest committed revision that this transaction sees."""
        return revision_of(connection, self.realm_id)

    def now_us(self) -> int:
        """The present, as the store writes it."""
        return to_us(self.clock())


def revision_of(connection: Connection, realm_id: int) -> int:
    """The newest committed revision of a realm that this transaction sees."""
    return int(connection.execute(select(realms.c.revision).where(realms.c.realm_id == realm_id)).scalar_one())


def not_arrived(revision: int) -> OverloadedError:
    """What a reader is told who asks for a revision that has not been committed where this process reads."""
    return OverloadedError(f"revision {revision} has not arrived here yet: try again", retry_after_s=1.0)


def open_realm(store: SqlStore, name: str, keys: KeyProvider, clock: Clock, *, dimension: int, create: bool) -> Realm:
    """Find the realm, or make it if `create`, and check every secret.

    Raises GalleryError for an unknown realm, a wrong key, or a missing version that stored rows still need.
    """
    vault = Vault(name, keys, dimension)
    with store.writing() as connection:
        realm_id = find_realm(store, connection, name)
        if realm_id is None:
            if not create:
                raise GalleryError(f"{store.name} has no realm of this name: check the configuration's realm")
            realm_id = _insert_realm(connection, name, to_us(clock()))
        in_use = _check_and_record(store, connection, realm_id, vault, to_us(clock()), begin=False)
    vault.adopt(in_use)
    realm = Realm(realm_id, name, store, vault, clock)
    vault.learn_by(realm.adopt_secrets)
    return realm


def find_realm(store: SqlStore, connection: Connection, name: str) -> int | None:
    """The number of a realm that is at home in this database, or None.

    Raises GalleryError for one that has moved away, or has not arrived as a whole.
    """
    row = connection.execute(select(realms).where(realms.c.name == name)).first()
    if row is None:
        return None
    if row.moved_to is not None:
        raise GalleryError(f"{store.name}: this realm was moved to {row.moved_to}: set storage.database_url to that")
    if row.arriving_from is not None:
        raise GalleryError(
            f"{store.name}: this realm has not arrived as a whole from {row.arriving_from}: "
            "run `duetface gallery move` there until it says that it is done"
        )
    return int(row.realm_id)


def _insert_realm(connection: Connection, name: str, now_us: int) -> int:
    values = {"name": name, "created_at_us": now_us, "revision": 0, "audit_id": 0, "audit_digest": GENESIS}
    made = connection.execute(insert(realms).values(values)).inserted_primary_key
    return int(made[0]) if made is not None else 0


def _check_and_record(
    store: SqlStore, connection: Connection, realm_id: int, vault: Vault, now_us: int, *, begin: bool
) -> dict[KeyKind, set[int]]:
    """Check every version; record new ones where a rotation begins, or none that is there was ever used.

    Returns those in use.
    """
    for kind, in_use in _IN_USE.items():
        checks = {version: vault.check_value(kind, version) for version in vault.versions(kind)}
        _check_secrets(store, connection, realm_id, kind, checks, in_use)
        if begin or not checks.keys() & _versions_in_use(connection, realm_id, kind):
            _record_new(connection, realm_id, kind, checks, now_us)
    return {kind: _versions_in_use(connection, realm_id, kind) for kind in KINDS}


def _versions_in_use(connection: Connection, realm_id: int, kind: KeyKind) -> set[int]:
    statement = select(secrets.c.version).where(secrets.c.realm_id == realm_id, secrets.c.kind == kind)
    return set(connection.execute(statement).scalars())


def _check_secrets(
    store: SqlStore,
    connection: Connection,
    realm_id: int,
    kind: str,
    checks: dict[int, bytes],
    in_use: ColumnElement[int],
) -> None:
    rows = connection.execute(select(secrets).where(secrets.c.realm_id == realm_id, secrets.c.kind == kind))
    for row in rows.all():
        if row.version in checks:
            if not hmac.compare_digest(checks[row.version], row.check_value):
                raise GalleryError(
                    f"{store.name} was made with another {kind} key (version {row.version}): "
                    "put the right key file back; the one that is there opens nothing"
                )
        elif _uses(connection, realm_id, in_use, row.version):
            raise GalleryError(
                f"{store.name} holds rows under {kind} key version {row.version}, whose key file is missing: "
                "restore it from your back-up"
            )


def _uses(connection: Connection, realm_id: int, column: ColumnElement[int], version: int) -> bool:
    table = subject_keys if column is subject_keys.c.realm_key_version else templates
    statement = select(column).where(table.c.realm_id == realm_id, column == version).limit(1)
    return connection.execute(statement).first() is not None


def _record_new(connection: Connection, realm_id: int, kind: KeyKind, checks: dict[int, bytes], now_us: int) -> None:
    for version in sorted(checks.keys() - _versions_in_use(connection, realm_id, kind)):
        values = {"realm_id": realm_id, "kind": kind, "version": version, "created_at_us": now_us}
        connection.execute(insert(secrets).values(values | {"check_value": checks[version]}))
