"""The first schema: realms, secrets' check values, subjects, consents, templates, change feed, audit, failures.

Written out here and not taken from gallery.schema, which describes the newest schema only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table, then forbid that an audit row is changed or deleted."""
    for create in (
        _create_realms,
        _create_secrets,
        _create_subjects,
        _create_subject_keys,
        _create_consents,
        _create_templates,
        _create_changes,
        _create_audit,
        _create_failures,
    ):
        create()
    _protect_audit()


def downgrade() -> None:
    """Refused: an older release must not write a newer store; restore the copy made before the migration."""
    raise NotImplementedError("restore the copy that was made before the migration")


def _protect_audit() -> None:
    """The chain of digests shows a change; the triggers already refuse one made by mistake."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit rows are never changed'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
    )


def _create_realms() -> None:
    op.create_table(
        "realms",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("audit_digest", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("realm_id"),
        sa.UniqueConstraint("name"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor_realm", sa.String(253), nullable=False),
        sa.Column("actor_role", sa.String(32), nullable=False),
        sa.Column("actor_name", sa.String(128), nullable=False),
        sa.Column("actor_fingerprint", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("own_digest", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "audit_id"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("partition", sa.String(64), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("template_id", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "revision"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )


def _create_failures() -> None:
    op.create_table(
        "failures",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_failure_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_failure_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "scope", "name"),
        sa.CheckConstraint("scope IN ('subject', 'device')", name="scope"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )


def _create_secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("check_value", sa.LargeBinary(16), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "kind", "version"),
        sa.CheckConstraint("kind IN ('realm', 'rotation')", name="kind"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )


def _create_subjects() -> None:
    op.create_table(
        "subjects",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("partition", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("sealed_label", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("held_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("realm_id", "subject_key"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
        sa.UniqueConstraint("realm_id", "partition", "subject_id", name="one_subject"),
    )


def _create_consents() -> None:
    op.create_table(
        "consents",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("consent_id", sa.BigInteger(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(256), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("given_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("realm_id", "consent_id"),
        sa.CheckConstraint("given_at_us <= expires_at_us", name="order"),
        sa.ForeignKeyConstraint(
            ["realm_id", "subject_key"],
            ["subjects.realm_id", "subjects.subject_key"],
            name="subject",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "realm_id", "consent_id", "subject_key", "given_at_us", "expires_at_us", name="whole_consent"
        ),
    )


def _create_subject_keys() -> None:
    op.create_table(
        "subject_keys",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("realm_key_version", sa.Integer(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "subject_key", "key_version"),
        sa.ForeignKeyConstraint(
            ["realm_id", "subject_key"],
            ["subjects.realm_id", "subjects.subject_key"],
            name="subject",
            ondelete="CASCADE",
        ),
    )


def _create_templates() -> None:
    op.create_table(
        "templates",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("template_id", sa.BigInteger(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("consent_id", sa.BigInteger(), nullable=False),
        sa.Column("consent_given_at_us", sa.BigInteger(), nullable=False),
        sa.Column("consent_expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("space_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("rotation_version", sa.Integer(), nullable=False),
        sa.Column("quality", sa.Float(), nullable=False),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "template_id"),
        sa.CheckConstraint("quality >= 0 AND quality <= 1", name="quality_range"),
        sa.CheckConstraint(
            "consent_given_at_us <= created_at_us AND created_at_us < consent_expires_at_us", name="within_consent"
        ),
        sa.ForeignKeyConstraint(
            ["realm_id", "subject_key", "key_version"],
            ["subject_keys.realm_id", "subject_keys.subject_key", "subject_keys.key_version"],
            name="sealed_under",
        ),
        sa.ForeignKeyConstraint(
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
    )
    op.create_index("templates_of_subject", "templates", ["realm_id", "subject_key", "space_digest"])
