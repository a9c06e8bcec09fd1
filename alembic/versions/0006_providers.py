"""Real providers: callbacks, costs, routes, input files, and what is known of video and sound."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("called_back", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("attempts", sa.Column("estimate", sa.Numeric(18, 6), nullable=True))
    op.add_column("attempts", sa.Column("currency", sa.Text(), server_default="USD", nullable=False))
    op.add_column("attempts", sa.Column("cost_basis", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("units", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_index(
        "ix_attempts_called_back", "attempts", ["media_id"], unique=False, postgresql_where=sa.text("called_back")
    )
    op.add_column("media", sa.Column("route", sa.Text(), nullable=True))
    op.add_column("media", sa.Column("route_step", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("media", sa.Column("route_input", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_index(
        "ix_media_routed",
        "media",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'IN_QUEUE' AND route IS NOT NULL"),
    )
    op.add_column("files", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column("files", sa.Column("poster_key", sa.Text(), nullable=True))
    op.add_column("paused_models", sa.Column("code", sa.Text(), server_default="paused", nullable=False))
    op.create_table(
        "provider_keys",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_provider_keys")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("owner_id", "sha256", name=op.f("uq_uploads_owner_id_sha256")),
    )
    op.create_index("ix_uploads_expires", "uploads", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_uploads_expires", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("provider_keys")
    op.drop_column("paused_models", "code")
    op.drop_column("files", "poster_key")
    op.drop_column("files", "seconds")
    op.drop_index(
        "ix_media_routed", table_name="media", postgresql_where=sa.text("status = 'IN_QUEUE' AND route IS NOT NULL")
    )
    op.drop_column("media", "route_input")
    op.drop_column("media", "route_step")
    op.drop_column("media", "route")
    op.drop_index("ix_attempts_called_back", table_name="attempts", postgresql_where=sa.text("called_back"))
    op.drop_column("attempts", "units")
    op.drop_column("attempts", "cost_basis")
    op.drop_column("attempts", "currency")
    op.drop_column("attempts", "estimate")
    op.drop_column("attempts", "called_back")
