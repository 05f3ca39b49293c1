"""Does any personal data that a system is fed lie in the clear in its logs, spans, broker, tables or files?"""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import nats
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from misuse.detector.v1 import signal_service_pb2 as api
from services.chassis.ids import uuid7
from services.chassis.shown import is_code
from services.chassis.tracing import ATTRIBUTES
from services.console import commands
from services.console.client import connections
from services.console.home import SERVICES
from services.console.provider import TestProvider
from tests.scenario.doors import OPERATOR, Door, signal
from tests.scenario.otlp_sink import OtlpSink, otlp_sink
from tests.scenario.system import ROOT, System, eventually, running_system
from tests.security.canaries import Canary, Finding, Search, metrics_page, search_system

PICTURES = ROOT / ".cache" / "pictures"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PICTURES.exists(), reason="the pictures are not there; `make setup` fetches them"),
]

NAME = "카나리 홍채원"
PHONE = "010-0000-7391"
MAIL = "canary.kestrel7391@example.com"
NATIONAL = "800101-9173915"  # a birth in the 1800s: nobody's
PATH = "kestrel-path-7391/very/private"
POST_ID = "kestrel-post-7391"
AUTHOR = "kestrel_author_7391"
TITLE = "KestrelTitle7391"
REDIRECT = "kestrel-redirect-7391"
CHANCE = random.Random(7391)
COMMENT = CHANCE.randbytes(64)
NOISE = CHANCE.randbytes(64 * 64 * 3)
"""A square of 64 × 64 pixels that no other picture has."""


def _picture(name: str) -> bytes:
    """A photo with the noise in its corner, as PNG: its pixels can be looked for."""
    picture = Image.open(PICTURES / name).convert("RGB")
    picture.paste(Image.frombytes("RGB", (64, 64), NOISE), (0, 0))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _commented(name: str) -> bytes:
    """A photo with random bytes in a JPEG comment."""
    out = io.BytesIO()
    Image.open(PICTURES / name).convert("RGB").save(out, "JPEG", quality=92, comment=COMMENT)
    return out.getvalue()


