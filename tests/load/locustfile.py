"""Who uses the system, how often, and what did each call come to? For Locust: alone, as master, as worker, as a Job.

Arrivals come as an open loop: each source lets them arrive at moments of a Poisson process, whatever became of those
before; a call that is slow does not slow the next one down. Times are measured from the moment at which an arrival was
due, not from when it was sent, and that moment is the signal's time of discovery: what waits in the generator counts
as waiting. (The opposite hides the worst: "coordinated omission".)
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.pool
import gevent.queue
import grpc
import grpc.experimental.gevent as grpc_gevent
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser

from misuse.case.v1 import subscriber_service_pb2 as subscribers
from misuse.case.v1.subscriber_service_pb2_grpc import SubscriberServiceStub
from misuse.common.v1.signal_pb2 import (
    COLLECTION_BASIS_PUBLIC_ACCESS,
    IDENTIFIER_KIND_EMAIL,
    SOURCE_TYPE_SNS,
)
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import signal_service_pb2 as signals
from misuse.detector.v1 import upload_service_pb2 as uploads
from misuse.detector.v1.enrollment_service_pb2_grpc import EnrollmentServiceStub
from misuse.detector.v1.signal_service_pb2_grpc import SignalServiceStub
from misuse.detector.v1.upload_service_pb2_grpc import UploadServiceStub
from misuse.notify.v1 import notify_service_pb2 as notify
from misuse.notify.v1.notify_service_pb2_grpc import NotifyServiceStub
from tests.load.mix import SIGNALS, Kind, Maker, Post
from tests.load.plan import RESULTS, Plan, read_plan
from tests.load.shapes import SHAPES

grpc_gevent.init_gevent()

PER_SOURCE = 5.0
"""Arrivals a second of one source, which is one user of Locust."""
STREAMS = 2
GATHER_SECONDS = 0.04
"""A collector sends what it found within this in one message: a message costs both sides more than what it carries."""
MOST_TOGETHER, HEAVY_BYTES = 64, 1024 * 1024
"""Streams of signals a process; each has at most 256 in flight at the service."""
WAITING_AT_MOST = 20_000
"""Calls of one process that may be under way; more are counted as NOT_SENT, never silently left out."""
PATIENCE_SECONDS = 60.0
CONSENT_SECONDS = 5.0
CONSENTS = (
    subscribers.CONSENT_SCOPE_SERVICE,
    subscribers.CONSENT_SCOPE_WATCHED_IDENTIFIER,
)
_LARGEST = 24 * 1024 * 1024
_PASSING = ("CONSENT_MISSING", "SUBSCRIBER_UNKNOWN")
"""A consent travels to the detector as an event."""


class Refused(Exception):
    """An answer that is a refusal, by its reason."""


class Traffic:
    """What one process sends and what came of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.maker = Maker(plan, f"{os.getpid():x}-{int(time.time()) & 0xFFFFFF:x}")
        self.pool = gevent.pool.Pool()
        self.rows: list[tuple[str, str, float, float, str]] = []
        self.tallies: Counter[str] = Counter()
        detector, case, notifier = (_channel(plan, service) for service in ("detector", "case", "notify"))
        self._streams = [SignalStream(detector, _bearer(plan, "detector")) for _ in range(STREAMS)]
        self._uploads = UploadServiceStub(detector)
        self._watches = EnrollmentServiceStub(detector)
        self._people = SubscriberServiceStub(case)
        self._inbox = NotifyServiceStub(notifier)

    def arrive(self, due: float, environment: Environment) -> None:
        """Lets something arrive that was due at a moment (seconds since the epoch)."""
        kind = self.maker.kind()
        if len(self.pool) >= WAITING_AT_MOST:
            self._note(kind, "", due, "NOT_SENT", environment)
            return
        self.pool.spawn(self._send, kind, due, environment)

    def _send(self, kind: Kind, due: float, environment: Environment) -> None:
        signal_id, outcome = "", "OK"
        try:
            if kind in SIGNALS:
                post = self.maker.post(kind)
                signal_id = post.signal_id
                stream = self._streams[len(self.rows) % STREAMS]
                outcome = stream.submit(_signal(post, due))
            else:
                {
                    Kind.ENROLMENT: self._enrol,
                    Kind.UPLOAD_TEXT: self._upload_text,
                    Kind.UPLOAD_PICTURE: self._upload_picture,
                    Kind.INBOX: self._look,
                }[kind]()
        except Refused as refusal:
            outcome = f"REFUSED {refusal}"
        except grpc.RpcError as error:
            outcome = f"FAILED {_reason(error)}"
        except gevent.Timeout:
            outcome = "FAILED NO_ANSWER"
        self._note(kind, signal_id, due, outcome, environment)

    def _note(self, kind: Kind, signal_id: str, due: float, outcome: str, environment: Environment) -> None:
        took = time.time() - due
        self.rows.append((kind.value, signal_id, due, took, outcome))
        self.tallies[outcome] += 1
        failed = outcome if outcome.startswith(("FAILED", "NOT_SENT")) else None
        environment.events.request.fire(
            request_type="gRPC", name=kind.value, response_time=took * 1000, response_length=0, exception=failed,
            context={},
        )

    def _enrol(self) -> None:
        """Registers, consents, watches an address; the proof of ownership is another party's and not made here."""
        name = f"{self.maker.post(Kind.POST).signal_id}"[-60:]
        metadata = _bearer(self.plan, "enrolment")
        request = subscribers.RegisterSubscriberRequest(
            request_id=name, display_name="Load", contact_email=f"{name}@example.org", language="ko"
        )
        who = self._people.RegisterSubscriber(request, metadata=metadata, timeout=30).subscriber.subscriber_id
        for scope in CONSENTS:
            consent = subscribers.RecordConsentRequest(
                subscriber_id=who, request_id=f"{name}{scope}", scope=scope, text_version="load"
            )
            self._people.RecordConsent(consent, metadata=metadata, timeout=30)
        watch = enrolment.WatchIdentifierRequest(
            subscriber_id=who, request_id=name, kind=IDENTIFIER_KIND_EMAIL, value=f"{name}@example.org"
        )
        give_up = time.time() + CONSENT_SECONDS
        while True:
            try:
                self._watches.WatchIdentifier(watch, metadata=_bearer(self.plan, "watching"), timeout=30)
                return
            except grpc.RpcError as error:
                if _reason(error) not in _PASSING or time.time() > give_up:
                    raise
                gevent.sleep(0.05)

    def _upload_text(self) -> None:
        person = self.maker.uploader()
        self._check(person.subscriber_id, person.account_id, text=self.maker.text_about(person))

    def _upload_picture(self) -> None:
        person = self.maker.uploader()
        self._check(person.subscriber_id, person.account_id, image=_bytes_of(self.maker.picture("others")))

    def _check(self, subscriber_id: str, account_id: str, **content: Any) -> None:
        request = uploads.CheckUploadRequest(
            subscriber_id=subscriber_id, request_id=os.urandom(16).hex(), account_id=account_id, **content
        )
        try:
            self._uploads.CheckUpload(request, metadata=_bearer(self.plan, "uploads"), timeout=30)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise Refused("UPLOADS_BUSY") from error
            raise

    def _look(self) -> None:
        request = notify.ListInboxRequest(subscriber_id=self.maker.person().subscriber_id, page_size=20)
        self._inbox.ListInbox(request, metadata=_bearer(self.plan, "notify"), timeout=30)

    def close(self, folder: Path) -> None:
        """Waits for what is under way and writes a line for every arrival: kind, signal id, when it was due (seconds
        since the epoch), how long it took (s), what it came to."""
        self.pool.join(timeout=PATIENCE_SECONDS)
        for stream in self._streams:
            stream.close()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"arrivals-{self.maker.name}.jsonl").open("w", encoding="utf-8") as out:
            for row in self.rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


