"""How do labels, evaluations of them and the thresholds that came of those lie in PostgreSQL?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, literal, or_, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import Database, table_of
from services.detector.adapters.tables import (
    DecisionLabelRow,
    DecisionRow,
    ThresholdChangeRow,
    ThresholdEvaluationRow,
)
from services.detector.domain.calibration import GivenLabel, ThresholdInForce, fingerprint, in_force
from services.detector.domain.decisions import Band, MatchKind
from services.detector.domain.faces import FaceRules
from services.detector.ports import KeptEvaluation, LabelledDecision

_LABEL, _DECISION = table_of(DecisionLabelRow), table_of(DecisionRow)
_EVALUATION, _CHANGE = table_of(ThresholdEvaluationRow), table_of(ThresholdChangeRow)


class SqlCalibration:
    """See the port Calibration."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def label(self, label: GivenLabel) -> None:
        """See the port. The decision is locked, so that it is not purged in between."""
        about = (_DECISION.c.decision_id == label.decision_id) & (_DECISION.c.kind == int(MatchKind.FACE))
        given = (label.labeller, label.source, label.verdict, label.sample_id)
        row = select(_DECISION.c.decision_id, *(literal(value) for value in given)).where(about).with_for_update()
        columns = ("decision_id", "labeller_ref", "source", "verdict", "sample_id")
        await self._session.execute(insert(_LABEL).from_select(columns, row).on_conflict_do_nothing())

    async def labelled(self, sample_id: str, most: int) -> Sequence[LabelledDecision]:
        """See the port."""
        wanted = or_(
            and_(_DECISION.c.band == int(Band.MATCH), _LABEL.c.sample_id == sample_id),
            and_(_DECISION.c.band == int(Band.REVIEW), _LABEL.c.sample_id == ""),
        )
        query = (
            select(_LABEL, _DECISION.c.subscriber_id, _DECISION.c.band, _DECISION.c.scores)
            .select_from(_LABEL.join(_DECISION, _DECISION.c.decision_id == _LABEL.c.decision_id))
            .where(wanted)
            .order_by(_LABEL.c.decision_id.desc(), _LABEL.c.labeller_ref)
            .limit(most)
        )
        return [
            LabelledDecision(
                GivenLabel(row.decision_id, row.labeller_ref, row.source, row.verdict, row.sample_id),
                row.subscriber_id,
                Band(row.band),
                row.scores,
            )
            for row in await self._session.execute(query)
        ]

    async def put(self, evaluation: KeptEvaluation, now: datetime) -> None:
        """See the port."""
        values = {"evaluation_id": evaluation.evaluation_id, "body": evaluation.body, "create_time": now}
        await self._session.execute(insert(_EVALUATION).values(values))

    async def get(self, evaluation_id: str) -> KeptEvaluation | None:
        """See the port."""
        found = await self._found(_EVALUATION.c.evaluation_id == evaluation_id, 1)
        return found[0] if found else None

    async def page(self, before: str, most: int) -> Sequence[KeptEvaluation]:
        """See the port."""
        return await self._found(_EVALUATION.c.evaluation_id < before if before else true(), most)

    async def _found(self, where: ColumnElement[bool], most: int) -> Sequence[KeptEvaluation]:
        adopted = _CHANGE.c.evaluation_id.is_not(None)
        query = (
            select(_EVALUATION.c.evaluation_id, _EVALUATION.c.body, adopted.label("adopted"))
            .select_from(_EVALUATION.outerjoin(_CHANGE, _CHANGE.c.evaluation_id == _EVALUATION.c.evaluation_id))
            .where(where)
            .order_by(_EVALUATION.c.evaluation_id.desc())
            .limit(most)
        )
        return [KeptEvaluation(*row) for row in await self._session.execute(query)]

    async def in_force(self, rules_sha256: bytes) -> ThresholdInForce | None:
        """See the port."""
        query = (
            select(_CHANGE.c.number, _CHANGE.c.to_milli)
            .where(_CHANGE.c.rules_sha256 == rules_sha256)
            .order_by(_CHANGE.c.number.desc())
            .limit(1)
        )
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else ThresholdInForce(*row)

    async def change(
        self,
        evaluation_id: str,
        number: int,
        rules: str,
        rules_sha256: bytes,
        to_milli: int,
        proposal_id: str,
        now: datetime,
    ) -> None:
        """See the port."""
        values = {
            "evaluation_id": evaluation_id,
            "number": number,
            "rules": rules,
            "rules_sha256": rules_sha256,
            "to_milli": to_milli,
            "proposal_id": proposal_id,
            "create_time": now,
        }
        await self._session.execute(insert(_CHANGE).values(values))


async def calibrated(shipped: FaceRules, database: Database) -> FaceRules:
    """The rules that a starting replica goes by."""
    async with database.begin() as session:
        return in_force(shipped, await SqlCalibration(session).in_force(fingerprint(shipped)))
