"""Marks of origin: what came, what became of the mark, and a file by its hash."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("source_sha256", sa.Text(), nullable=True))
    op.add_column("files", sa.Column("provenance", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("files", sa.Column("warnings", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_index("ix_files_sha256", "files", ["sha256"], unique=False)
    op.create_index(
        "ix_files_source_sha256",
        "files",
        ["source_sha256"],
        unique=False,
        postgresql_where=sa.text("source_sha256 <> sha256"),
    )


def downgrade() -> None:
    op.drop_index("ix_files_source_sha256", table_name="files", postgresql_where=sa.text("source_sha256 <> sha256"))
    op.drop_index("ix_files_sha256", table_name="files")
    op.drop_column("files", "warnings")
    op.drop_column("files", "provenance")
    op.drop_column("files", "source_sha256")
