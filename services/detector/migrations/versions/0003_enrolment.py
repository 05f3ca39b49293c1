"""Of what a template was made, on which devices proofs were given, pose challenges, faces on two accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns with defaults, so that a replica of the release before goes on writing, and three tables."""
    op.add_column(
        "face_template",
        sa.Column("source", sa.SmallInteger(), nullable=False, server_default="1", comment="TemplateSource"),
    )
    op.add_column(
        "face_template",
        sa.Column("liveness", sa.SmallInteger(), nullable=False, server_default="1", comment="Liveness"),
    )
    for table in ("face_template", "watched_identifier"):
        op.add_column(
            table,
            sa.Column(
                "device_ref",
                sa.LargeBinary(),
                nullable=False,
                server_default="",
                comment="keyed hash of the device it was proved on; may be empty",
            ),
        )
    op.create_index(
        "ix_watched_identifier_held",
        "watched_identifier",
        ["value_ref"],
        unique=False,
        postgresql_where=sa.text("state IN (2, 4)"),
    )
    op.create_table(
        "known_device",
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose device"),
        sa.Column("device_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of subscriber and device"),
        sa.Column("note_time", sa.DateTime(timezone=True), nullable=False, comment="business time of the first sight"),
        sa.PrimaryKeyConstraint("subscriber_id", "device_ref", name=op.f("pk_known_device")),
    )
    op.create_table(
        "liveness_challenge",
        sa.Column("challenge_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="who was asked"),
        sa.Column("template_id", sa.Text(), nullable=False, comment="whose face is to be shown"),
        sa.Column("poses", sa.ARRAY(sa.SmallInteger()), nullable=False, comment="Pose numbers in order"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False, comment="end of the time to answer"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="PASSED or why not; empty until answered"),
        sa.PrimaryKeyConstraint("challenge_id", name=op.f("pk_liveness_challenge")),
    )
    op.create_index(
        "ix_liveness_challenge_subscriber", "liveness_challenge", ["subscriber_id", "create_time"], unique=False
    )
    op.create_table(
        "duplicate_face",
        sa.Column("decision_id", sa.Text(), nullable=False, comment="decision of the review item, UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="who enrolled the face second"),
        sa.Column("template_id", sa.Text(), nullable=False, comment="template that waits"),
        sa.Column("holder_id", sa.Text(), nullable=False, comment="subscriber who has proved the face"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="DuplicateState"),
        sa.Column(
            "apart_refs", sa.ARRAY(sa.Text()), nullable=False, comment="keyed hashes of reviewers who told them apart"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_duplicate_face")),
    )
    op.create_index(op.f("ix_duplicate_face_template_id"), "duplicate_face", ["template_id"], unique=False)


def downgrade() -> None:
    """Drops them: open challenges and reviews of duplicates are forgotten, templates stay."""
    op.drop_table("duplicate_face")
    op.drop_table("liveness_challenge")
    op.drop_table("known_device")
    op.drop_index("ix_watched_identifier_held", table_name="watched_identifier")
    for table in ("watched_identifier", "face_template"):
        op.drop_column(table, "device_ref")
    op.drop_column("face_template", "liveness")
    op.drop_column("face_template", "source")
