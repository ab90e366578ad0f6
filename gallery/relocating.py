"""Going on in the database that a realm was moved to, inside a process that served it from the old one.

Indexes stay as they are, since feed and numbers are the same there; only statements go elsewhere from then on.
"""

from sqlalchemy import Row, select

from duetface.errors import GalleryError
from gallery.migrate import migrate
from gallery.realm import Realm, find_realm
from gallery.schema import audit, realms
from gallery.store import SqlStore


def moved_to(realm: Realm) -> str | None:
    """The name of the database that the realm was moved to, or None while it is at home."""
    return _row(realm).moved_to or None


def continue_at(realm: Realm, database_url: str) -> None:
    """Go on there; searches that have begun end where they began.

    Raises GalleryError if that place does not go on where this one ended.
    """
    left = _row(realm)
    store = SqlStore(database_url)
    try:
        migrate(store, create=False)
        _require_sequel(realm, left, store)
    except BaseException:
        store.close()
        raise
    realm.store.continue_as(store)


def _require_sequel(realm: Realm, left: Row[tuple[object, ...]], store: SqlStore) -> None:
    with store.reading() as connection:
        found = find_realm(store, connection, realm.name)
        if found is not None and found != realm.realm_id:
            raise GalleryError(f"{store.name} numbers the realm anew: start the service again")
        last = connection.execute(
            select(audit.c.own_digest).where(audit.c.realm_id == found, audit.c.audit_id == left.audit_id)
        ).scalar()
    if found is None or (left.audit_id and last != left.audit_digest):
        raise GalleryError(f"{store.name} does not go on where {realm.store.name} ended: name {left.moved_to}")


def _row(realm: Realm) -> Row[tuple[object, ...]]:
    with realm.store.reading() as connection:
        return connection.execute(select(realms).where(realms.c.realm_id == realm.realm_id)).one()
