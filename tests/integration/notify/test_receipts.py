"""Is it known whether a message to a contact has arrived, and does the next way follow where it has not?"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest

from misuse.notify.v1 import notify_service_pb2 as pb
from services.chassis.clock import ManualClock
from services.chassis.config import ConfigError
from services.chassis.ids import uuid7
from services.chassis.maildir import Maildir
from services.notify.adapters.hooks import signature
from services.notify.adapters.intake import Intake
from services.notify.adapters.mail import Mail, Relay
from services.notify.adapters.receipts import ReceiptHook, take_mail
from services.notify.ports import Message, Words
from tests.integration.notify.test_ways import name_contact, reaching, until
from tests.integration.notify.world import World, opened
from tests.simulators.ways import Ways

SECRET = b"a secret of the gateways, long"
PHONE, ADDRESS = "+821000000000", "somebody@example.com"


@pytest.fixture
def ways() -> Iterator[Ways]:
    """A push gateway, an SMS gateway and a mailbox."""
    with Ways() as simulated:
        yield simulated


@pytest.fixture
async def world(database: str, tmp_path: Path, ways: Ways) -> AsyncIterator[World]:
    """The service with all ways to the simulators."""
    async with reaching(database, tmp_path, ways) as made:
        yield made


@pytest.fixture
async def door(world: World) -> AsyncIterator[str]:
    """Where the SMS gateway calls back."""
    server = await ReceiptHook(SECRET, world.notify.falling_back.take).serve("127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/receipts/sms"


async def post(door: str, content: bytes, *, secret: bytes = SECRET, age_s: int = 0) -> int:
    """The status that a call back gets."""
    stamp = str(int(time.time()) - age_s)
    headers = {
        "webhook-id": "one",
        "webhook-timestamp": stamp,
        "webhook-signature": signature(secret, "one", stamp, content),
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.post(door, content=content, headers=headers)).status_code


async def say(door: str, key: str, status: str, reason: str = "") -> int:
    return await post(door, json.dumps({"key": key, "status": status, "reason": reason}).encode())


async def steps(world: World) -> list[tuple[str, str, str]]:
    """What was done on alternative paths, in order."""
    return [(r.action, r.path, r.reason) for r in await world.records() if r.path in ("SMS", "EMAIL", "INBOX")][1:]


async def texted(world: World, ways: Ways, *, mail: bool = False) -> str:
    """A person without a device was sent a text message. Returns its key."""
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_SMS, PHONE)
    if mail:
        await name_contact(world, person, pb.NOTICE_PATH_EMAIL, ADDRESS)
    await world.feed(opened(person))
    await until(ways.texts)
    await world.until("HANDED_OVER")
    return str(ways.texts[0]["key"])


async def mailed(world: World, ways: Ways) -> str:
    """A person without a device was sent a mail. Returns its key."""
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, ADDRESS)
    await world.feed(opened(person))
    await until(ways.mails)
    await world.until("HANDED_OVER")
    return str(ways.mails[0]["Message-ID"])[1:37]


def report(key: str, action: str, status: str, *, envelope: bool = True) -> bytes:
    """A delivery status notification as Postfix writes it (RFC 3464, its example in appendix E as pattern)."""
    envelope_id = f"Original-Envelope-Id: {key}\n" if envelope else ""
    return f"""From: MAILER-DAEMON@mx.example.com
To: notice@jikimi.invalid
Subject: Delivery Status Notification
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

What became of your message to {ADDRESS}.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com
{envelope_id}
Final-Recipient: rfc822; {ADDRESS}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 {ADDRESS} is unknown here

--b
Content-Type: text/rfc822-headers

From: notice@jikimi.invalid
Message-ID: <{key}@jikimi.invalid>

