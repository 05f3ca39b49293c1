"""Do labels reach the threshold of faces, and only evaluated, recorded and approved by two people?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import grpc.aio
import pytest
from nacl.signing import SigningKey

from misuse.common.v1.access_pb2 import ROLE_UNSPECIFIED
from misuse.detector.v1 import calibration_service_pb2 as pb
from misuse.detector.v1.calibration_service_pb2_grpc import CalibrationServiceStub
from misuse.log.v1.record_pb2 import LabelLog, LogRecord
from services.chassis.bus import Event
from services.chassis.grants import KEY_ID, Grant, sign_grant
from services.chassis.ids import uuid7
from services.chassis.tokens import create_key_pair
from services.detector.adapters.calibration import calibrated
from services.detector.consumer import label_handlers
from services.detector.domain.decisions import Band, MatchKind
from services.detector.ports import StoredDecision
from tests.integration.detector.conftest import World, running

LABELS = 40


@dataclass
class Approvers:
    """The key that signs grants, as the approval service holds it."""

    folder: Path
    key_id = KEY_ID

    def __post_init__(self) -> None:
        create_key_pair(self.folder / "private", self.folder / "public", KEY_ID, [ROLE_UNSPECIFIED])

    def sign(self, content: bytes) -> bytes:
        seed = (self.folder / "private" / f"{KEY_ID}.key").read_text(encoding="ascii").split()[1]
        return SigningKey(bytes.fromhex(seed)).sign(content).signature

    def grant(self, world: World, change: pb.ThresholdChange, kind: str = "THRESHOLD") -> bytes:
        now, body = world.clock.now(), change.SerializeToString(deterministic=True)
        made = Grant(
            uuid7(), kind, sha256(body).digest(), "a" * 16, ("b" * 16, "c" * 16), now, now + timedelta(hours=1)
        )
        return sign_grant(made, "detector", self)


@pytest.fixture
async def patient(empty_url, tmp_path, heavy) -> AsyncIterator[World]:
    """A detector that few labels suffice."""
    rules = replace(heavy.rules, calibration=replace(heavy.rules.calibration, least_labels=20))
    async with running(empty_url, tmp_path, replace(heavy, rules=rules)) as world:
        yield world


async def decided(world: World, reach: float | None, count: int) -> list[str]:
    """Alerts about one subscriber's face whose second look would be enough up to a threshold."""
    who, made = await world.register(), [uuid7() for _ in range(count)]
    scores = json.dumps({"score": 0.6, "margin": 1.0, "reach": reach}).encode()
    async with world.database.begin() as session:
        work = world.detector.store.within(session)
        vault = world.detector.calibrating.vault
        stored = [
            StoredDecision(
                each,
                sha256(each.encode()).digest(),
                who,
                Band.MATCH,
                MatchKind.FACE,
                "t",
                vault.seal(who, "decision", each, "scores", scores),
                None,
            )
            for each in made
        ]
        await work.decisions.add(stored, world.clock.now())
    return made


async def labelled(world: World, decisions: list[str], verdict: str, sample_id: str) -> None:
    """Two people say the same of each, as the records of `case` tell it; once more than once."""
    detector = world.detector
    handler = label_handlers(detector.resolving, detector.calibrating, detector.store.within)[LogRecord]
    logs = LabelLog(source="REVIEWER", verdict=verdict, sample_id=sample_id)
    records = [
        LogRecord(record_id=uuid7(), decision_id=each, actor_ref=person, label_log=logs)
        for each in decisions
        for person in ("1" * 16, "2" * 16)
    ]
    events = [Event("case", 4, at, uuid7(), "", record) for at, record in enumerate(records * 2, 1)]
    async with world.database.begin() as session:
        await handler(session, events)


async def evaluated(world: World, sample_id: str, request_id: str = "e") -> pb.ThresholdEvaluation:
    request = pb.EvaluateThresholdsRequest(sample_id=sample_id, request_id=request_id)
    answer = await CalibrationServiceStub(world.channel).EvaluateThresholds(request, metadata=manager(world))
    return answer.evaluation


async def adopt(world: World, change: pb.ThresholdChange, grant: bytes, request_id: str = "") -> pb.ThresholdEvaluation:
    request = pb.AdoptThresholdsRequest(change=change, grant=grant, request_id=request_id or uuid7())
    answer = await CalibrationServiceStub(world.channel).AdoptThresholds(request, metadata=manager(world))
    return answer.evaluation


async def refusal(world: World, change: pb.ThresholdChange, grant: bytes) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await adopt(world, change, grant)
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    return details.decode("latin-1")


def manager(world: World) -> list[tuple[str, str]]:
    return world.metadata("RELEASE_MANAGER", "RELEASE")


