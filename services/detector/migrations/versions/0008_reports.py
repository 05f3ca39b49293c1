"""Scans that are asked for, and where subscribers saw something."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Two tables of their own; a replica of the release before knows nothing of them."""
    op.create_table(
        "channel_scan",
        sa.Column("scan_id", sa.Text(), primary_key=True, comment="UUIDv7"),
        sa.Column("channel", sa.Text(), nullable=False, comment="channel id"),
        sa.Column("channel_group", sa.Text(), nullable=False, comment="its group"),
        sa.Column("level", sa.Text(), nullable=False, comment="level when it was asked for"),
        sa.Column("channel_version", sa.BigInteger(), nullable=False, comment="version of the channel then"),
        sa.Column("max_signals", sa.Integer(), nullable=False, comment="signals wanted at most"),
        sa.Column("request_time", _TIME, nullable=False, comment="business time"),
        sa.Column("end_time", _TIME, nullable=False, comment="when it ends by itself, or ended"),
        sa.Column("ended", sa.Boolean(), nullable=False, comment="whether it has ended"),
        sa.Column("accepted", sa.Integer(), nullable=False, comment="signals of it that were accepted"),
        sa.Column("refused", sa.Integer(), nullable=False, comment="signals of it that were refused"),
    )
    op.create_index("ix_channel_scan_channel", "channel_scan", ["channel", "request_time"])
    op.create_table(
        "sighting_report",
        sa.Column("report_id", sa.Text(), primary_key=True, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="who reported it"),
        sa.Column("signal_id", sa.Text(), nullable=False, comment="signal that it becomes"),
        sa.Column("channel", sa.Text(), nullable=False, comment="channel that the address belongs to"),
        sa.Column("create_time", _TIME, nullable=False, comment="business time"),
        sa.Column(
            "sealed", sa.LargeBinary(), nullable=False, comment="address and note, sealed; empty once it is a signal"
        ),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="RECEIVED, SUBMITTED, GONE, NOT_LOOKED_AT, REFUSED"
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="rule behind it, or empty"),
        sa.Column("tries", sa.SmallInteger(), nullable=False, comment="looks so far that were too early"),
    )
    op.create_index("ix_sighting_report_subscriber", "sighting_report", ["subscriber_id", "create_time"])


def downgrade() -> None:
    """Drops them; what was reported and not looked at yet must be reported again."""
    for table in ("sighting_report", "channel_scan"):
        op.drop_table(table)
