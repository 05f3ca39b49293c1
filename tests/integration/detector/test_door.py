"""What the door refuses, and that a refusal harms nobody else."""

from __future__ import annotations

import asyncio
import struct
import zlib
from datetime import timedelta

import grpc.aio
import pytest

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import signal_service_pb2 as signals
from services.chassis.rpc import unwrap
from services.detector.adapters.spool import spool_topic
from services.detector.handlers.intake import Intake


def png(width: int, height: int) -> bytes:
    """A PNG that says it has this size; its pixels are not there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


async def reason_of(call) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = unwrap(refused.value)
    return type(error).__name__, error.reason


BAD = {
    "EMPTY_SIGNAL": lambda w: w.signal(),
    "BAD_SIGNAL_ID": lambda w: w.signal("글", signal_id="no spaces"),
    "UNKNOWN_CHANNEL": lambda w: w.signal("글", channel="nowhere"),
    "MISSING_DISCOVERY_TIME": lambda w: w.signal("글", discover_time=None),
    "TIME_IN_FUTURE": lambda w: w.signal("글", discover_time=w.clock.now() + timedelta(hours=1)),
    "TEXT_TOO_LARGE": lambda w: w.signal("가" * 350_000),
    "TOO_MANY_PARTS": lambda w: w.signal(*["글"] * 17),
    "BAD_URL": lambda w: w.signal("글", source_url="file:///etc/passwd"),
    "UNKNOWN_ENUM": lambda w: w.signal("글", source_type=99),
    "BASIS_MISSING": lambda w: w.signal("글", collection_basis=common.COLLECTION_BASIS_UNSPECIFIED),
    "NOT_AN_IMAGE": lambda w: w.signal(b"hello, I am no picture"),
    "UNSUPPORTED_FORMAT": lambda w: w.signal(b"BM" + bytes(100)),
    "TOO_MANY_PIXELS": lambda w: w.signal(png(13_000, 13_000)),
    "IMAGE_TOO_LARGE": lambda w: w.signal(png(10, 10) + bytes(20 * 1024 * 1024)),
}


async def test_every_bad_signal_is_refused_by_reason_and_recorded_without_content(world):
    for reason, make in BAD.items():
        assert ("InvalidInput", reason) == await reason_of(world.submit(make(world)))
    records = await world.records("signal_intake_log")
    assert list(BAD) == [record.reason for record in records]
    assert 0 == await world.count("spool")


async def test_the_same_signal_again_is_a_duplicate_and_other_content_under_its_id_is_refused(world):
    signal = world.signal("글 하나")
    first, second = await world.submit(signal), await world.submit(signal)
    assert (False, True) == (first.duplicate, second.duplicate)
    signal.parts[0].text = "다른 글"
    assert ("AlreadyExists", "SIGNAL_ID_REUSED") == await reason_of(world.submit(signal))
    assert 1 == await world.count("spool")


async def test_a_signal_that_is_sent_again_with_new_stamps_is_a_duplicate(world):
    signal = world.signal("글 하나")
    await world.submit(signal)
    signal.discover_time.FromDatetime(world.clock.now() - timedelta(seconds=1))
    signal.capture.collector = "second-try"
    signal.capture.fetch_time.FromDatetime(world.clock.now())
    assert (await world.submit(signal)).duplicate
    signal.source_url += "?page=2"
    assert ("AlreadyExists", "SIGNAL_ID_REUSED") == await reason_of(world.submit(signal))


async def test_a_paused_channel_takes_nothing_until_it_is_resumed(world):
    operator = world.metadata("OPERATOR", "COLLECTION")
    pause = channels.PauseChannelRequest(channel="community", paused=True, reason="maintenance")
    await world.channels.PauseChannel(pause, metadata=operator)
    assert ("InvalidInput", "CHANNEL_PAUSED") == await reason_of(world.submit(world.signal("글")))
    pause.paused = False
    answer = await world.channels.PauseChannel(pause, metadata=operator)
    assert 3 == answer.channel.version
    await world.submit(world.signal("글"))


async def test_a_stream_answers_in_order_and_a_bad_signal_does_not_end_it(world):
    sent = [world.signal(f"글 {n}") for n in range(300)]
    sent[7] = world.signal("글", source_url="ftp://x")
    sent[8] = world.signal("글", signal_id="나쁜")

    async def requests():
        for signal in sent:
            yield signals.SubmitSignalsRequest(signal=signal)

    call = world.signals.SubmitSignals(requests(), metadata=world.collector)
    answers = [answer async for answer in call]
    assert list(range(300)) == [answer.sequence for answer in answers]
    assert ["BAD_URL", "BAD_SIGNAL_ID"] == [a.refusal.reason for a in answers if a.HasField("refusal")]
    assert "" == answers[8].signal_id
    assert 298 == await world.count("spool")


async def test_signals_of_one_message_are_answered_together_each_for_itself(world):
    sent = [world.signal(f"글 {n}") for n in range(5)]
    sent[2] = world.signal("글", source_url="ftp://x")
    sent[4].signal_id = sent[0].signal_id
    requests = [
        signals.SubmitSignalsRequest(signal=sent[0], further_signals=sent[1:4]),
        signals.SubmitSignalsRequest(signal=sent[4]),
    ]
    answers = [answer async for answer in world.signals.SubmitSignals(iter(requests), metadata=world.collector)]
    assert [0, 4] == [answer.sequence for answer in answers]
    assert [each.signal_id for each in sent[1:4]] == [each.signal_id for each in answers[0].further_answers]
    assert ["", "BAD_URL", ""] == [each.refusal.reason for each in answers[0].further_answers]
    assert [signals.SIGNAL_STATE_SPOOLED, "SIGNAL_ID_REUSED"] == [answers[0].state, answers[1].refusal.reason]
    assert 3 == await world.count("spool")


async def test_a_message_with_too_many_signals_is_refused_whole_and_the_stream_goes_on(world):
    many = [world.signal(f"글 {n}") for n in range(66)]
    requests = [
        signals.SubmitSignalsRequest(signal=many[0], further_signals=many[1:65]),
        signals.SubmitSignalsRequest(signal=many[65]),
    ]
    answers = [answer async for answer in world.signals.SubmitSignals(iter(requests), metadata=world.collector)]
    assert ["TOO_MANY_SIGNALS", ""] == [answer.refusal.reason for answer in answers]
    assert (0, 1) == (len(answers[0].further_answers), await world.count("spool"))


async def test_a_message_with_bad_utf8_is_refused_and_the_stream_goes_on(world):
    good = signals.SubmitSignalsRequest(signal=world.signal("글")).SerializeToString()
    inner = b"\x0a\x02\xff\xfe"
    bad = b"\x0a" + bytes([len(inner)]) + inner
    method = "/misuse.detector.v1.SignalService/SubmitSignals"
    call = world.channel.stream_stream(method, response_deserializer=signals.SubmitSignalsResponse.FromString)

    async def requests():
        for raw in (bad, good):
            yield raw

    answers = [answer async for answer in call(requests(), metadata=world.collector)]
    assert ["REQUEST_MALFORMED", ""] == [answer.refusal.reason for answer in answers]
    assert ["REQUEST_MALFORMED"] == [record.reason for record in await world.records("signal_intake_log")]
    assert signals.SIGNAL_STATE_SPOOLED == answers[1].state


async def test_a_full_spool_refuses_and_keeps_what_it_has(world):
    detector = world.detector
    counter = detector.signals._counter
    old: Intake = counter._intake
    counter._intake = Intake(
        old._begin, old._keys, old._clock, old._door, old._references, old._channels, most_spool_bytes=2_000
    )
    await world.submit(world.signal("가" * 300))
    assert ("ResourceExhausted", "SPOOL_FULL") == await reason_of(world.submit(world.signal("가" * 900)))
    assert 1 == await world.count("spool")


async def test_a_call_without_the_role_of_a_collector_is_refused(world):
    request = signals.SubmitSignalRequest(signal=world.signal("글"))
    call = world.signals.SubmitSignal(request, metadata=world.metadata("OPERATOR", "COLLECTION"))
    assert ("PermissionDenied", "ROLE_NOT_ALLOWED") == await reason_of(call)


async def test_many_callers_at_once_share_commits(world):
    answers = await asyncio.gather(*(world.submit(world.signal(f"글 {n}")) for n in range(200)))
    assert {signals.SIGNAL_STATE_SPOOLED} == {answer.state for answer in answers}
    assert 200 == await world.count("spool")


async def test_content_lies_sealed_in_every_table(world):
    await world.submit(world.signal("비밀 번호는 010-2345-6789"))
    async with world.database.begin() as session:
        from sqlalchemy import text

        payload = bytes(await session.scalar(text("SELECT payload FROM spool")))
    assert b"010-2345-6789" not in payload


async def test_a_commit_wakes_the_lane_that_it_spooled_for(world):
    texts, pictures = (world.database.wakeup(spool_topic(each)) for each in (False, True))
    await world.submit(world.signal("글"))
    assert (True, False) == (texts.is_set(), pictures.is_set())
