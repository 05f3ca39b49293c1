"""Does the one way hold on a running system: a post becomes a case, a notice and a removal request, in one trace,
and does bad input stop at the door without harm to anybody else?"""

from __future__ import annotations

import dataclasses
import io
import secrets
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from misuse.common.v1.access_pb2 import Purpose, Role
from misuse.common.v1.actor_pb2 import ActorClaims
from misuse.detector.v1 import signal_service_pb2 as api
from services.chassis.tokens import Issuer
from tests.scenario.conftest import MAIL, MOBILE, Person, cases_of
from tests.scenario.doors import COLLECTOR, OPERATOR, Door, signal
from tests.scenario.otlp_sink import OtlpSink, SeenSpan
from tests.scenario.system import System, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def door(system: System) -> Door:
    return Door(system)


# --- the way itself ---


def test_post_becomes_a_case_and_a_notice_acknowledged_by_command_line(system: System, person: Person) -> None:
    # A notice goes to the devices that are known when it is made: this one makes itself known first.
    system.run("services.console", "inbox", "device", person.subscriber_id, "--seconds", "1")
    said = system.jikimi("signal", "submit", "--text", f"이 번호로 전화하세요 {MOBILE}", "--id", "way-1")
    assert "SPOOLED" == said["state"]
    (case,) = eventually(lambda: cases_of(system, person))
    assert ["PII"] == case["kinds"]

    shown = system.run("services.console", "inbox", "device", person.subscriber_id, "--seconds", "5").stdout
    assert str(case["caseId"]) in shown
    notices = system.jikimi("inbox", "list", person.subscriber_id)
    assert {case["caseId"]} == {notice["caseId"] for notice in notices}
    assert {"read": len(notices)} == system.jikimi("inbox", "read", person.subscriber_id)
    assert system.jikimi("case", "verify", str(case["caseId"]))["valid"]


def test_repost_joins_the_case(system: System, person: Person, door: Door) -> None:
    first = _case_with(system, person, door, f"연락처 {MAIL} 입니다", "repost-1")
    second = _case_with(system, person, door, f"연락처 {MAIL} 입니다", "repost-2")
    assert first == second


def test_one_trace_spans_all_services(system: System, door: Door, sink: OtlpSink) -> None:
    somebody = system.jikimi("subscriber", "add", "Robin Trace", "--language", "en")["subscriber_id"]
    system.jikimi("watch", "add", somebody, "mobile", "010-0000-5937")
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    traced = [*door.credentials(), ("traceparent", f"00-{trace_id}-{parent}-01")]
    body = api.SubmitSignalRequest(signal=signal("traced-1", text="전화 010-0000-5937 로 연락"))
    assert "SPOOLED" == door.submit_bytes(body.SerializeToString(), traced)

    wanted = {"detector", "case", "notify", "removal"}
    # Every service sends its spans in batches of its own time: a child may arrive before its parent.
    eventually(lambda: wanted <= _services(sink, trace_id) and not _orphans(sink, trace_id, parent))
    spans = sink.trace(trace_id)
    assert wanted <= _services(sink, trace_id)
    assert [] == _orphans(sink, trace_id, parent)
    names = {(span.service, span.name) for span in spans}
    assert {
        ("detector", "misuse.detector.v1.SignalService/SubmitSignal"),
        ("case", "consume signal_matched"),
    } <= names
    for service in ("notify", "removal"):
        assert any(who == service and name.startswith("consume ") for who, name in names)


def _services(sink: OtlpSink, trace_id: str) -> set[str]:
    return {span.service for span in sink.trace(trace_id)}


def _orphans(sink: OtlpSink, trace_id: str, caller: str) -> list[SeenSpan]:
    spans = sink.trace(trace_id)
    known = {span.span_id for span in spans} | {caller}
    return [span for span in spans if span.parent_id not in known]


# --- what the door refuses ---


