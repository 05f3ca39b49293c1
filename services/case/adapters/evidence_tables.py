"""Which tables does evidence keep beside captures and packs?"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Index, Integer, LargeBinary, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from services.case.adapters.tables import Base
from services.chassis.database import table_of

_UUID = String(36)
_TIME = DateTime(timezone=True)


class CustodyRow(Base):
    """What happened to a whole pack: rows are added, never changed."""

    __tablename__ = "custody"
    __table_args__ = (
        Index("ix_custody_case", "case_id", "create_time", "custody_id"),
        {"comment": "Who touched a pack as a whole: supplemented, read, exported, verified."},
    )
    custody_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    case_id: Mapped[str] = mapped_column(_UUID, comment="case of the pack")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber, owner of the key")
    version: Mapped[int] = mapped_column(Integer, comment="version of the pack; 0 for an export of the case")
    action: Mapped[str] = mapped_column(String(16), comment="SUPPLEMENTED, READ, EXPORTED, VERIFIED")
    who: Mapped[str] = mapped_column(String(64), comment="service, or role and keyed hash of a person")
    sealed_why: Mapped[bytes] = mapped_column(LargeBinary, comment="why, in the words of who asked; sealed")
    sha256_before: Mapped[bytes] = mapped_column(LargeBinary, comment="manifest before; empty if none")
    sha256_after: Mapped[bytes] = mapped_column(LargeBinary, comment="manifest after")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when")


class CaseGuidanceRow(Base):
    """Public guidance that was attached to a case."""

    __tablename__ = "case_guidance"
    __table_args__ = ({"comment": "Guidance paths of a case and what the subscriber did with them."},)
    case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="case it was attached to")
    path_id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="path, see rules/guidance.yaml")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    guidance_version: Mapped[str] = mapped_column(String(64), comment="version of the rules that attached it")
    attach_time: Mapped[datetime] = mapped_column(_TIME, comment="when attached")
    outcome: Mapped[int] = mapped_column(SmallInteger, comment="GuidanceOutcome")
    answer_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when the subscriber said so")
    pack_version: Mapped[int | None] = mapped_column(Integer, comment="first pack that shows it so; NULL before")


CUSTODY = table_of(CustodyRow)
CASE_GUIDANCE = table_of(CaseGuidanceRow)
