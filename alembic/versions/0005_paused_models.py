"""Paused models."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "paused_models",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_paused_models")),
    )
    op.create_index(
        "ix_media_model",
        "media",
        ["model", "rank"],
        unique=False,
        postgresql_where=sa.text("status = 'IN_QUEUE'"),
    )


def downgrade() -> None:
    # Code before this revision knows no such rank: it would claim them last of all, pause or no pause.
    op.execute("UPDATE media SET rank = priority WHERE status = 'IN_QUEUE' AND rank < 0")
    op.drop_index("ix_media_model", table_name="media", postgresql_where=sa.text("status = 'IN_QUEUE'"))
    op.drop_table("paused_models")