class SignalStream:
    """One stream of signals; answers come in the order of the signals."""

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = SignalServiceStub(channel)
        self._metadata = metadata
        self._outgoing: gevent.queue.Queue[Any] = gevent.queue.Queue()
        self._waiting: deque[gevent.event.AsyncResult[Any]] = deque()
        self._reader: gevent.Greenlet[..., Any] | None = None

    def submit(self, signal: signals.Signal) -> str:
        """OK or DUPLICATE once the signal is committed. Raises Refused, grpc.RpcError where the stream broke."""
        if self._reader is None or self._reader.dead:
            self._outgoing, self._waiting = gevent.queue.Queue(), deque()
            self._reader = gevent.spawn(self._read, self._outgoing, self._waiting)
        answer: gevent.event.AsyncResult[Any] = gevent.event.AsyncResult()
        self._waiting.append(answer)
        self._outgoing.put(signal)
        said = answer.get(timeout=PATIENCE_SECONDS)
        if said.refusal.reason:
            raise Refused(said.refusal.reason)
        return "DUPLICATE" if said.duplicate else "OK"

    def _read(self, outgoing: gevent.queue.Queue[Any], waiting: deque[Any]) -> None:
        try:
            for answer in self._stub.SubmitSignals(_messages(outgoing), metadata=self._metadata):
                for each in (answer, *answer.further_answers):
                    waiting.popleft().set(each)
        except grpc.RpcError as error:
            while waiting:
                waiting.popleft().set_exception(error)

    def close(self) -> None:
        """Ends the stream after what was sent."""
        self._outgoing.put(None)
        if self._reader is not None:
            self._reader.join(timeout=PATIENCE_SECONDS)


