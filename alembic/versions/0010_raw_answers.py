"""Raw answers: what a provider answered stays readable where nothing else of a purchase could be kept."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("answer", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "answer")
