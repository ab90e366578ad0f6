"""Erasures that wait for their proof, the replicas that must have followed, and the indexes that deletions need."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables and three indexes."""
    op.create_index("consents_of_subject", "consents", ["realm_id", "subject_key"])
    op.create_index("templates_of_consent", "templates", ["realm_id", "consent_id"])
    op.create_index("audit_of_revision", "audit", ["realm_id", "revision"])
    op.create_table(
        "erasures",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("templates", sa.Integer(), nullable=False),
        sa.Column("realm_key_version", sa.Integer(), nullable=False),
        sa.Column("sealed_fingerprints", sa.LargeBinary(), nullable=False),
        sa.Column("completed_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("realm_id", "revision"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )
    op.create_table(
        "followers",
        sa.Column("realm_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("realm_id", "name"),
        sa.ForeignKeyConstraint(["realm_id"], ["realms.realm_id"], name="realm"),
    )


def downgrade() -> None:
    """Refused: an older release must not write a newer store; restore the copy made before the migration."""
    raise NotImplementedError("restore the copy that was made before the migration")
