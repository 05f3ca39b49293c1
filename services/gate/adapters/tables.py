"""Which tables the gate keeps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.database import NAMING, chassis_tables
from services.chassis.grants import used_grant_table

_Time = DateTime(timezone=True)
_Id = String(64)


class Base(DeclarativeBase):
    """Base of this service's tables."""

    metadata = MetaData(naming_convention=NAMING)


class LogRecordRow(Base):
    """A log record as it was published, with what reports select by. Opaque ids only."""

    __tablename__ = "log_record"
    __table_args__ = (Index("ix_log_record_type", "type", "facet", "occur_time"),)

    publisher: Mapped[str] = mapped_column(String(16), primary_key=True, comment="who published it")
    partition: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="partition of the publisher"
    )
    position: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="position in the partition"
    )
    record_id: Mapped[str] = mapped_column(_Id, comment="UUIDv7 of the record")
    type: Mapped[str] = mapped_column(String(40), comment="body, such as case_lifecycle_log")
    facet: Mapped[str] = mapped_column(String(40), comment="band, transition, action or state; may be empty")
    occur_time: Mapped[datetime] = mapped_column(_Time, comment="when it happened, business time")
    entity: Mapped[str] = mapped_column(String(40), comment="sort of entity that changed")
    entity_id: Mapped[str] = mapped_column(_Id, comment="the entity")
    case_ids: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="cases it belongs to")
    decision_id: Mapped[str] = mapped_column(_Id, comment="decision it belongs to; may be empty")
    payload: Mapped[bytes] = mapped_column(LargeBinary, comment="the record as published")


class LogHeadRow(Base):
    """Every head of the chains of the case log: what tampering is tested against."""

    __tablename__ = "log_head"

    chain_id: Mapped[str] = mapped_column(String(80), primary_key=True, comment="case, or day chain")
    sequence: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="entries in the chain"
    )
    head_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="hash of the last entry")
    update_time: Mapped[datetime] = mapped_column(_Time, comment="when the gate heard of it")


class ReportRow(Base):
    """A report."""

    __tablename__ = "report"
    __table_args__ = (Index("ix_report_name", "name", "report_id"),)

    report_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    decision_id: Mapped[str] = mapped_column(_Id, index=True, comment="decision it was made for")
    number: Mapped[int] = mapped_column(Integer, comment="place in the decision's list")
    name: Mapped[str] = mapped_column(String(64), comment="such as CaseLatencyReport_v1")
    release: Mapped[str] = mapped_column(String(128), comment="release it was made for")
    outcome: Mapped[str] = mapped_column(String(16), comment="PASSED, INCONCLUSIVE, ERROR, FAILED")
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="UPPER_SNAKE")
    value_text: Mapped[str] = mapped_column(String(64), comment="value for people; may be empty")
    sample_size: Mapped[int] = mapped_column(BigInteger, comment="sample")
    required_size: Mapped[int] = mapped_column(BigInteger, comment="sample that is needed")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    # JSON and not JSONB: the document is handed out as it was written, keys in their order.
    document: Mapped[dict[str, Any]] = mapped_column(JSON, comment="the report by schemas/report_v1.json")
    form: Mapped[str] = mapped_column(
        String(32), server_default="report_v1", comment="schema of the document: report_v1, stage_report_v1"
    )
    value: Mapped[float | None] = mapped_column(
        Double, comment="in the unit of the threshold, may be infinite; NULL where nothing was measured"
    )


class ReleaseDecisionRow(Base):
    """A judgement about a release."""

    __tablename__ = "release_decision"
    __table_args__ = (Index("ix_release_decision_release", "release", "decision_id"),)

    decision_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    release: Mapped[str] = mapped_column(String(128), comment="release")
    stage: Mapped[str] = mapped_column(String(8), comment="1, 2, 3 or ALL")
    outcome: Mapped[str] = mapped_column(String(16), comment="worst outcome of its parts")
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="one a part")
    cut_off: Mapped[dict[str, int]] = mapped_column(JSONB, comment="publisher/partition -> last position read")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    document: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="canonical JSON with its signature; NULL for decisions from before they were signed"
    )


class TestRunRow(Base):
    """A test run of a release, in counts."""

    __tablename__ = "test_run"
    __table_args__ = (Index("ix_test_run_release", "release", "kind", "test_run_id"),)
    __test__ = False

    test_run_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    release: Mapped[str] = mapped_column(String(128), comment="release")
    kind: Mapped[str] = mapped_column(String(16), comment="SCENARIO, REGRESSION, POLICY, ROLLBACK")
    commit: Mapped[str] = mapped_column(String(64), comment="commit that was tested")
    passed: Mapped[int] = mapped_column(Integer, comment="tests that passed")
    failed: Mapped[int] = mapped_column(Integer, comment="tests that failed")
    skipped: Mapped[int] = mapped_column(Integer, comment="tests that were skipped")
    junit_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the document")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")


class ReleaseOverrideRow(Base):
    """An inconclusive decision that two people overrode."""

    __tablename__ = "release_override"
    __table_args__ = (Index("ix_release_override_release", "release", "create_time"),)

    decision_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="decision that is overridden")
    release: Mapped[str] = mapped_column(String(128), comment="release")
    stage: Mapped[str] = mapped_column(String(8), comment="1, 2, 3 or ALL")
    reason: Mapped[str] = mapped_column(String(63), comment="UPPER_SNAKE")
    proposal_id: Mapped[str] = mapped_column(_Id, comment="proposal that the grant came of")
    proposer_ref: Mapped[str] = mapped_column(String(16), comment="keyed hash of who proposed")
    approver_refs: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="keyed hashes of who approved")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")


class DependencyChangeRow(Base):
    """A change in the state of something that releases depend on."""

    __tablename__ = "dependency_change"
    __table_args__ = (Index("ix_dependency_change_latest", "dependency_id", "change_id"),)

    change_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    dependency_id: Mapped[str] = mapped_column(_Id, comment="id in the register")
    state: Mapped[str] = mapped_column(String(16), comment="HOLDS, DEGRADED, LOST")
    reason: Mapped[str] = mapped_column(String(63), comment="UPPER_SNAKE")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")


class SampleRow(Base):
    """A frozen sample. Its items stand in its log record, which figures are computed from."""

    __tablename__ = "sample"
    __table_args__ = (Index("ix_sample_report", "report_name", "sample_id"),)

    sample_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    report_name: Mapped[str] = mapped_column(String(64), comment="report that it is for")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="when frozen, business time")
    record: Mapped[bytes] = mapped_column(LargeBinary, comment="SampleLog as it was recorded")


def metadata() -> MetaData:
    """All tables of the service with those of the chassis; for migrations."""
    chassis_tables(Base.metadata)
    used_grant_table(Base.metadata)
    return Base.metadata