--b--
""".encode()


async def deliver(world: World, folder: Path, *mails: bytes) -> None:
    """Puts mails into a maildir and has them taken in."""
    (folder / "new").mkdir(parents=True, exist_ok=True)
    for number, mail in enumerate(mails):
        (folder / "new" / str(number)).write_bytes(mail)
    await Maildir(folder, partial(take_mail, world.notify.falling_back.take)).take()


async def test_the_gateways_word_makes_a_text_message_delivered_once(world: World, ways: Ways, door: str) -> None:
    key = await texted(world, ways)
    assert [202, 202] == [await say(door, key, "delivered"), await say(door, key, "delivered")]
    # A later word that it failed is not believed of what has arrived.
    assert 202 == await say(door, key, "failed", "ABSENT")
    assert [("FALLBACK", "SMS", ""), ("HANDED_OVER", "SMS", ""), ("DELIVERED", "SMS", "")] == await steps(world)


async def test_a_text_message_that_never_arrives_is_followed_by_a_mail(world: World, ways: Ways, door: str) -> None:
    key = await texted(world, ways, mail=True)
    assert [202, 202] == [await say(door, key, "failed", "ABSENT"), await say(door, key, "failed", "ABSENT")]
    await until(ways.mails)
    await world.until("HANDED_OVER", 2)
    assert [
        ("FALLBACK", "SMS", ""),
        ("HANDED_OVER", "SMS", ""),
        ("SEND_FAILED", "SMS", "ABSENT"),
        ("HANDED_OVER", "EMAIL", ""),
    ] == await steps(world)
    assert (1, 1) == (len(ways.texts), len(ways.mails))


async def test_a_receipt_that_is_forged_old_unknown_or_malformed_changes_nothing(
    world: World, ways: Ways, door: str
) -> None:
    key = await texted(world, ways)
    good = json.dumps({"key": key, "status": "delivered"}).encode()
    assert 401 == await post(door, good, secret=b"another secret of somebody")
    assert 401 == await post(door, good, age_s=600)
    assert 404 == await say(door, uuid7(), "delivered")
    assert [400, 400] == [await say(door, key, "read"), await post(door, b"[]")]
    assert [("FALLBACK", "SMS", ""), ("HANDED_OVER", "SMS", "")] == await steps(world)


@pytest.mark.parametrize("envelope", [True, False])
async def test_a_mail_that_bounces_leaves_the_badge(
    world: World, ways: Ways, tmp_path: Path, envelope: bool
) -> None:
    key = await mailed(world, ways)
    await deliver(world, tmp_path / "mail", report(key, "failed", "5.1.1", envelope=envelope))
    await world.until("UNDELIVERABLE")
    assert [
        ("FALLBACK", "EMAIL", ""),
        ("HANDED_OVER", "EMAIL", ""),
        ("SEND_FAILED", "EMAIL", "DSN_5_1_1"),
        ("UNDELIVERABLE", "INBOX", "NO_WAY_LEFT"),
    ] == await steps(world)


async def test_what_a_mail_server_reports_is_applied_and_never_kept(
    world: World, ways: Ways, tmp_path: Path
) -> None:
    key, folder = await mailed(world, ways), tmp_path / "mail"
    await deliver(
        world,
        folder,
        report(key, "delayed", "4.4.7"),
        report(key, "relayed", "2.0.0"),
        report(uuid7(), "failed", "5.1.1"),
        report(key, "delivered", "2.0.0"),
        b"From: somebody@example.com\nSubject: who are you?\n\nhello\n",
    )
    assert ("DELIVERED", "EMAIL", "") == (await steps(world))[-1]
    assert 3 == len(await steps(world))
    # The letter of a person waits for a person; reports name recipients and are gone.
    assert ([], ["4:2,F"]) == (list((folder / "new").iterdir()), [file.name for file in (folder / "cur").iterdir()])


async def test_a_mail_that_was_taken_is_sent_whatever_the_relay_says_to_the_farewell() -> None:
    with _Relay(farewell="421 too busy to say good-bye") as relay:
        mail = Mail(Relay("127.0.0.1", relay.port, "notice@jikimi.invalid", "x@message.invalid"), ManualClock(_NOW))
        sent = await mail.send(Message(uuid7(), ADDRESS, "지킴이", Words("제목", "본문"), "ko", False))
    assert ("", False, "quit") == (sent.reason, sent.again, relay.heard[-1])


async def test_a_relay_that_can_is_asked_to_report_under_our_key() -> None:
    with _Relay() as relay:
        mail = Mail(Relay("127.0.0.1", relay.port, "notice@jikimi.invalid", "x@message.invalid"), ManualClock(_NOW))
        key = uuid7()
        sent = await mail.send(Message(key, ADDRESS, "지킴이", Words("제목", "본문"), "ko", False))
    assert "" == sent.reason
    assert f"mail FROM:<notice@jikimi.invalid> RET=HDRS ENVID={key}" in relay.heard
    assert f"rcpt TO:<{ADDRESS}> NOTIFY=SUCCESS,FAILURE" in relay.heard


def test_a_door_without_a_secret_is_not_opened() -> None:
    with pytest.raises(ConfigError):
        Intake.from_env({"JIKIMI_NOTIFY_RECEIPTS_LISTEN": "127.0.0.1:1"}, b"")


_NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class _Relay(socketserver.ThreadingTCPServer):
    """A relay that says it can report (RFC 3461), and notes what it hears; for one mail."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, farewell: str = "221 bye") -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.farewell = farewell
        self.port: int = self.server_address[1]
        self.heard: list[str] = []

    def __enter__(self) -> _Relay:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Relay)
        self.wfile.write(b"220 relay\r\n")
        body = False
        for line in self.rfile:
            words = line.decode().rstrip("\r\n")
            self.server.heard.append(words)
            if body and words != ".":
                continue
            verb, body = words[:4].lower(), words[:4].lower() == "data"
            farewell = f"{self.server.farewell}\r\n".encode()
            answers = {"ehlo": b"250-relay\r\n250 DSN\r\n", "data": b"354 go on\r\n", "quit": farewell}
            self.wfile.write(answers.get(verb, b"250 OK\r\n"))
            if verb == "quit":
                return
