"""Priorities, deadlines, cancelling, takeovers, gates of providers, late results, tallies."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_gates",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("trial_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_provider_gates")),
    )
    op.create_table(
        "tallies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tallies")),
    )
    op.add_column("attempts", sa.Column("look_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("attempts", sa.Column("stop", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("attempts", sa.Column("told_to_stop", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("attempts", sa.Column("looks", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "ix_attempts_look", "attempts", ["look_at"], unique=False, postgresql_where=sa.text("look_at IS NOT NULL")
    )
    op.create_index(
        "ix_attempts_unknown", "attempts", ["media_id"], unique=False, postgresql_where=sa.text("status = 'UNKNOWN'")
    )
    op.add_column("media", sa.Column("provider", sa.Text(), nullable=True))
    op.execute("UPDATE media SET provider = split_part(model, '/', 1)")
    op.alter_column("media", "provider", nullable=False)
    op.add_column("media", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("5"), nullable=False))
    op.add_column("media", sa.Column("rank", sa.SmallInteger(), server_default=sa.text("5"), nullable=False))
    op.add_column("media", sa.Column("time_limit", sa.Interval(), nullable=True))
    op.add_column("media", sa.Column("deadline", sa.DateTime(timezone=True), nullable=True))
    op.add_column("media", sa.Column("on_unknown", sa.Text(), server_default="hold", nullable=False))
    op.add_column("media", sa.Column("takeovers", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("media", sa.Column("cancel_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("media", sa.Column("cancel", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_check_constraint(op.f("ck_media_on_unknown"), "media", "on_unknown IN ('fail', 'hold', 'retry')")
    op.execute(
        """UPDATE media m SET rank = 10 WHERE status = 'IN_QUEUE' AND EXISTS (
            SELECT FROM attempts a WHERE a.media_id = m.id AND a.status IN ('INTENDED', 'SUBMITTED'))"""
    )
    op.drop_index(op.f("ix_media_due"), table_name="media", postgresql_where="(status = 'IN_QUEUE'::text)")
    op.create_index(
        "ix_media_due",
        "media",
        ["queue", "owner_id", "provider", "rank", "next_run", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'IN_QUEUE'"),
    )
    op.create_index(
        "ix_media_at_provider",
        "media",
        ["provider"],
        unique=False,
        postgresql_where=sa.text("status = 'PROCESSING' OR (status = 'IN_QUEUE' AND rank >= 10)"),
    )
    op.create_index("ix_media_cancel", "media", ["worker_id"], unique=False, postgresql_where=sa.text("cancel_asked"))
    op.create_index(
        "ix_media_deadline",
        "media",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("status = 'IN_QUEUE' AND deadline IS NOT NULL"),
    )
    op.create_index(
        "ix_media_suspect",
        "media",
        ["queue", "takeovers", "next_run"],
        unique=False,
        postgresql_where=sa.text("status = 'IN_QUEUE' AND rank = 11"),
    )


def downgrade() -> None:
    op.drop_index("ix_media_suspect", table_name="media", postgresql_where=sa.text("status = 'IN_QUEUE' AND rank = 11"))
    op.drop_index(
        "ix_media_deadline",
        table_name="media",
        postgresql_where=sa.text("status = 'IN_QUEUE' AND deadline IS NOT NULL"),
    )
    op.drop_index("ix_media_cancel", table_name="media", postgresql_where=sa.text("cancel_asked"))
    op.drop_index(
        "ix_media_at_provider",
        table_name="media",
        postgresql_where=sa.text("status = 'PROCESSING' OR (status = 'IN_QUEUE' AND rank >= 10)"),
    )
    op.drop_index("ix_media_due", table_name="media", postgresql_where=sa.text("status = 'IN_QUEUE'"))
    op.create_index(
        op.f("ix_media_due"),
        "media",
        ["queue", "next_run", "id"],
        unique=False,
        postgresql_where="(status = 'IN_QUEUE'::text)",
    )
    op.drop_column("media", "cancel")
    op.drop_column("media", "cancel_asked")
    op.drop_column("media", "takeovers")
    op.drop_column("media", "on_unknown")
    op.drop_column("media", "deadline")
    op.drop_column("media", "time_limit")
    op.drop_column("media", "rank")
    op.drop_column("media", "priority")
    op.drop_column("media", "provider")
    op.drop_index("ix_attempts_unknown", table_name="attempts", postgresql_where=sa.text("status = 'UNKNOWN'"))
    op.drop_index("ix_attempts_look", table_name="attempts", postgresql_where=sa.text("look_at IS NOT NULL"))
    op.drop_column("attempts", "looks")
    op.drop_column("attempts", "told_to_stop")
    op.drop_column("attempts", "stop")
    op.drop_column("attempts", "look_at")
    op.drop_table("tallies")
    op.drop_table("provider_gates")
