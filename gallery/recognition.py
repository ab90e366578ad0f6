"""Comparing a probe with what is stored: one claimed subject, or all of them.

A comparison with a claimed subject reads the store itself, so that it sees everything committed, on any replica.
"""

from collections.abc import Mapping

import numpy as np

from gallery.index import Vectors
from gallery.realm import Realm, not_arrived
from gallery.records import SubjectMatch
from gallery.schema import subjects
from gallery.schema import templates as templates_table
from gallery.subjects import StoredSubject, names_of
from gallery.templates import StoredTemplate, read_templates
from gallery.vault import SubjectPlace, TemplatePlace, Vault
from gallery.view import View

# Opened templates are filled up with decoys to a multiple of this, so that the time does not tell how many there are.
_OPENED_TOGETHER = 8


class Verifier:
    """Compares a probe with one claimed subject."""

    def __init__(self, realm: Realm, dimension: int) -> None:
        """Makes the decoy that is opened where there is nothing to open."""
        self._realm = realm
        self._decoy = _decoy(realm.vault, dimension)

    def similarity(
        self, partition: str, subject_id: str, embedding: Vectors, space_digest: bytes, at_least_revision: int = 0
    ) -> float | None:
        """The best cosine over the subject's templates of the space, or None without any.

        embedding: (1, D), not rotated.  An unknown subject costs the same statements and decryptions as a known one.
        Raises OverloadedError if the store has not got to the revision yet.
        """
        stored = self._stored(partition, subject_id, space_digest, at_least_revision)
        now_us = self._realm.now_us()
        decoys = [self._decoy] * (-len(stored) % _OPENED_TOGETHER if stored else _OPENED_TOGETHER)
        # Of all versions, whoever is claimed; one that another process has just begun is learned here.
        versions = {*self._realm.vault.rotation_versions, *(template.place.rotation_version for template in stored)}
        rotated = {version: self._realm.vault.rotate(embedding, version)[0] for version in versions}
        similarities = [self._cosine(template, rotated) for template in (*stored, *decoys)]
        valid = [
            similarity
            for template, similarity in zip(stored, similarities, strict=False)
            if template.expires_at_us > now_us
        ]
        return max(valid, default=None)

    def _stored(
        self, partition: str, subject_id: str, space_digest: bytes, at_least_revision: int
    ) -> list[StoredTemplate]:
        with self._realm.store.reading() as connection:
            if at_least_revision and self._realm.revision(connection) < at_least_revision:
                raise not_arrived(at_least_revision)
            return list(
                read_templates(
                    connection,
                    self._realm.realm_id,
                    subjects.c.partition == partition,
                    subjects.c.subject_id == subject_id,
                    templates_table.c.space_digest == space_digest,
                )
            )

    def _cosine(self, template: StoredTemplate, rotated: Mapping[int, Vectors]) -> float:
        probe = rotated[template.place.rotation_version].astype(np.float64)
        return float(probe @ template.open(self._realm.vault).astype(np.float64))


def _decoy(vault: Vault, dimension: int) -> StoredTemplate:
    """A template of nobody, sealed under a key of nobody."""
    subject_place = SubjectPlace("", 0, "")
    key, sealed = vault.new_subject_key(subject_place, key_version=1)
    place = TemplatePlace("", 0, 0, bytes(32), 1, vault.rotation_version)
    unit = np.zeros(dimension, np.float32)
    unit[0] = 1
    ciphertext = vault.seal_template(key, place, unit)
    return StoredTemplate(place, StoredSubject(subject_place, sealed, held=False), 0, ciphertext)


def identify(
    realm: Realm, view: View, partition: str, embedding: Vectors, space_digest: bytes, k: int
) -> list[SubjectMatch]:
    """The k subjects most alike, best first; embedding: (1, D), not rotated."""
    ranked = view.rank(partition, space_digest, embedding, k, realm.now_us())
    if not ranked:
        return []
    with realm.store.reading() as connection:
        names = names_of(connection, realm.realm_id, [subject for subject, _ in ranked])
    # A subject deleted between the search and this look is left out.
    return [SubjectMatch(names[subject], similarity) for subject, similarity in ranked if subject in names]
