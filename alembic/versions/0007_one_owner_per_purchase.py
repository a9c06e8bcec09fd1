"""A purchase belongs to one attempt; what a media item waits for, and what its owner should know."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Before, two attempts could name the same purchase: the one that had its result, or else the oldest, keeps it. The
# others keep `reference`, so one that is still open goes on.
KEEP_ONE = """
UPDATE attempts a SET external_id = NULL FROM (
    SELECT id, row_number() OVER (
        PARTITION BY split_part(model, '/', 1), external_id ORDER BY status <> 'SUCCEEDED', created_at, id
    ) AS place FROM attempts WHERE external_id IS NOT NULL
) ranked WHERE ranked.id = a.id AND ranked.place > 1"""


def upgrade() -> None:
    # First, as workers lock a media item before its attempts.
    op.add_column("media", sa.Column("waits_for", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("media", sa.Column("warnings", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.execute("LOCK TABLE attempts IN SHARE ROW EXCLUSIVE MODE")
    op.execute(KEEP_ONE)
    op.create_index(
        "uq_attempts_purchase",
        "attempts",
        [sa.text("split_part(model, '/', 1)"), "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_column("media", "warnings")
    op.drop_column("media", "waits_for")
    op.drop_index("uq_attempts_purchase", table_name="attempts", postgresql_where=sa.text("external_id IS NOT NULL"))