def _picture(kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((320, 240)).save(out, kind)
    return out.getvalue()


def _bomb() -> bytes:
    """A PNG of some hundred bytes that claims 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _later(hours: float) -> api.Signal:
    made = signal("bad", text="a harmless post")
    made.discover_time.FromDatetime(datetime.now(UTC) + timedelta(hours=hours))
    return made


MIB = 1024 * 1024
REFUSED: dict[str, tuple[str, Callable[[], api.Signal]]] = {
    "a picture above 20 MiB": (
        "IMAGE_TOO_LARGE",
        lambda: signal("bad", image=_picture() + bytes(20 * MIB)),
    ),
    "a picture that says it is huge": ("TOO_MANY_PIXELS", lambda: signal("bad", image=_bomb())),
    "bytes that are no picture": ("NOT_AN_IMAGE", lambda: signal("bad", image=b"no picture at all")),
    "a picture of which only the first bytes came": ("NOT_AN_IMAGE", lambda: signal("bad", image=_picture()[:2])),
    "a format that is not taken": ("UNSUPPORTED_FORMAT", lambda: signal("bad", image=_picture("TIFF"))),
    "nothing in it": ("EMPTY_SIGNAL", lambda: signal("bad")),
    "blanks only": ("EMPTY_SIGNAL", lambda: signal("bad", text=" \n\t ")),
    "an unknown channel": ("UNKNOWN_CHANNEL", lambda: signal("bad", text="a post", channel="nowhere")),
    "no discovery time": ("MISSING_DISCOVERY_TIME", lambda: signal("bad", text="a post", discover_time=None)),
    "found tomorrow": ("TIME_IN_FUTURE", lambda: _later(24)),
    "a megabyte of text": ("TEXT_TOO_LARGE", lambda: signal("bad", text="가나다 " * 104_858)),
    "an unknown kind of source": ("UNKNOWN_ENUM", lambda: signal("bad", text="a post", source_type=99)),
    "an unknown basis": ("UNKNOWN_ENUM", lambda: signal("bad", text="a post", collection_basis=99)),
    "an address that is a script": ("BAD_URL", lambda: signal("bad", text="a post", source_url="javascript:1")),
    "no id": ("BAD_SIGNAL_ID", lambda: signal("", text="a post")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_signal_is_refused_with_its_reason(door: Door, what: str) -> None:
    reason, make = REFUSED[what]
    assert reason == door.submit(make())


@pytest.mark.parametrize("what", REFUSED)
def test_bad_signal_in_a_stream_harms_no_other(door: Door, what: str) -> None:
    reason, make = REFUSED[what]
    nonce = secrets.token_hex(4)
    sent = [signal(f"before-{nonce}", text="a post"), make(), signal(f"after-{nonce}", text="a post")]
    answers = door.stream(api.SubmitSignalsRequest(signal=each).SerializeToString() for each in sent)
    assert ["", reason, ""] == [answer.refusal.reason for answer in answers]
    assert [0, 1, 2] == [answer.sequence for answer in answers]
    assert _decided(door, f"before-{nonce}") == _decided(door, f"after-{nonce}") == api.SIGNAL_STATE_DECIDED


def _with_bad_utf8() -> bytes:
    good = api.SubmitSignalRequest(signal=signal("utf8", text="PLACEHOLDER")).SerializeToString()
    return good.replace(b"PLACEHOLDER", b"\xff\xfe\xc3\x28\xa0\xa1\xed\xa0\x80\xf8X")


def test_bad_utf8_is_refused(door: Door) -> None:
    assert "REQUEST_MALFORMED" == door.submit_bytes(_with_bad_utf8())


def test_message_that_is_no_protobuf_is_refused(door: Door) -> None:
    assert "REQUEST_MALFORMED" == door.submit_bytes(b"\x0a\xff\xff\xff\xff")


def test_unreadable_message_in_a_stream_harms_no_other(door: Door) -> None:
    good = [api.SubmitSignalsRequest(signal=signal(f"utf8-{n}", text="a post")).SerializeToString() for n in (1, 2)]
    answers = door.stream([good[0], _with_bad_utf8(), good[1]])
    assert ["", "REQUEST_MALFORMED", ""] == [answer.refusal.reason for answer in answers]


def test_message_above_the_limit_is_refused_and_the_connection_serves_on(door: Door) -> None:
    assert "RESOURCE_EXHAUSTED" == door.submit(signal("large", image=bytes(30 * MIB)))
    assert "SPOOLED" == door.submit(signal(f"small-{secrets.token_hex(4)}", text="a post"))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_truncated_picture_is_decided_unreadable(door: Door, share: float) -> None:
    picture = _picture()
    signal_id = f"truncated-{share}"
    assert "SPOOLED" == door.submit(signal(signal_id, image=picture[: int(len(picture) * share)]))
    assert api.SIGNAL_STATE_UNREADABLE == _decided(door, signal_id)


# --- who may not come in ---


def test_call_without_a_token_is_refused(door: Door) -> None:
    assert "TOKEN_MISSING" == door.submit_bytes(_post(), [])


def test_garbled_token_is_refused(door: Door) -> None:
    assert "TOKEN_MALFORMED" == door.submit_bytes(_post(), [("authorization", "Bearer nonsense")])


def test_token_for_another_service_is_refused(door: Door) -> None:
    assert "TOKEN_AUDIENCE_MISMATCH" == door.submit_bytes(_post(), door.credentials(audience="case"))


def test_token_of_an_unknown_issuer_is_refused(door: Door) -> None:
    stranger = Issuer("stranger", secrets.token_bytes(32))
    token = stranger.issue("console", COLLECTOR.role, COLLECTOR.purpose, "detector", 60)
    assert "TOKEN_KEY_UNKNOWN" == door.submit_bytes(_post(), [("authorization", f"Bearer {token}")])


def test_expired_token_is_refused(door: Door, system: System) -> None:
    issued = datetime.now(UTC) - timedelta(hours=2)
    claims = ActorClaims(
        key_id="issuer",
        subject="console",
        role=Role.ROLE_COLLECTOR,
        purpose=Purpose.PURPOSE_COLLECTION,
        audience="detector",
    )
    claims.issue_time.FromDatetime(issued)
    claims.expire_time.FromDatetime(issued + timedelta(hours=1))
    token = system.issuer.sign(claims)
    assert "TOKEN_EXPIRED" == door.submit_bytes(_post(), [("authorization", f"Bearer {token}")])


def test_wrong_role_and_wrong_purpose_are_refused(door: Door) -> None:
    assert "ROLE_NOT_ALLOWED" == door.submit_bytes(_post(), door.credentials(OPERATOR))
    for_audit = dataclasses.replace(COLLECTOR, purpose=Purpose.PURPOSE_AUDIT)
    assert "PURPOSE_NOT_ALLOWED" == door.submit_bytes(_post(), door.credentials(for_audit))


# --- and afterwards ---


def test_after_all_this_the_system_still_works(system: System, person: Person, door: Door) -> None:
    assert _case_with(system, person, door, f"last: {MAIL}", f"last-{secrets.token_hex(4)}")
    assert [] == system.jikimi("dlq", "list")
    children = system.status()["children"]
    assert {name: ("ready", 0) for name in children} == {n: (c["state"], c["restarts"]) for n, c in children.items()}


def _post() -> bytes:
    return api.SubmitSignalRequest(signal=signal("never", text="a post")).SerializeToString()


def _decided(door: Door, signal_id: str) -> int:
    """The state of a signal, once it waits no longer."""
    eventually(lambda: door.status(signal_id).state != api.SIGNAL_STATE_SPOOLED)
    return door.status(signal_id).state


def _case_with(system: System, person: Person, door: Door, text: str, signal_id: str) -> object:
    """The case that a post ended in."""
    assert "SPOOLED" == door.submit(signal(signal_id, text=text))
    eventually(lambda: door.status(signal_id).decisions)
    (decision,) = door.status(signal_id).decisions

    def found() -> list[object]:
        return [
            case["caseId"]
            for case in cases_of(system, person)
            for sighting in system.jikimi("case", "show", str(case["caseId"]))["sightings"]
            if sighting["decisionId"] == decision.decision_id
        ]

    return eventually(found)[0]
