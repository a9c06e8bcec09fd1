"""Raw answers stay readable where nothing else of a purchase could be kept, and outputs do not wait for others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("answer", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("copied", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "copied")
    op.drop_column("attempts", "answer")
