"""What packets have shown of each cluster's NetworkPolicies.

Revision: 0004, follows 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "enforcement",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_enforcement")),
    )
