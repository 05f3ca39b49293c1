"""Urgency, recurrence, bursts and search of cases."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds columns, indexes and the table of tags."""
    _add_to_case()
    _add_to_others()
    op.create_table(
        "search_text",
        sa.Column("decision_id", sa.String(36), nullable=False, comment="decision whose capture has the text"),
        sa.Column("case_id", sa.String(36), nullable=False, comment="case of its sighting"),
        sa.Column("subscriber_id", sa.String(36), nullable=False, comment="subscriber"),
        sa.Column("tags", sa.ARRAY(sa.Integer()), nullable=False, comment="four bytes of a keyed hash of each word"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_search_text")),
        comment="Keyed tags of words; made anew from the captures after a crash of the database.",
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_search_text_tags", "search_text", ["tags"], postgresql_using="gin")
    op.create_index("ix_search_text_case", "search_text", ["case_id"])
    op.create_index("ix_search_text_subscriber", "search_text", ["subscriber_id"])


def _add_to_case() -> None:
    _add("case", "state_time", _TIME, "since when in its state", fill="now()")
    op.execute('UPDATE "case" SET state_time = update_time')
    _add("case", "close_time", _TIME, "when closed; NULL while it is not")
    op.execute('UPDATE "case" SET close_time = update_time WHERE state = 5')
    _add("case", "reasons", sa.ARRAY(sa.SmallInteger()), "PriorityReason of its sightings", fill="'{}'")
    _add("case", "priority", sa.SmallInteger(), "Priority, follows from the reasons by the rules", fill="1")
    _add("case", "deadline_time", _TIME, "when it should have left its state, by the rules; NULL for none")
    _add("case", "burst_time", _TIME, "commit of the first sighting of a burst")
    _add("case", "burst_count", sa.Integer(), "sightings of the burst", fill="0")
    _add("case", "recurrence_of", sa.String(36), "case closed long before with the content, or empty", fill="''")
    op.create_index("ix_case_state_page", "case", ["state", "create_time", "case_id"])
    op.create_index("ix_case_priority_page", "case", ["priority", "create_time", "case_id"])
    set_only = sa.text("deadline_time IS NOT NULL")
    op.create_index("ix_case_deadline_page", "case", ["deadline_time", "case_id"], postgresql_where=set_only)
    op.create_index("ix_case_where", "case", ["kinds", "channel_groups"], postgresql_using="gin")


def _add_to_others() -> None:
    _add("case_alias", "before_state", sa.SmallInteger(), "state of the root before the merge")
    _add("case_alias", "before_resolution", sa.SmallInteger(), "its resolution")
    _add("case_alias", "before_state_time", _TIME, "since when it was in that state")
    _add("case_alias", "before_close_time", _TIME, "when it had been closed")
    _add("sighting", "reasons", sa.ARRAY(sa.SmallInteger()), "PriorityReason: what in it is urgent", fill="'{}'")


def _add(table: str, name: str, kind: sa.types.TypeEngine[Any], comment: str, *, fill: str = "") -> None:
    """Adds a column. `fill`, in SQL, lets a replica of the release before go on writing; without it the column may be
    NULL."""
    default = sa.text(fill) if fill else None
    op.add_column(table, sa.Column(name, kind, nullable=not fill, server_default=default, comment=comment))


def downgrade() -> None:
    """Takes them away again."""
    op.drop_table("search_text")
    op.drop_column("sighting", "reasons")
    for name in ("before_state", "before_resolution", "before_state_time", "before_close_time"):
        op.drop_column("case_alias", name)
    for name in ("state_page", "priority_page", "deadline_page", "where"):
        op.drop_index(f"ix_case_{name}", "case")
    for name in (
        "state_time",
        "close_time",
        "reasons",
        "priority",
        "deadline_time",
        "burst_time",
        "burst_count",
        "recurrence_of",
    ):
        op.drop_column("case", name)