def _messages(outgoing: gevent.queue.Queue[Any]) -> Iterator[signals.SubmitSignalsRequest]:
    """What came until None, in messages of what came together."""
    while (first := outgoing.get()) is not None:
        gevent.sleep(GATHER_SECONDS)
        together, size = [first], first.ByteSize()
        while size < HEAVY_BYTES and len(together) < MOST_TOGETHER and not outgoing.empty():
            if outgoing.peek() is None:
                break
            together.append(outgoing.get())
            size += together[-1].ByteSize()
        yield signals.SubmitSignalsRequest(signal=together[0], further_signals=together[1:])


def _signal(post: Post, due: float) -> signals.Signal:
    made = signals.Signal(
        signal_id=post.signal_id,
        channel="community",
        source_type=SOURCE_TYPE_SNS,
        source_url=f"https://community.example/post/{post.signal_id}",
        collection_basis=COLLECTION_BASIS_PUBLIC_ACCESS,
        policy_rule_id="load",
    )
    made.discover_time.FromNanoseconds(int(due * 1e6) * 1000)
    if post.text:
        made.parts.add(text=post.text)
    if post.picture:
        made.parts.add(image=_bytes_of(post.picture))
    return made


@cache
def _bytes_of(file: str) -> bytes:
    return Path(file).read_bytes()


def _bearer(plan: Plan, name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {plan.tokens[name]}"),)


def _channel(plan: Plan, service: str) -> grpc.Channel:
    options = [
        ("grpc.max_send_message_length", _LARGEST),
        ("grpc.enable_http_proxy", 0),
        ("grpc.lb_policy_name", "round_robin"),
    ]
    if plan.tls is None:
        return grpc.insecure_channel(plan.targets[service], options)
    files = (plan.tls.ca, plan.tls.key, plan.tls.certificate)
    ca, key, certificate = (Path(file).read_bytes() if file else None for file in files)
    return grpc.secure_channel(plan.targets[service], grpc.ssl_channel_credentials(ca, key, certificate), options)


def _reason(error: grpc.RpcError) -> str:
    """The UPPER_SNAKE reason of a refusal where its details hold one that is waited out; else the status' name."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return next((reason for reason in _PASSING if reason.encode() in details), error.code().name)


_traffic: list[Traffic] = []


def _of_this_process(environment: Environment) -> Traffic:
    if not _traffic:
        _traffic.append(Traffic(read_plan()))
    return _traffic[0]


@events.quitting.add_listener
def _write(environment: Environment, **_: Any) -> None:
    for traffic in _traffic:
        traffic.close(Path(os.environ[RESULTS]))
    _traffic.clear()


class Source(User):
    """Somewhere things come from: PER_SOURCE arrivals a second."""

    @task
    def emit(self) -> None:
        """Arrivals until Locust stops this source. A late one is sent at once, its due moment stays."""
        traffic = _of_this_process(self.environment)
        due = time.time()
        while True:
            due += traffic.maker.gap(PER_SOURCE)
            if (pause := due - time.time()) > 0:
                gevent.sleep(pause)
            if self.environment.runner is None:
                raise StopUser
            traffic.arrive(due, self.environment)


class Planned(LoadTestShape):
    """The plan's shape, as a number of sources."""

    def tick(self) -> tuple[int, float] | None:
        """(sources, how many more a second), None at the end."""
        plan = _plan()
        at = self.get_run_time()
        if at >= plan.seconds:
            return None
        sources = max(1, round(plan.rate * SHAPES[plan.shape](at, plan.seconds) / PER_SOURCE))
        return sources, 1000.0


@cache
def _plan() -> Plan:
    return read_plan()
