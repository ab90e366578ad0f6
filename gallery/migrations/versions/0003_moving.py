"""A realm that moves to another database: where it went, and where one that is not whole yet comes from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; NULL is a realm that is at home here."""
    op.add_column("realms", sa.Column("moved_to", sa.Text(), nullable=True))
    op.add_column("realms", sa.Column("arriving_from", sa.Text(), nullable=True))


def downgrade() -> None:
    """Refused: an older release must not write a newer store; restore the copy made before the migration."""
    raise NotImplementedError("restore the copy that was made before the migration")
