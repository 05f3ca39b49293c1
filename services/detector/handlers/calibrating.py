"""How do labels reach the threshold of faces? Evaluated, recorded, approved by two people, adopted; no other way."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from misuse.detector.v1 import calibration_service_pb2 as pb
from misuse.log.v1 import record_pb2 as log
from services.chassis.clock import Clock
from services.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from services.chassis.grants import Grant
from services.chassis.ids import uuid7
from services.chassis.tokens import current_actor
from services.detector.domain.calibration import (
    ADJUDICATOR,
    REVIEWER,
    THRESHOLD,
    CalibrationRules,
    Evaluation,
    GivenLabel,
    Labelled,
    evaluate,
    fingerprint,
    in_force,
    settled,
)
from services.detector.domain.decisions import Band
from services.detector.domain.faces import FaceRules
from services.detector.handlers.records import signed
from services.detector.ports import Begin, KeptEvaluation, LabelledDecision, Work
from services.detector.sealing import References, Vault
from services.detector.translate import stamp

GRANT_KIND = "THRESHOLD"
_ONE_CHANGE = b"threshold change"
VerifyGrant = Callable[[bytes, bytes, datetime], Grant]
"""Checks (grant, body, now). Raises PermissionDenied with a reason that begins with GRANT_."""


@dataclass(frozen=True)
class Calibrating:
    """Evaluates labels, and adopts what two people made of an evaluation."""

    begin: Begin
    vault: Vault
    clock: Clock
    references: References
    shipped: FaceRules
    """The rules as they stand in the file."""
    rules: CalibrationRules
    verify: VerifyGrant

    async def labelled(self, work: Work, label: GivenLabel) -> None:
        """Keeps what somebody said of a decision, in the transaction of its record."""
        if label.source in (REVIEWER, ADJUDICATOR):
            await work.calibration.label(label)

    async def evaluate(self, request: pb.EvaluateThresholdsRequest) -> pb.ThresholdEvaluation:
        """Evaluates a sample's labels once; a repeat gets the same."""
        now, caller = self.clock.now(), current_actor().subject
        async with self.begin() as work:
            if known := await work.recall(caller, "EvaluateThresholds", request):
                return await _kept(work, known)
            given = await work.calibration.labelled(request.sample_id, self.rules.most_labels)
            faces = await self._in_force(work)
            found = evaluate(list(self._scored(given)), faces.second_match, self.rules)
            made = self._message(uuid7(), request.sample_id, found, now)
            await work.calibration.put(KeptEvaluation(made.evaluation_id, made.SerializeToString()), now)
            record = self._record(made.evaluation_id, now)
            record.threshold_evaluation_log.CopyFrom(
                log.ThresholdEvaluationLog(
                    evaluation_id=made.evaluation_id,
                    sample_id=made.sample_id,
                    rules=faces.name,
                    outcome=made.outcome,
                    labels=made.labels,
                    right=made.right,
                    change_sha256=_digest(made.change) if made.HasField("change") else b"",
                    rule_version=made.rule_version,
                )
            )
            work.record(made.evaluation_id, record)
            await work.remember(caller, "EvaluateThresholds", request, made.evaluation_id)
        return made

    async def adopt(self, request: pb.AdoptThresholdsRequest) -> pb.ThresholdEvaluation:
        """Takes an evaluation's change by the grant of two people. Raises as the contract says."""
        now, caller, change = self.clock.now(), current_actor().subject, request.change
        async with self.begin() as work:
            await work.one_at_a_time(_ONE_CHANGE)
            if known := await work.recall(caller, "AdoptThresholds", request):
                return await _kept(work, known)
            grant = self.verify(request.grant, change.SerializeToString(deterministic=True), now)
            made = await _kept(work, change.evaluation_id)
            before = await self._in_force(work)
            _check(made, change, before, fingerprint(self.shipped), now)
            number = before.calibrated + 1
            await work.calibration.change(
                change.evaluation_id,
                number,
                change.rules,
                change.rules_sha256,
                change.to_milli,
                grant.grant_id,
                now,
            )
            record = self._record(change.evaluation_id, now)
            record.entity_version = 2
            record.threshold_change_log.CopyFrom(
                log.ThresholdChangeLog(
                    evaluation_id=change.evaluation_id,
                    proposal_id=grant.grant_id,
                    from_rules=before.name,
                    to_rules=(await self._in_force(work)).name,
                    change_sha256=_digest(change),
                )
            )
            work.record(change.evaluation_id, record)
            await work.remember(caller, "AdoptThresholds", request, change.evaluation_id)
            return await _kept(work, change.evaluation_id)

    async def page(self, before: str, most: int) -> Sequence[pb.ThresholdEvaluation]:
        """Evaluations, newest first, below an id if given."""
        async with self.begin() as work:
            return [_opened(each) for each in await work.calibration.page(before, most)]

    async def _in_force(self, work: Work) -> FaceRules:
        return in_force(self.shipped, await work.calibration.in_force(fingerprint(self.shipped)))

    def _scored(self, given: Sequence[LabelledDecision]) -> Iterable[Labelled]:
        """Settled decisions whose reach is known. An alert that the first look made has none: no threshold drops it."""
        words = settled(each.label for each in given)
        for decision_id, each in {each.label.decision_id: each for each in given}.items():
            sealed = self.vault.open(each.subscriber_id, "decision", decision_id, "scores", each.scores)
            scores = json.loads(sealed) if sealed else {}
            if decision_id not in words or "reach" not in scores:
                continue
            alert, reach = each.band is Band.MATCH, scores["reach"]
            if alert or reach is not None:
                yield Labelled(alert, words[decision_id], math.inf if reach is None else float(reach))

    def _message(
        self, evaluation_id: str, sample_id: str, found: Evaluation, now: datetime
    ) -> pb.ThresholdEvaluation:
        made = pb.ThresholdEvaluation(
            evaluation_id=evaluation_id,
            sample_id=sample_id,
            outcome=found.outcome.value,
            labels=found.labels,
            right=found.right,
            kept=found.kept,
            kept_right=found.kept_right,
            added=found.added,
            added_right=found.added_right,
            precision_milli=math.floor(1000 * found.precision),
            create_time=stamp(now),
            expire_time=stamp(now + self.rules.valid),
            rule_version=self.rules.name,
        )
        if found.proposes:
            made.change.CopyFrom(
                pb.ThresholdChange(
                    evaluation_id=evaluation_id,
                    rules=f"{self.shipped.id}-{self.shipped.version}",
                    rules_sha256=fingerprint(self.shipped),
                    threshold=THRESHOLD,
                    from_milli=round(1000 * found.at),
                    to_milli=round(1000 * found.to),
                )
            )
        return made

    def _record(self, evaluation_id: str, now: datetime) -> log.LogRecord:
        record = log.LogRecord(
            entity="threshold_evaluation", entity_id=evaluation_id, entity_version=1, occur_time=stamp(now)
        )
        return signed(record, self.references)


