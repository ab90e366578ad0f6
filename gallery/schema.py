"""The tables of the store, as SQLAlchemy Core sees them; gallery/migrations makes them.

Every table is keyed by realm.  Numbers of subjects, consents and templates are the revision of their creation,
so that none is ever given twice.  Times are microseconds since 1970 in UTC.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# A consent without end expires at the largest value, so that one comparison serves both kinds.
NEVER_US = 2**63 - 1


def _realm() -> Column[int]:
    return Column("realm_id", Integer, ForeignKey("realms.realm_id", name="realm"), nullable=False)


realms = Table(
    "realms",
    metadata,
    Column("realm_id", Integer, primary_key=True),
    Column("name", String(253), nullable=False, unique=True),
    Column("created_at_us", BigInteger, nullable=False),
    # Heads of the two gap-free sequences; a writer locks this row first, so one writes a realm at a time.
    Column("revision", BigInteger, nullable=False),
    Column("audit_id", BigInteger, nullable=False),
    Column("audit_digest", LargeBinary(32), nullable=False),
    # Of a realm that `duetface gallery move` took away, or has not brought here whole yet: nobody may serve it.
    Column("moved_to", Text),
    Column("arriving_from", Text),
)

secrets = Table(
    "secrets",
    metadata,
    _realm(),
    Column("kind", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("check_value", LargeBinary(16), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("realm_id", "kind", "version"),
    CheckConstraint("kind IN ('realm', 'rotation')", name="kind"),
)

subjects = Table(
    "subjects",
    metadata,
    _realm(),
    Column("subject_key", BigInteger, nullable=False),
    Column("partition", String(64), nullable=False),
    Column("subject_id", String(128), nullable=False),
    Column("sealed_label", LargeBinary, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("held_at_us", BigInteger),
    PrimaryKeyConstraint("realm_id", "subject_key"),
    UniqueConstraint("realm_id", "partition", "subject_id", name="one_subject"),
)


def _subject() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["realm_id", "subject_key"], ["subjects.realm_id", "subjects.subject_key"], name="subject", ondelete="CASCADE"
    )


subject_keys = Table(
    "subject_keys",
    metadata,
    Column("realm_id", Integer, nullable=False),
    Column("subject_key", BigInteger, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("realm_key_version", Integer, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    PrimaryKeyConstraint("realm_id", "subject_key", "key_version"),
    _subject(),
)

consents = Table(
    "consents",
    metadata,
    Column("realm_id", Integer, nullable=False),
    Column("consent_id", BigInteger, nullable=False),
    Column("subject_key", BigInteger, nullable=False),
    Column("purpose", String(256), nullable=False),
    Column("version", String(64), nullable=False),
    Column("given_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Column("withdrawn_at_us", BigInteger),
    PrimaryKeyConstraint("realm_id", "consent_id"),
    UniqueConstraint("realm_id", "consent_id", "subject_key", "given_at_us", "expires_at_us", name="whole_consent"),
    Index("consents_of_subject", "realm_id", "subject_key"),
    _subject(),
    CheckConstraint("given_at_us <= expires_at_us", name="order"),
)

templates = Table(
    "templates",
    metadata,
    Column("realm_id", Integer, nullable=False),
    Column("template_id", BigInteger, nullable=False),
    Column("subject_key", BigInteger, nullable=False),
    Column("consent_id", BigInteger, nullable=False),
    Column("consent_given_at_us", BigInteger, nullable=False),
    Column("consent_expires_at_us", BigInteger, nullable=False),
    Column("space_digest", LargeBinary(32), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("rotation_version", Integer, nullable=False),
    Column("quality", Float, nullable=False),
    Column("device", String(128), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    PrimaryKeyConstraint("realm_id", "template_id"),
    # The next two are the rule "no template without a consent valid at that moment", kept by the database
    # itself: the row must repeat its consent's term exactly, and must have been made within that term.
    ForeignKeyConstraint(
        ["realm_id", "consent_id", "subject_key", "consent_given_at_us", "consent_expires_at_us"],
        [
            "consents.realm_id",
            "consents.consent_id",
            "consents.subject_key",
            "consents.given_at_us",
            "consents.expires_at_us",
        ],
        name="valid_consent",
        onupdate="CASCADE",
        ondelete="CASCADE",
    ),
    CheckConstraint(
        "consent_given_at_us <= created_at_us AND created_at_us < consent_expires_at_us", name="within_consent"
    ),
    ForeignKeyConstraint(
        ["realm_id", "subject_key", "key_version"],
        ["subject_keys.realm_id", "subject_keys.subject_key", "subject_keys.key_version"],
        name="sealed_under",
    ),
    CheckConstraint("quality >= 0 AND quality <= 1", name="quality_range"),
    Index("templates_of_subject", "realm_id", "subject_key", "space_digest"),
    # Without it, deleting a consent reads every template to see that none is left under it.
    Index("templates_of_consent", "realm_id", "consent_id"),
)

changes = Table(
    "changes",
    metadata,
    _realm(),
    Column("revision", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("partition", String(64), nullable=False),
    Column("subject_key", BigInteger, nullable=False),
    Column("template_id", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("realm_id", "revision"),
)

audit = Table(
    "audit",
    metadata,
    _realm(),
    Column("audit_id", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor_realm", String(253), nullable=False),
    Column("actor_role", String(32), nullable=False),
    Column("actor_name", String(128), nullable=False),
    Column("actor_fingerprint", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject_id", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous_digest", LargeBinary(32), nullable=False),
    Column("own_digest", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("realm_id", "audit_id"),
    Index("audit_of_revision", "realm_id", "revision"),
)

failures = Table(
    "failures",
    metadata,
    _realm(),
    Column("scope", String(16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("first_failure_at_us", BigInteger, nullable=False),
    Column("last_failure_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("realm_id", "scope", "name"),
    CheckConstraint("scope IN ('subject', 'device')", name="scope"),
)

# Deletions whose bytes may still lie in a file: written with the deletion, completed once they are proven gone.
erasures = Table(
    "erasures",
    metadata,
    _realm(),
    Column("revision", BigInteger, nullable=False),
    Column("subject_id", String(128), nullable=False),
    Column("templates", Integer, nullable=False),
    Column("realm_key_version", Integer, nullable=False),
    Column("sealed_fingerprints", LargeBinary, nullable=False),
    Column("completed_at_us", BigInteger),
    PrimaryKeyConstraint("realm_id", "revision"),
)

followers = Table(
    "followers",
    metadata,
    _realm(),
    Column("name", String(128), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("seen_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("realm_id", "name"),
)