def _canaries() -> list[Canary]:
    words = {
        "name": NAME,
        "phone": PHONE,
        "mail": MAIL,
        "national number": NATIONAL,
        "path": PATH,
        "post id": POST_ID,
        "author": AUTHOR,
        "title": TITLE,
        "redirect": REDIRECT,
    }
    photo, png = _commented("obama2.jpg"), _picture("obama.jpg")
    return [
        *(Canary(name, value) for name, value in words.items()),
        Canary("comment of a picture", COMMENT),
        Canary("row of pixels", NOISE[: 64 * 3]),
        Canary("bytes of a JPEG", photo[len(photo) // 2 :][:512]),
        Canary("bytes of a PNG", png[len(png) // 2 :][:512]),
    ]


@dataclass(frozen=True)
class Fed:
    """A system that has worked through the canaries."""

    system: System
    sink: OtlpSink
    search: Search

    def look(self) -> set[Finding]:
        """Searches everything."""
        searched = asyncio.run(search_system(self.system.home, self.search, self.sink.raw()))
        kinds = {"tables", "messages", "metrics", "spans", "logs", "nats files", "postgres files", "pg_wal"}
        assert kinds <= {kind for kind, size in searched.bytes_of.items() if size > 1000}
        return searched.findings


@pytest.fixture(scope="module")
def fed() -> Iterator[Fed]:
    """A whole system, fed with canaries through every door, its work done."""
    with otlp_sink() as sink, running_system(otlp_endpoint=f"127.0.0.1:{sink.port}") as system:
        subscriber_id = asyncio.run(_enrol(system))
        door = Door(system)
        _feed_good(door)
        _feed_bad(door)
        _let_it_work(system, door, subscriber_id)
        yield Fed(system, sink, Search(_canaries()))


async def _enrol(system: System) -> str:
    async with connections(system.home) as services:
        provider = TestProvider(system.home)
        subscriber_id = await commands.register(services, NAME, MAIL, "ko")
        await commands.add_device(services, subscriber_id, "console")
        await commands.mandate(services, subscriber_id, "canary")
        await commands.watch(services, provider, subscriber_id, commands.KINDS["mobile"], PHONE)
        await commands.watch(services, provider, subscriber_id, commands.KINDS["email"], MAIL)
        await commands.enrol(services, provider, subscriber_id, [_picture("obama.jpg")])
    return subscriber_id


def _canary_signal(signal_id: str, *, text: str = "", image: bytes = b"") -> api.Signal:
    made = signal(signal_id, text=text, image=image, post_id=POST_ID)
    made.source_url = f"https://community.example/{PATH}/{signal_id}"
    made.parent_url = f"https://community.example/{PATH}"
    made.metadata.add(name="title", value=TITLE)
    made.metadata.add(name="author", value=AUTHOR)
    made.capture.redirects.append(f"https://short.example/{REDIRECT}")
    made.capture.headers.add(name="x-note", value=f"{AUTHOR} {MAIL}")
    return made


TEXT = f"{NAME} 씨 전화 {PHONE}, 메일 {MAIL}, 주민번호 {NATIONAL}, 주소는 https://community.example/{PATH}"


def _feed_good(door: Door) -> None:
    assert "SPOOLED" == door.submit(_canary_signal("good-text", text=TEXT))
    assert "SPOOLED" == door.submit(_canary_signal("good-face", image=_commented("obama2.jpg")))
    assert "SPOOLED" == door.submit(_canary_signal("good-both", text=TEXT, image=_picture("obama3.jpg")))
    assert "SPOOLED" == door.submit(_canary_signal("good-stranger", image=_commented("sample1.jpg")))
    assert "SPOOLED" == door.submit(_canary_signal("torn", image=_commented("obama2.jpg")[:20_000]))


def _feed_bad(door: Door) -> None:
    """What is refused must leave no trace of its content either."""
    address = _canary_signal("bad-url", text=TEXT)
    address.source_url = f"javascript:{PATH}"
    assert "BAD_URL" == door.submit(address)
    channel = _canary_signal("bad-channel", text=TEXT)
    channel.channel = AUTHOR
    assert "UNKNOWN_CHANNEL" == door.submit(channel)
    assert "TEXT_TOO_LARGE" == door.submit(_canary_signal("long", text=TEXT * 10_000))
    assert "BAD_SIGNAL_ID" == door.submit(_canary_signal(f"{PHONE} {MAIL}", text=TEXT))
    assert "NOT_AN_IMAGE" == door.submit(_canary_signal("no-image", image=f"{TEXT}".encode() + COMMENT))
    body = api.SubmitSignalRequest(signal=_canary_signal("torn-message", text=TEXT)).SerializeToString()
    assert "REQUEST_MALFORMED" == door.submit_bytes(body.replace(TITLE.encode(), b"\xff" * len(TITLE)))
    assert "ROLE_NOT_ALLOWED" == door.submit_bytes(body, door.credentials(OPERATOR))


def _let_it_work(system: System, door: Door, subscriber_id: str) -> None:
    """Until cases are packed, notices are read and requests are sent."""
    fed = ("good-text", "good-face", "good-both", "good-stranger", "torn")
    assert eventually(lambda: all(door.status(each).state != api.SIGNAL_STATE_SPOOLED for each in fed))
    assert eventually(lambda: {"FACE", "PII"} <= _packed_kinds(system, subscriber_id))
    system.run("services.console", "inbox", "device", subscriber_id, "--seconds", "3")
    assert eventually(lambda: system.simulator.mailroom.mails)
    assert [] == system.jikimi("dlq", "list")


def _packed_kinds(system: System, subscriber_id: str) -> set[str]:
    """Kinds of the cases, once all of them have evidence."""
    cases = system.jikimi("case", "list", "--subscriber", subscriber_id)
    return {kind for case in cases for kind in case["kinds"]} if all("evidence" in case for case in cases) else set()


def test_no_canary_lies_in_the_clear(fed: Fed) -> None:
    assert [] == sorted(fed.look())


def test_spans_carry_what_the_list_names(fed: Fed) -> None:
    spans = [
        span
        for export in fed.sink.exports()
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {"case_id", "wait_ms"} <= {pair.key for span in spans for pair in span.attributes} <= ATTRIBUTES
    assert not [span for span in spans if span.events or span.status.message]


def test_labels_of_metrics_are_codes(fed: Fed) -> None:
    pages = [metrics_page(fed.system.home, service).decode() for service in SERVICES]
    samples = [sample for page in pages for family in text_string_to_metric_families(page) for sample in family.samples]
    own = [sample for sample in samples if sample.name.startswith("jikimi_")]
    assert len(own) > 500
    assert [] == [(each.name, key) for each in own for key, value in each.labels.items() if not is_code(value)]


def test_planted_canary_is_found_by_the_same_search(fed: Fed) -> None:
    """The control: in a table as text and as bytes, in a log line, in a message, in a span."""
    home, mark = fed.system.home, uuid7()
    fed.system.sql(
        "case",
        f"CREATE TABLE planted (words text, bytes bytea);"
        f"INSERT INTO planted VALUES ('{MAIL}', decode('{COMMENT.hex()}', 'hex'));",
    )
    log = home.logs / "planted.log"
    log.write_bytes(b"something " + base64.b64encode(f"~{mark} {PHONE}".encode()) + b"\n")
    asyncio.run(_publish(fed.system.nats_url(), NAME, TITLE.encode("utf-16-le")))
    try:
        searched = asyncio.run(search_system(home, fed.search, b"span " + PATH.encode()))
    finally:
        fed.system.sql("case", "DROP TABLE planted;")
        log.unlink()
    found = {(finding.canary, finding.place.split(" ")[0]) for finding in searched.findings}
    assert {
        ("mail", "case.planted"),
        ("comment of a picture", "case.planted"),
        ("phone", "logs/planted.log"),
        ("name", "stream"),
        ("title", "stream"),
        ("path", "spans"),
    } <= found
    assert {"mail", "comment of a picture"} <= {name for name, place in found if "pg_wal" in place}
    assert {"mail", "comment of a picture"} <= {name for name, place in found if "/base/" in place}
    assert "title" in {name for name, place in found if place.startswith("nats/")}


async def _publish(url: str, header: str, payload: bytes) -> None:
    connection = await nats.connect(url)
    encoded = base64.b64encode(header.encode()).decode()
    await connection.jetstream().publish("detector.v1.planted.p99", payload, headers={"x-planted": encoded})
    await connection.close()
