"""Saving a view's indexes to a sealed snapshot, and starting from one."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from duetface.errors import ConfigError, GalleryError
from gallery import snapshot
from gallery.realm import Realm
from gallery.roster import Roster
from gallery.schema import audit
from gallery.view import Space, SpaceKey, View

logger = logging.getLogger(__name__)

_PURPOSE = "index snapshots"


def save(realm: Realm, view: View, path: Path) -> int:
    """Write the indexes as they are now; returns the revision they have followed to.

    Changes wait while the indexes are copied, searches do not.  Raises GalleryError, see snapshot.write.
    """
    headers: list[snapshot.Header] = []

    def collect() -> snapshot.Content:
        content = _content(realm, view)
        headers.append(content.header)
        return content

    snapshot.write(path, collect)
    return headers[0].revision


def _content(realm: Realm, view: View) -> snapshot.Content:
    version = realm.vault.realm_key_version
    with view.standing() as (revision, spaces):
        indexes = {key: space.index.snapshot() for key, space in spaces.items()}
        rosters = {key: space.roster.to_bytes() for key, space in spaces.items()}

    def parts() -> Iterator[bytes]:
        for key in list(indexes):
            yield indexes.pop(key)  # a sealed index need not stay in memory twice
            yield rosters[key]

    header = snapshot.Header(
        realm=realm.name,
        realm_key_version=version,
        revision=revision,
        history=_history(realm, revision),
        names=[json.dumps([k.partition, k.space_digest.hex(), k.rotation_version, p]) for k in spaces for p in "ir"],
        lengths=[len(part) for key in spaces for part in (indexes[key], rosters[key])],
    )
    return snapshot.Content(realm.vault.derive(_PURPOSE, version), header, parts())


def load(realm: Realm, view: View, path: Path) -> bool:
    """Fill an empty view from a snapshot; returns False, with a warning, if it cannot be used.

    Then the view loads everything from the store, which is the truth.
    """
    if not path.exists():
        return False
    try:
        _adopt(realm, view, path)
    except (GalleryError, ConfigError, OSError) as error:
        logger.warning("snapshot refused: loading from the store", extra={"file": str(path), "why": str(error)})
        return False
    return True


def opened(realm: Realm, path: Path) -> tuple[snapshot.Header, list[bytes]]:
    """What a snapshot holds; raises GalleryError or ConfigError for a damaged one, or one under another key."""
    version = snapshot.read_header(path).realm_key_version
    return snapshot.read(path, realm.vault.derive(_PURPOSE, version))


def _adopt(realm: Realm, view: View, path: Path) -> None:
    header, parts = opened(realm, path)
    if header.realm != realm.name:
        raise GalleryError(f"{path} is a snapshot of another realm")
    if header.history != _history(realm, header.revision):
        raise GalleryError(f"{path} continues another history: the database was restored from an older copy")
    spaces: dict[SpaceKey, Space] = {}
    for place in range(0, len(parts), 2):
        partition, digest, rotation_version, _ = json.loads(header.names[place])
        key = SpaceKey(partition, bytes.fromhex(digest), rotation_version)
        space = view.new_space(key)
        space.index.restore(parts[place])
        parts[place] = b""  # the index has its own copy
        roster = Roster.from_bytes(parts[place + 1])
        spaces[key] = Space(space.index, roster)
    view.adopt(header.revision, spaces)


def _history(realm: Realm, revision: int) -> str:
    """The audit digest of the change that has this revision: two histories that differ anywhere before differ in it."""
    with realm.store.reading() as connection:
        head = realm.revision(connection)
        if revision == 0 or revision > head:
            return f"revision {revision} of {head}" if revision else "empty"
        digest = connection.execute(
            select(audit.c.own_digest).where(audit.c.realm_id == realm.realm_id, audit.c.revision == revision)
        ).scalar_one()
    return bytes(digest).hex()