async def wrong_near_the_threshold(world: World, sample_id: str) -> float:
    """A sample with wrong alerts just above the threshold; returns that threshold."""
    at = world.detector.rules.faces.second_match
    await labelled(world, await decided(world, at + 0.1, LABELS), "MATCH", sample_id)
    await labelled(world, await decided(world, at + 0.002, LABELS // 4), "NO_MATCH", sample_id)
    return at


async def test_wrong_labels_raise_the_threshold_once_two_people_allow_it(patient, tmp_path):
    sample_id, approvers = uuid7(), Approvers(tmp_path / "tokens")
    at = await wrong_near_the_threshold(patient, sample_id)
    made = await evaluated(patient, sample_id)
    assert made == await evaluated(patient, sample_id)
    assert ("TIGHTEN", LABELS + LABELS // 4, LABELS) == (made.outcome, made.labels, made.right)
    assert round(1000 * at) == made.change.from_milli
    assert round(1000 * at) + 5 == made.change.to_milli

    shipped = patient.detector.rules.faces
    assert shipped == await calibrated(shipped, patient.database)
    grant = approvers.grant(patient, made.change)
    adopted = await adopt(patient, made.change, grant, "a")
    assert adopted.adopted
    assert adopted == await adopt(patient, made.change, grant, "a")
    assert "ADOPTED_BEFORE" in await refusal(patient, made.change, grant)
    after = await calibrated(shipped, patient.database)
    assert (f"{shipped.name}.1", made.change.to_milli / 1000) == (after.name, after.second_match)

    [said] = await patient.records("threshold_evaluation_log")
    [changed] = await patient.records("threshold_change_log")
    assert (made.evaluation_id, sample_id, "TIGHTEN") == (said.evaluation_id, said.sample_id, said.outcome)
    assert (made.evaluation_id, shipped.name, after.name) == (
        changed.evaluation_id,
        changed.from_rules,
        changed.to_rules,
    )
    assert said.change_sha256 == changed.change_sha256
    assert sha256(made.change.SerializeToString(deterministic=True)).digest() == changed.change_sha256


async def test_without_the_grant_of_two_people_for_this_very_change_nothing_changes(patient, tmp_path):
    sample_id, approvers = uuid7(), Approvers(tmp_path / "tokens")
    await wrong_near_the_threshold(patient, sample_id)
    made = await evaluated(patient, sample_id)
    assert "GRANT_" in await refusal(patient, made.change, b"")
    assert "GRANT_KIND_MISMATCH" in await refusal(patient, made.change, approvers.grant(patient, made.change, "HOLD"))
    more = pb.ThresholdChange()
    more.CopyFrom(made.change)
    more.to_milli += 50
    assert "GRANT_BODY_MISMATCH" in await refusal(patient, more, approvers.grant(patient, made.change))
    assert "CHANGE_DIFFERS" in await refusal(patient, more, approvers.grant(patient, more))
    stray = pb.ThresholdChange()
    stray.CopyFrom(made.change)
    stray.evaluation_id = uuid7()
    assert "NO_SUCH_EVALUATION" in await refusal(patient, stray, approvers.grant(patient, stray))
    patient.clock.advance(patient.detector.rules.calibration.valid)
    assert "EVALUATION_EXPIRED" in await refusal(patient, made.change, approvers.grant(patient, made.change))
    assert patient.detector.rules.faces == await calibrated(patient.detector.rules.faces, patient.database)


@pytest.mark.slow
async def test_two_evaluations_of_one_state_change_it_once(patient, tmp_path):
    sample_id, approvers = uuid7(), Approvers(tmp_path / "tokens")
    await wrong_near_the_threshold(patient, sample_id)
    first, second = await evaluated(patient, sample_id, "1"), await evaluated(patient, sample_id, "2")
    await adopt(patient, first.change, approvers.grant(patient, first.change))
    assert "RULES_CHANGED" in await refusal(patient, second.change, approvers.grant(patient, second.change))
    third = await evaluated(patient, sample_id, "3")
    assert ("KEEP", LABELS, LABELS) == (third.outcome, third.kept, third.kept_right)
    listed = await CalibrationServiceStub(patient.channel).ListThresholdEvaluations(
        pb.ListThresholdEvaluationsRequest(page_size=2), metadata=manager(patient)
    )
    assert [third.evaluation_id, second.evaluation_id] == [each.evaluation_id for each in listed.evaluations]
    rest = await CalibrationServiceStub(patient.channel).ListThresholdEvaluations(
        pb.ListThresholdEvaluationsRequest(page_token=listed.next_page_token), metadata=manager(patient)
    )
    assert [(first.evaluation_id, True)] == [(each.evaluation_id, each.adopted) for each in rest.evaluations]


@pytest.mark.slow
async def test_labels_of_other_samples_and_of_people_erased_do_not_count(patient):
    sample_id, other = uuid7(), uuid7()
    await wrong_near_the_threshold(patient, sample_id)
    assert ("TOO_FEW_LABELS", 0) == ((made := await evaluated(patient, other)).outcome, made.labels)
    assert not made.HasField("change")
    async with patient.database.begin() as session:
        work = patient.detector.store.within(session)
        given = await work.calibration.labelled(sample_id, 1000)
    for who in {each.subscriber_id for each in given}:
        await patient.follow(lambda work, who=who: patient.detector.following.erase(work, who))
    assert 0 == await patient.count("decision_label")
    assert 0 == (await evaluated(patient, sample_id, "later")).labels


async def test_labels_of_decisions_that_are_not_kept_leave_nothing(patient):
    await labelled(patient, [uuid7()], "MATCH", uuid7())
    assert 0 == await patient.count("decision_label")
