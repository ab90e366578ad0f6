"""Sealing of what is personal: subject keys under the realm key, labels and templates under the subject key.

Every sealed value is bound to its place (realm, partition, subject, template, space, versions), so that a row
copied or renamed inside the database no longer opens.
"""

import functools
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duetface.errors import GalleryError
from gallery import sealing
from gallery.index import Vectors
from gallery.keys import KINDS, KeyKind, KeyProvider, versions_of
from gallery.rotation import orthogonal_matrix, rotate, transfer_matrix


@dataclass(frozen=True)
class SubjectPlace:
    """Which subject a key belongs to."""

    partition: str
    subject_key: int
    subject_id: str


@dataclass(frozen=True)
class SealedSubjectKey:
    """A subject key as it is stored.  key_version: of the subject key.  realm_key_version: what seals it."""

    key_version: int
    realm_key_version: int
    sealed_key: bytes


@dataclass(frozen=True)
class TemplatePlace:
    """Which template a ciphertext belongs to."""

    partition: str
    subject_key: int
    template_id: int
    space_digest: bytes
    key_version: int
    rotation_version: int


class Vault:
    """Seals and opens with the secrets of one realm; holds no decrypted template."""

    def __init__(self, realm: str, keys: KeyProvider, dimension: int) -> None:
        """dimension: D of every embedding."""
        self._realm = realm
        self._keys = keys
        self._dimension = dimension
        self._matrix = functools.cache(self._make_matrix)
        self._transfer = functools.cache(self._make_transfer)
        self._learn: Callable[[], None] = self.adopt
        self.adopt()

    def adopt(self, in_use: Mapping[KeyKind, Container[int]] | None = None) -> None:
        """Seal from now on under the newest secrets that the provider has, of those `in_use` (None: of all)."""
        held: dict[KeyKind, tuple[int, ...]] = {kind: self.versions(kind) for kind in KINDS}
        if in_use is not None:
            held = {kind: tuple(version for version in held[kind] if version in in_use[kind]) for kind in KINDS}
        realm_versions, rotation_versions = held["realm"], held["rotation"]
        # One takes some 0.4 s at D = 512: now, and not in the first requests, each of which would make its own.
        for version in rotation_versions:
            self._matrix(version)
        self._realm_versions, self._rotation_versions = realm_versions, rotation_versions

    def learn_by(self, learn: Callable[[], None]) -> None:
        """What to do about a rotation that another process has begun: check its secrets against the store, `adopt`."""
        self._learn = learn

    def versions(self, kind: KeyKind) -> tuple[int, ...]:
        """Every version that the provider has now, adopted or not."""
        return versions_of(self._keys, kind)

    def unadopted(self) -> dict[KeyKind, set[int]]:
        """Versions that the provider has and nobody here seals under: made for a rotation that has not begun."""
        return {
            "realm": set(self.versions("realm")) - set(self._realm_versions),
            "rotation": set(self.versions("rotation")) - set(self._rotation_versions),
        }

    def add_version(self, kind: KeyKind) -> int:
        """Make the next version of a secret, to be adopted; returns its number.  See KeyProvider.add_version."""
        version = self.versions(kind)[-1] + 1
        self._keys.add_version(kind, version)
        return version

    def _make_matrix(self, version: int) -> NDArray[np.float64]:
        return orthogonal_matrix(self._keys.rotation_seed(version), self._dimension)

    def _make_transfer(self, old: int, new: int) -> NDArray[np.float64]:
        return transfer_matrix(self._matrix(old), self._matrix(new))

    @property
    def realm(self) -> str:
        """The name of the realm whose secrets these are."""
        return self._realm

    @property
    def realm_key_version(self) -> int:
        """The version that seals now."""
        return self._realm_versions[-1]

    @property
    def rotation_version(self) -> int:
        """The version that new templates get."""
        return self._rotation_versions[-1]

    @property
    def rotation_versions(self) -> tuple[int, ...]:
        """Every version whose seed is adopted."""
        return self._rotation_versions

    def check_value(self, kind: KeyKind, version: int) -> bytes:
        """16 bytes that tell whether a secret is the one that the store was made with, and nothing else."""
        if kind == "realm":
            secret = self._keys.derive(version, "check value")
        else:
            secret = sealing.derive(self._keys.rotation_seed(version), "check value")
        return secret[:16]

    def derive(self, purpose: str, version: int) -> bytes:
        """A 32-byte key for one purpose under a version of the realm key."""
        return self._keys.derive(version, purpose)

    def new_subject_key(self, place: SubjectPlace, key_version: int) -> tuple[bytes, SealedSubjectKey]:
        """A fresh key for a subject, and its sealed form for the store."""
        key, version = sealing.new_key(), self.realm_key_version
        sealed = self._keys.seal(version, key, self._key_context(place, key_version))
        return key, SealedSubjectKey(key_version, version, sealed)

    def open_subject_key(self, place: SubjectPlace, stored: SealedSubjectKey) -> bytes:
        """Undo new_subject_key; raises GalleryError for a key that was changed or moved."""
        associated = self._key_context(place, stored.key_version)
        what = f"the key of subject number {place.subject_key}"
        return self._keys.unseal(stored.realm_key_version, stored.sealed_key, associated, what)

    def _key_context(self, place: SubjectPlace, key_version: int) -> bytes:
        return sealing.context(
            "subject key", self._realm, place.partition, place.subject_key, place.subject_id, key_version
        )

    def seal_label(self, key: bytes, place: SubjectPlace, label: str) -> bytes:
        """Seal the name for people."""
        return sealing.seal(key, label.encode(), self._label_context(place))

    def open_label(self, key: bytes, place: SubjectPlace, sealed: bytes) -> str:
        """Undo seal_label."""
        what = f"the label of subject number {place.subject_key}"
        return sealing.unseal(key, sealed, self._label_context(place), what).decode()

    def _label_context(self, place: SubjectPlace) -> bytes:
        return sealing.context("label", self._realm, place.partition, place.subject_key)

    def rotate(self, embeddings: Vectors, version: int | None = None) -> Vectors:
        """(B, D) embeddings in the realm's secret frame; version None: the newest adopted."""
        version = version or self.rotation_version
        if version not in self._rotation_versions:
            self._learn()
        return rotate(self._matrix(version), embeddings)

    def reissue(self, rotated: Vectors, version: int) -> Vectors:
        """Move (B, D) embeddings from the frame of an older rotation into the newest."""
        return rotate(self._transfer(version, self.rotation_version), rotated)

    def seal_template(self, key: bytes, place: TemplatePlace, rotated: Vectors) -> bytes:
        """rotated: (D,) float32, stored little-endian."""
        return sealing.seal(key, rotated.astype("<f4").tobytes(), self._template_context(place))

    def open_template(self, key: bytes, place: TemplatePlace, ciphertext: bytes) -> Vectors:
        """Undo seal_template: (D,) float32."""
        what = f"template {place.template_id}"
        plain = sealing.unseal(key, ciphertext, self._template_context(place), what)
        if len(plain) != 4 * self._dimension:
            raise GalleryError(f"{what} has {len(plain)} bytes: expected {4 * self._dimension}; restore a copy")
        return np.frombuffer(plain, dtype="<f4").astype(np.float32)

    def _template_context(self, place: TemplatePlace) -> bytes:
        return sealing.context(
            "template",
            self._realm,
            place.partition,
            place.subject_key,
            place.template_id,
            place.space_digest,
            place.key_version,
            place.rotation_version,
        )
