"""Does what platforms write back find its request, once, and does a person get what is not clear?"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from sqlalchemy import text

from misuse.removal.v1 import removal_service_pb2 as pb
from services.removal.adapters.maildir import Maildir
from services.removal.adapters.reply_hook import ReplyHook, signature
from services.removal.adapters.ways import Sending
from services.removal.domain.replies import MOST_REPLIES, Outcome, Reply
from services.removal.domain.request import attempt_id
from services.removal.handlers.replying import receive
from tests.integration.removal.world import ADDRESS, Running, World, as_error, with_partner
from tests.simulators.pages import Pages
from tests.simulators.platform import PlatformSimulator

SECRET = "shared with naver"


@pytest.fixture
async def hook(world: World) -> AsyncIterator[str]:
    """Address of the web hook."""
    server = await ReplyHook({"naver": SECRET}, partial(receive, world.removal.needs)).serve("127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/replies"


async def post(hook: str, platform: str = "naver", *, secret: str = SECRET, age: int = 0, **fields: str) -> int:
    """Calls the hook as a platform does; returns the status."""
    body, at = json.dumps({"message_id": "m-1", **fields}).encode(), int(time.time()) - age
    headers = {"X-Jikimi-Time": str(at), "X-Jikimi-Signature": signature(secret, platform, at, body).decode()}
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.post(f"{hook}/{platform}", content=body, headers=headers)).status_code


async def filed(world: World, platform: str = "naver") -> tuple[str, pb.RemovalRequest]:
    """A subscriber and their request, sent."""
    person = await world.person()
    await world.packed(person, platform)
    await world.work()
    return person, await world.only(person)


async def test_a_signed_hook_moves_the_request_that_it_names_once(world: World, hook: str) -> None:
    world.platform.mailroom.tell("naver", "silent")
    person, request = await filed(world)
    assert pb.REMOVAL_STATE_SUBMITTED == request.state
    ours = attempt_id(request.removal_request_id, 1)
    statuses = [await post(hook, your_reference=ours, reference="N-77", status="ACCEPTED") for _ in range(2)]
    assert [202, 202] == statuses
    received = await world.only(person)
    assert (pb.REMOVAL_STATE_RECEIVED, "N-77") == (received.state, received.attempts[0].reference)
    assert ["RemovalSubmitted", "RemovalReceived"] == await world.events()
    assert [("APPLIED", "")] == await world.notes("REPLY")


async def test_a_hook_that_only_names_the_platforms_reference_is_matched(world: World, hook: str) -> None:
    person, request = await filed(world)
    reference = request.attempts[0].reference
    assert 202 == await post(hook, reference=reference, status="REJECTED", reason="EVIDENCE_INSUFFICIENT")
    rejected = await world.only(person)
    assert (pb.REMOVAL_STATE_REJECTED, "EVIDENCE_INSUFFICIENT") == (rejected.state, rejected.reason)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"secret": "guessed"}, 401),
        ({"age": 3600}, 401),
        ({"platform": "kakao"}, 401),
        ({"reference": "nobody's"}, 404),
        ({"reference": ""}, 400),
        ({"text": "x" * 70_000}, 413),
    ],
)
async def test_a_hook_that_is_not_in_order_changes_nothing(
    world: World, hook: str, fields: dict[str, Any], status: int
) -> None:
    person, request = await filed(world)
    given = {"reference": request.attempts[0].reference, "status": "REMOVED", **fields}
    assert status == await post(hook, **given)
    assert request == await world.only(person)


async def test_nobody_fills_the_database_with_replies(world: World) -> None:
    _, request = await filed(world)
    reference = request.attempts[0].reference
    needs = world.removal.needs
    outcomes = [
        await receive(needs, Reply("HOOK", f"m-{number}", "?", references=(reference,), platform="naver"))
        for number in range(MOST_REPLIES + 1)
    ]
    assert [Outcome.UNCLEAR] * MOST_REPLIES + [Outcome.TOO_MANY] == outcomes


async def test_a_decision_shows_that_the_request_was_received(world: World, hook: str) -> None:
    world.platform.mailroom.tell("naver", "silent")
    person, request = await filed(world)
    ours = attempt_id(request.removal_request_id, 1)
    assert 202 == await post(hook, your_reference=ours, text="해당 게시물은 30일간 임시조치되었습니다.")
    blocked = await world.only(person)
    assert pb.REMOVAL_STATE_TEMP_BLOCKED == blocked.state
    assert blocked.HasField("receive_time") and blocked.HasField("block_until_time")
    assert ["RemovalSubmitted", "RemovalReceived", "RemovalBlockedTemporarily"] == await world.events()


# --- mail ---


def deliver(folder: Path, name: str, body: str, *, signed: str = "naver.com", **headers: str) -> None:
    """What the relay would lay into the maildir."""
    message = EmailMessage()
    message["Authentication-Results"] = f"mx.jikimi.test; dkim=pass header.d={signed}"
    message["From"], message["Message-ID"] = f"help@{signed}", f"<{name}@{signed}>"
    for header, value in headers.items():
        message[header.replace("_", "-")] = value
    message.set_content(body)
    (folder / "new").mkdir(parents=True, exist_ok=True)
    (folder / "new" / name).write_bytes(message.as_bytes())


async def test_a_mailed_reply_is_taken_in_and_deleted(world: World, tmp_path: Path) -> None:
    person, request = await filed(world)
    ours = attempt_id(request.removal_request_id, 1)
    deliver(tmp_path, "1", "요청하신 게시물이 삭제되었습니다.", In_Reply_To=f"<{ours}@jikimi.invalid>")
    maildir = Maildir(tmp_path, "mx.jikimi.test", partial(receive, world.removal.needs))
    assert (1, 0) == (await maildir.take(), await maildir.take())
    assert "PLATFORM_SAYS_REMOVED" == (await world.only(person)).reason
    assert [] == list((tmp_path / "new").iterdir())


async def test_an_unclear_reply_waits_for_a_person_who_settles_it(world: World, tmp_path: Path) -> None:
    person, request = await filed(world)
    ours = attempt_id(request.removal_request_id, 1)
    deliver(tmp_path, "1", "홍길동님, 담당자가 부재중입니다.", Subject=f"Re: ({ours})")
    await Maildir(tmp_path, "mx.jikimi.test", partial(receive, world.removal.needs)).take()
    assert request == await world.only(person)

    waiting = await world.stub.ListPlatformReplies(pb.ListPlatformRepliesRequest(), metadata=world.operator())
    [reply] = waiting.replies
    assert ("UNCLEAR", request.removal_request_id) == (reply.outcome, reply.removal_request_id)
    assert "부재중" in reply.text
    async with world.database.begin() as session:
        stored = str(await session.scalar(text("SELECT array_agg(r::text) FROM platform_reply r")))
    assert "홍길동" not in stored and "홍길동".encode().hex() not in stored

    settled = {"reply_id": reply.reply_id, "reason": "EVIDENCE_INSUFFICIENT"}
    await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_REJECTED, **settled)
    left = await world.stub.ListPlatformReplies(pb.ListPlatformRepliesRequest(), metadata=world.operator())
    assert [] == list(left.replies)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_REJECTED, reply_id=request.removal_request_id)
    assert "ILLEGAL_TRANSITION" == as_error(caught)


@pytest.mark.parametrize("signed", ["evil.example", "naver.com.evil.example"])
async def test_a_mail_that_anybody_could_have_sent_moves_nothing(world: World, tmp_path: Path, signed: str) -> None:
    person, request = await filed(world)
    ours = attempt_id(request.removal_request_id, 1)
    deliver(tmp_path, "1", "요청하신 게시물이 삭제되었습니다.", signed=signed, Subject=ours)
    await Maildir(tmp_path, "mx.jikimi.test", partial(receive, world.removal.needs)).take()
    assert request == await world.only(person)
    assert [("NOT_PROVED", "SENDER_NOT_PROVED")] == await world.notes("REPLY")


async def test_a_forged_result_below_the_relays_own_is_not_believed(world: World, tmp_path: Path) -> None:
    person, request = await filed(world)
    ours = attempt_id(request.removal_request_id, 1)
    deliver(tmp_path, "1", "삭제되었습니다.", Subject=ours)
    mail = (tmp_path / "new" / "1").read_bytes()
    (tmp_path / "new" / "1").write_bytes(b"Authentication-Results: mx.jikimi.test; dkim=fail\n" + mail)
    await Maildir(tmp_path, "mx.jikimi.test", partial(receive, world.removal.needs)).take()
    assert request == await world.only(person)


async def test_a_mail_about_nothing_of_ours_is_left_to_a_person(world: World, tmp_path: Path) -> None:
    deliver(tmp_path, "1", "광고입니다", Subject="특가")
    (tmp_path / "new" / "2").write_bytes(b"\xff\xfe no mail at all")
    assert 2 == await Maildir(tmp_path, "mx.jikimi.test", partial(receive, world.removal.needs)).take()
    assert ["1:2,F", "2:2,F"] == sorted(file.name for file in (tmp_path / "cur").iterdir())


# --- APIs ---


async def test_an_api_takes_a_request_once_and_its_status_counts_where_nobody_may_look(
    migrated: str, tmp_path: Path, platform: PlatformSimulator
) -> None:
    sending = Sending(on=True, redirects=platform.endpoints(), api_tokens={"partner": "t"})
    policies = with_partner(tmp_path)
    with Pages() as pages:
        pages.tell(ADDRESS, "hidden")
        async with Running(migrated, tmp_path / "a", platform, sending, watcher=pages, policies=policies) as world:
            platform.mailroom.tell("partner", "lost_answer")
            person, _ = await filed(world, "partner")
            await world.later(seconds=5)
            received = await world.only(person)
            assert (pb.REMOVAL_STATE_RECEIVED, "PARTNER-0001") == (received.state, received.attempts[0].reference)
            assert 1 == len(world.forms)
            await world.later(hours=1)
            assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state
            platform.mailroom.state("partner", "PARTNER-0001", "DELETED")
            await world.later(hours=2)
            removed = await world.only(person)
            assert (pb.REMOVAL_STATE_REMOVED, "STATUS_API") == (removed.state, removed.reason)


async def test_the_same_reply_twice_says_so(world: World) -> None:
    _, request = await filed(world)
    reply = Reply("HOOK", "m", "", references=(request.attempts[0].reference,), status="REMOVED", platform="naver")
    needs = world.removal.needs
    assert [Outcome.APPLIED, Outcome.REPEATED] == [await receive(needs, reply), await receive(needs, reply)]
