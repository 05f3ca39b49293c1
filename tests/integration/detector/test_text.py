"""A text signal on its way from the door to the event."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc.aio
import pytest

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import signal_service_pb2 as signals
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.detector.handlers.deciding import TEXTS
from tests.integration.detector.conftest import running

MOBILE = common.IDENTIFIER_KIND_MOBILE_PHONE
EMAIL = common.IDENTIFIER_KIND_EMAIL
NUMBER = "010-2345-6789"
LEAK = "판매자 정보 공개합니다. 연락처 010 2345 6789 이고 밤에도 전화 받는다고 하네요. 다들 조심하세요."


async def reason_of(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return unwrap(refused.value).reason


async def test_a_watched_number_in_a_post_becomes_one_match(world):
    who = await world.register()
    watch_id = await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal("판매자 연락처 공일공 2345 6789 로 문자 주세요"))
    assert 1 == await world.decide()
    [facts] = await world.facts()
    found = (facts.subscriber_id, list(facts.watch_ids), list(facts.identifier_kinds))
    assert (who, [watch_id], [MOBILE]) == found
    assert 0 == await world.count("spool")


async def test_every_decision_leaves_one_record_and_nobody_leaves_none(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.submit(world.signal("연락처 010-9999-8888 입니다"))
    await world.submit(world.signal("오늘 날씨가 좋네요"))
    await world.decide()
    records = await world.records("match_decision_log")
    assert [common.BAND_MATCH, common.BAND_NONE, common.BAND_NONE] == [record.band for record in records]
    assert [["WATCHED_IDENTIFIER"], ["NOT_WATCHED"], ["NOTHING_FOUND"]] == [list(r.reasons) for r in records]
    assert {world.signal(LEAK).source_type} == {record.source_type for record in records}
    hit = records[0].pii_pattern_match_log.hits[0]
    assert ("text.0", True, MOBILE) == (hit.field, hit.watched, hit.kind)


async def test_what_belongs_to_nobody_is_counted_once_by_kind(world):
    for number in (NUMBER, "010-3456-7890"):
        await world.watched(await world.register(), MOBILE, number)
    await world.submit(world.signal(f"{NUMBER}, 010-3456-7890, 010-9999-8888, a@example.com, 사업자 104-86-56659"))
    await world.submit(world.signal("연락처 010-9999-8888 주민번호 900101-1234567"))
    await world.decide()
    records = await world.records("match_decision_log")
    counted = [[(each.kind, each.count) for each in record.unowned_hits] for record in records]
    resident = common.IDENTIFIER_KIND_RESIDENT_NUMBER
    assert [[], [(MOBILE, 1), (EMAIL, 1)], [(MOBILE, 1), (resident, 1)]] == sorted(counted)


async def test_a_repost_with_other_spacing_joins_the_cluster_and_another_text_does_not(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    for text in (LEAK, LEAK, "퍼옴) " + LEAK.replace(" ", "  ") + " ㅋㅋ", "중고로 카메라 팝니다 문의 010-2345-6789"):
        await world.submit(world.signal(text))
    await world.decide()
    facts = await world.facts()
    assert ["NEW", "SHA256", "TEXT", "NEW"] == [each.cluster_rule for each in facts]
    assert 2 == len({each.cluster_id for each in facts})


async def test_a_number_in_metadata_counts_as_one_in_the_text(world):
    who = await world.register()
    await world.watched(who, EMAIL, "Hong.Gildong@Example.com")
    signal = world.signal("사진 첨부")
    signal.metadata.add(name="exif.Artist", value="hong.gildong@example.com")
    await world.submit(signal)
    await world.decide()
    [facts] = await world.facts()
    assert (who, "") == (facts.subscriber_id, facts.cluster_id)


async def test_two_subscribers_in_one_post_get_a_decision_each_with_one_post_reference(world):
    first, second = await world.register(), await world.register()
    await world.watched(first, MOBILE, NUMBER)
    await world.watched(second, MOBILE, "010-1111-2222")
    await world.submit(world.signal(f"{LEAK} 그리고 010-1111-2222"))
    await world.decide()
    facts = await world.facts()
    assert {first, second} == {each.subscriber_id for each in facts}
    assert 1 == len({each.post_ref for each in facts})
    assert 2 == len({each.cluster_id for each in facts})


async def test_the_masked_text_of_a_capture_shows_no_number(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    [facts] = await world.facts()
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    capture = (await world.signals.GetCapture(request, metadata=world.case)).capture
    assert "판매자 정보" in capture.masked_text
    assert "010 2345" not in capture.masked_text
    assert capture.source_url.startswith("https://board.example/")


async def test_a_watched_value_without_proof_or_past_its_proof_opens_nothing(world):
    who = await world.register()
    await world.watch(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    await world.watched(who, MOBILE, NUMBER)
    world.clock.advance(timedelta(days=181))
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert [] == await world.facts()


async def test_a_proof_that_ran_out_becomes_expired(world):
    who = await world.register()
    watch_id = await world.watched(who, MOBILE, NUMBER)
    world.clock.advance(timedelta(days=181))
    await world.detector.enrolling.expire_watch(watch_id)
    request = enrolment.ListWatchedIdentifiersRequest(subscriber_id=who)
    [listed] = (await world.enrolment.ListWatchedIdentifiers(request, metadata=world.backend)).identifiers
    assert (enrolment.OWNERSHIP_STATE_EXPIRED, True) == (listed.state, listed.masked_value.endswith("6789"))


async def test_suspension_stops_matching_and_resuming_starts_it_again(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    following = world.detector.following
    await world.follow(lambda work: following.suspended(work, who))
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert [] == await world.facts()
    await world.follow(lambda work: following.resumed(work, who, False))
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert 1 == len(await world.facts())


async def test_a_withdrawn_consent_ends_the_watch_at_once(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    following = world.detector.following
    await world.follow(lambda work: following.consent(work, who, 4, False))
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert [] == await world.facts()
    assert 0 == await world.count("watched_identifier WHERE value_ref IS NOT NULL")


async def test_an_erased_subscriber_leaves_no_key_and_no_rows(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    await world.follow(lambda work: world.detector.following.erase(work, who))
    assert world.keys.destroyed(who)
    tables = ("content", "decision", "watched_identifier", "subscriber")
    assert [0, 0, 0, 0] == [await world.count(table) for table in tables]
    assert 1 == len(await world.published("erasure_completed"))


async def test_nobody_watches_without_consent_or_a_national_number(world):
    who = await world.register("SERVICE")
    assert "CONSENT_MISSING" == await reason_of(world.watch(who, MOBILE, NUMBER))
    kind = common.IDENTIFIER_KIND_RESIDENT_NUMBER
    assert "NATIONAL_IDENTIFIER" == await reason_of(world.watch(who, kind, "900101-1234567"))
    assert "MALFORMED" == await reason_of(world.watch(who, MOBILE, "hello"))


async def test_an_assertion_that_proves_something_else_proves_nothing(world):
    who, other = await world.register(), await world.register()
    watch_id = (await world.watch(who, MOBILE, NUMBER)).watch_id
    now = world.clock.now()
    wrong = {
        "UNKNOWN_PROVIDER": {"provider": "somebody"},
        "WRONG_AUDIENCE": {"audience": "jikimi.case"},
        "WRONG_SUBJECT": {"subscriber_id": other},
        "VALUE_DIFFERS": {"value": "010-0000-0000"},
        "EXPIRED": {"issue_time": now - timedelta(hours=1), "expire_time": now - timedelta(minutes=55)},
    }
    for reason, change in wrong.items():
        claims = world.claims(who, watch_id, **{"value": NUMBER, **change})
        assert reason == await reason_of(world.prove(who, claims))
    claims = world.claims(who, watch_id, "+82 10-2345-6789")
    answer = await world.prove(who, claims)
    assert enrolment.OWNERSHIP_STATE_VERIFIED == answer.state
    assert "NONCE_REUSED" == await reason_of(world.prove(who, claims))


async def test_a_signature_by_another_key_is_refused(world):
    who = await world.register()
    watch_id = (await world.watch(who, MOBILE, NUMBER)).watch_id
    content = world.claims(who, watch_id, NUMBER).SerializeToString()
    request = enrolment.VerifyOwnershipRequest(
        subscriber_id=who, watch_id=watch_id, claims=content, signature=bytes(64)
    )
    call = world.enrolment.VerifyOwnership(request, metadata=world.backend)
    assert "BAD_SIGNATURE" == await reason_of(call)


async def test_the_same_request_again_makes_one_watch(world):
    who = await world.register()
    request = enrolment.WatchIdentifierRequest(subscriber_id=who, request_id=uuid7(), kind=MOBILE, value=NUMBER)
    made = [await world.enrolment.WatchIdentifier(request, metadata=world.backend) for _ in range(2)]
    assert made[0] == made[1]
    assert 1 == await world.count("watched_identifier")


async def test_a_subscriber_reaches_only_its_own(world):
    who, other = await world.register(), await world.register()
    watch_id = await world.watched(who, MOBILE, NUMBER)
    mine = world.metadata("SUBSCRIBER", "ENROLMENT", other)
    request = enrolment.UnwatchIdentifierRequest(subscriber_id=other, watch_id=watch_id)
    assert "NO_SUCH_IDENTIFIER" == await reason_of(world.enrolment.UnwatchIdentifier(request, metadata=mine))
    request.subscriber_id = who
    assert "NOT_OWN_SUBJECT" == await reason_of(world.enrolment.UnwatchIdentifier(request, metadata=mine))


async def test_decisions_are_shown_to_operators_only(world):
    signal = world.signal("오늘 날씨가 좋네요")
    await world.submit(signal)
    await world.decide()
    request = signals.GetSignalStatusRequest(signal_id=signal.signal_id)
    seen = await world.signals.GetSignalStatus(request, metadata=world.collector)
    shown = await world.signals.GetSignalStatus(request, metadata=world.metadata("OPERATOR", "CASE_HANDLING"))
    assert (signals.SIGNAL_STATE_DECIDED, 0, 1) == (seen.state, len(seen.decisions), len(shown.decisions))
    assert common.BAND_NONE == shown.decisions[0].band


async def test_a_detector_that_dies_between_taking_and_deciding_decides_once_after_its_restart(
    empty_url, tmp_path, heavy
):
    async with running(empty_url, tmp_path, heavy) as world:
        who = await world.register()
        await world.watched(who, MOBILE, NUMBER)
        await world.submit(world.signal(LEAK))
        async with world.database.begin() as session:
            spool = world.detector.store.within(session).spool
            owner = world.detector.deciding.owner
            until = world.clock.now() + timedelta(days=365)
            assert 1 == len(await spool.take(False, 10, "dead", owner, until))
        assert 0 == await world.detector.deciding.batch(TEXTS)
    async with running(empty_url, tmp_path, heavy) as world:
        assert 1 == await world.decide()
        assert 0 == await world.decide()
        assert 1 == len(await world.facts())


async def test_two_workers_on_one_spool_decide_everything_once(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    for number in range(40):
        await world.submit(world.signal(f"{LEAK} {number}"))
    taken = await asyncio.gather(*(world.decide() for _ in range(4)))
    assert (40, 40) == (sum(taken), len(await world.facts()))


async def test_the_spool_key_is_destroyed_when_its_rows_are_gone(world):
    await world.submit(world.signal("글"))
    sweeping = world.detector.sweeping
    sweeping.settle_seconds = 0.0
    world.clock.advance(timedelta(hours=2))
    await sweeping.sweep()
    assert 1 == await world.count("spool_key")
    await world.decide()
    await sweeping.sweep()
    assert 0 == await world.count("spool_key")
    assert ["SPOOL_KEY"] == [record.item_kind for record in await world.records("purge_log")]


@pytest.mark.slow
async def test_a_subscriber_watches_so_many_identifiers_and_no_more(world, heavy):
    who = await world.register()
    for number in range(heavy.rules.ownership.most_identifiers):
        last = await world.watch(who, MOBILE, f"010-2345-{number:04}")
    assert "TOO_MANY_IDENTIFIERS" == await reason_of(world.watch(who, MOBILE, "010-9999-9999"))
    gone = enrolment.UnwatchIdentifierRequest(subscriber_id=who, watch_id=last.watch_id)
    await world.enrolment.UnwatchIdentifier(gone, metadata=world.backend)
    await world.watch(who, MOBILE, "010-9999-9999")


async def test_a_capture_that_nobody_releases_is_purged_with_a_record(world, heavy):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    world.clock.advance(timedelta(days=heavy.rules.review.capture_days - 1))
    await world.detector.sweeping.sweep()
    assert 1 == await world.count("decision WHERE capture IS NOT NULL")
    world.clock.advance(timedelta(days=2))
    await world.detector.sweeping.sweep()
    assert 0 == await world.count("decision WHERE capture IS NOT NULL")
    assert ["CAPTURE"] == [record.item_kind for record in await world.records("purge_log")]


async def test_one_call_hands_out_the_captures_of_many_decisions_that_are_still_there(world):
    await world.watched(await world.register(), MOBILE, NUMBER)
    for at in range(3):
        await world.submit(world.signal(f"{at} {LEAK}"))
    await world.decide()
    gone, *kept = [each.decision_id for each in await world.facts()]
    await world.signals.ReleaseCapture(signals.ReleaseCaptureRequest(decision_id=gone), metadata=world.case)
    request = signals.GetCaptureRequest(decision_id=gone, further_decision_ids=[*kept, kept[0]])
    answer = await world.signals.GetCapture(request, metadata=world.case)
    assert (False, sorted(kept)) == (
        answer.HasField("capture"),
        sorted(each.decision_id for each in answer.further_captures),
    )
    request = signals.GetCaptureRequest(decision_id=kept[0], further_decision_ids=[gone])
    answer = await world.signals.GetCapture(request, metadata=world.case)
    assert (kept[0], 0) == (answer.capture.decision_id, len(answer.further_captures))
    too_many = signals.GetCaptureRequest(decision_id=gone, further_decision_ids=[gone] * 32)
    assert "TOO_MANY" == await reason_of(world.signals.GetCapture(too_many, metadata=world.case))


async def test_one_call_releases_the_captures_of_many_decisions(world):
    await world.watched(await world.register(), MOBILE, NUMBER)
    for at in range(3):
        await world.submit(world.signal(f"{at} {LEAK}"))
    await world.decide()
    first, *further, kept = [each.decision_id for each in await world.facts()]
    release = signals.ReleaseCaptureRequest(decision_id=first, further_decision_ids=further)
    await world.signals.ReleaseCapture(release, metadata=world.case)
    for gone in (first, *further):
        request = signals.GetCaptureRequest(decision_id=gone)
        assert "NO_SUCH_CAPTURE" == await reason_of(world.signals.GetCapture(request, metadata=world.case))
    request = signals.GetCaptureRequest(decision_id=kept)
    assert kept == (await world.signals.GetCapture(request, metadata=world.case)).capture.decision_id
    too_many = signals.ReleaseCaptureRequest(decision_id=first, further_decision_ids=[first] * 257)
    assert "TOO_MANY" == await reason_of(world.signals.ReleaseCapture(too_many, metadata=world.case))
