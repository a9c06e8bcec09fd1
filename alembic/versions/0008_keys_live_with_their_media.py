"""Idempotency keys live as long as their media, and outlive a deleted one for a while.

Workers of the release before still delete keys by their age until they are replaced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FOREIGN_KEY = "fk_idempotency_keys_media_id_media"


def upgrade() -> None:
    op.alter_column("idempotency_keys", "media_id", existing_type=sa.Uuid(), nullable=True)
    _refer_to_media("SET NULL")
    op.create_index(
        "ix_idempotency_keys_without_media",
        "idempotency_keys",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("media_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_idempotency_keys_without_media",
        table_name="idempotency_keys",
        postgresql_where=sa.text("media_id IS NULL"),
    )
    op.execute("DELETE FROM idempotency_keys WHERE media_id IS NULL")
    _refer_to_media("CASCADE")
    op.alter_column("idempotency_keys", "media_id", existing_type=sa.Uuid(), nullable=False)


def _refer_to_media(ondelete: str) -> None:
    """The same reference with another rule; the old one has already checked every row, under less of a lock."""
    op.drop_constraint(op.f(FOREIGN_KEY), "idempotency_keys", type_="foreignkey")
    op.create_foreign_key(
        op.f(FOREIGN_KEY),
        "idempotency_keys",
        "media",
        ["media_id"],
        ["id"],
        ondelete=ondelete,
        postgresql_not_valid=True,
    )