def _check(
    made: pb.ThresholdEvaluation, change: pb.ThresholdChange, faces: FaceRules, shipped: bytes, now: datetime
) -> None:
    if made.adopted:
        raise AlreadyExists("ADOPTED_BEFORE", "What this evaluation proposed was adopted before.")
    if not made.HasField("change") or made.change != change:
        raise _refused("CHANGE_DIFFERS", "The evaluation proposed something else, or nothing.")
    if now >= made.expire_time.ToDatetime(UTC):
        raise _refused("EVALUATION_EXPIRED", "The evaluation is too old; evaluate again.")
    if change.rules_sha256 != shipped or change.from_milli != round(1000 * faces.second_match):
        raise _refused("RULES_CHANGED", "The rules are no longer those that were evaluated; evaluate again.")


def _refused(reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(reason, message, violations=[("change", reason)])


async def _kept(work: Work, evaluation_id: str) -> pb.ThresholdEvaluation:
    kept = await work.calibration.get(evaluation_id)
    if kept is None:
        raise NotFound("NO_SUCH_EVALUATION", "There is no such evaluation.")
    return _opened(kept)


def _opened(kept: KeptEvaluation) -> pb.ThresholdEvaluation:
    made = pb.ThresholdEvaluation.FromString(kept.body)
    made.adopted = kept.adopted
    return made


def _digest(change: pb.ThresholdChange) -> bytes:
    return hashlib.sha256(change.SerializeToString(deterministic=True)).digest()
