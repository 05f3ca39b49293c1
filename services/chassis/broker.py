"""How do events travel?

NATS JetStream, one stream per publisher (`CASE`, subjects `case.v1.>`). The broker is transport only: it may lose
a stream, and nothing is lost, because the relay recreates it and consumers ask the publisher for what they miss.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nats
import nats.errors
import nats.js.api as js_api
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.js import JetStreamContext

from services.chassis.errors import Internal, Unavailable
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger

log = logger(__name__)

STREAM_BYTES = 1024**3
"""Reserved when a stream is made: the five publishers' streams together must fit into the server's file store."""
STREAM_SECONDS = 2 * 24 * 3600.0
"""The stream is transport: the outbox keeps 14 days, two days on the broker are enough."""
BATCH_MESSAGES = 500
BATCH_BYTES = 4 * 1024**2
PULL = 256
"""Messages asked for ahead, at least."""
LOOK_SECONDS = 3.0
"""A publisher looks whether its stream is there no more often than this."""
PULL_SECONDS = 15.0
"""Life of a pull request, and silence after which the stream is looked at."""
HEAD = "head"
"""Event name of an announcement of the head position; it has no position of its own."""

_ID, _POSITION, _ENTITY, _TRACE = "Jikimi-Event-Id", "Jikimi-Position", "Jikimi-Entity", "traceparent"


# Envelope and Delivery are made for every event; frozen ones would cost three times as much.


@dataclass(slots=True)
class Envelope:
    """An event as it travels. Headers and subject hold no personal data and no subscriber id."""

    publisher: str
    event: str
    partition: int
    position: int
    event_id: str
    entity_ref: bytes
    traceparent: str
    payload: bytes = field(repr=False)

    @property
    def subject(self) -> str:
        """`case.v1.case_opened.p03`"""
        return f"{self.publisher}.v1.{self.event}.p{self.partition:02d}"

    def headers(self) -> dict[str, str]:
        """Event id, position, keyed entity reference, trace."""
        headers = {_ID: self.event_id, _POSITION: str(self.position), _ENTITY: self.entity_ref.hex()}
        return headers | ({_TRACE: self.traceparent} if self.traceparent else {})


@dataclass(slots=True)
class Delivery:
    """An envelope as it arrived, with its number in the stream; `envelope.event` is HEAD for an announcement."""

    envelope: Envelope
    stream_seq: int


@dataclass(frozen=True)
class StreamPlace:
    """A place in one incarnation of a stream; a recreated stream has another `stream_id`."""

    stream_id: str
    sequence: int


class Broker:
    """One connection to the broker."""

    def __init__(self, url: str, name: str, *, tls: ssl.SSLContext | None = None, replicas: int = 1) -> None:
        """`replicas`: how many servers keep a copy of a stream made here."""
        self._url = url
        self._name = name
        self._tls = tls
        self._replicas = replicas
        self._client: Client | None = None
        self._js: JetStreamContext | None = None
        self._checked: dict[str, float] = {}

    async def connect(self) -> None:
        """Connects and stays connected; calls fail with Unavailable while the broker is away."""
        self._client = await nats.connect(
            self._url,
            name=self._name,
            tls=self._tls,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            allow_reconnect=True,
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=_on_error,
            # A publish while the connection is down must fail, not wait in memory: the outbox is the buffer.
            pending_size=8 * 1024**2,
        )
        self._js = self._client.jetstream(timeout=5)

    async def close(self) -> None:
        """Closes the connection."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()

    @property
    def connected(self) -> bool:
        """True while the connection stands."""
        return self._client is not None and self._client.is_connected

    @staticmethod
    def is_trouble(error: BaseException) -> bool:
        """True for errors of the broker or of the way to it, which pass by themselves."""
        return isinstance(error, nats.errors.Error | nats.js.errors.Error | Unavailable | OSError | TimeoutError)

    async def ensure_stream(self, publisher: str) -> bool:
        """Creates the publisher's stream where it is missing. True when it was created now. The look-up is made
        at most every few seconds: whoever publishes learns by itself that the stream is gone."""
        now = asyncio.get_running_loop().time()
        if now - self._checked.get(publisher, -10.0) < LOOK_SECONDS:
            return False
        client, js = self._open()
        try:
            await js.stream_info(publisher.upper())
            created = False
        except nats.js.errors.NotFoundError:
            await self._create_stream(client, publisher)
            created = True
        self._checked[publisher] = now
        return created

    async def _create_stream(self, client: Client, publisher: str) -> None:
        config = js_api.StreamConfig(
            name=publisher.upper(),
            subjects=[f"{publisher}.v1.>"],
            storage=js_api.StorageType.FILE,
            retention=js_api.RetentionPolicy.LIMITS,
            discard=js_api.DiscardPolicy.OLD,
            max_age=STREAM_SECONDS,
            max_bytes=STREAM_BYTES,
            num_replicas=self._replicas,
            allow_atomic=True,
            allow_direct=True,
        )
        await client.jetstream(timeout=5).add_stream(config)

    async def publish(self, publisher: str, envelopes: Sequence[Envelope]) -> None:
        """Publishes in order; returns when the broker has stored all of them. Raises Unavailable."""
        for chunk in _chunks(envelopes):
            try:
                if len(chunk) == 1:
                    await self._publish_one(chunk[0])
                else:
                    await self._publish_atomically(publisher, chunk)
            except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError) as error:
                self._checked.pop(publisher, None)
                raise Unavailable("STREAM_MISSING", "The stream does not answer.") from error

    async def _publish_one(self, envelope: Envelope) -> None:
        _, js = self._open()
        await js.publish(envelope.subject, envelope.payload, headers=envelope.headers(), timeout=5)

    async def _publish_atomically(self, publisher: str, chunk: Sequence[Envelope]) -> None:
        """One atomic batch (ADR-50): all stored or none. Falls back to single publishes when it is refused."""
        client, _ = self._open()
        batch = uuid7()
        for number, envelope in enumerate(chunk[:-1], start=1):
            headers = envelope.headers() | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await client.publish(envelope.subject, envelope.payload, headers=headers)
        last = chunk[-1]
        headers = last.headers() | {
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(len(chunk)),
            "Nats-Batch-Commit": "1",
        }
        answer = await client.request(last.subject, last.payload, headers=headers, timeout=10)
        failure = _failure(answer)
        if failure:
            log.warning("atomic_batch_refused", stream=publisher, code=failure, messages=len(chunk))
            for envelope in chunk:
                await self._publish_one(envelope)

    async def announce(self, publisher: str, heads: Mapping[int, int]) -> None:
        """Publishes the head position of each partition."""
        for partition, position in heads.items():
            await self._publish_one(Envelope(publisher, HEAD, partition, position, uuid7(), b"", "", b""))

    async def follow(self, publisher: str, consumer: str, partition: int, after: StreamPlace | None) -> Subscription:
        """Starts reading a partition, after a place where that is still valid, otherwise from the beginning.
        Replaces the durable of an earlier reader, which then stops. Raises Unavailable without a stream."""
        client, js = self._open()
        stream = publisher.upper()
        durable = f"{consumer}_p{partition:02d}"
        try:
            info = await js.stream_info(stream)
            await _forget(js, stream, durable)
            stream_id = str(info.created)
            config = js_api.ConsumerConfig(
                durable_name=durable,
                filter_subject=f"{publisher}.v1.*.p{partition:02d}",
                ack_policy=js_api.AckPolicy.NONE,
                max_deliver=1,
                # Where to go on is known here: a durable that is gone with its server is made anew at that place.
                mem_storage=True,
                deliver_policy=js_api.DeliverPolicy.ALL,
                inactive_threshold=3600.0,
            )
            if after is not None and after.stream_id == stream_id:
                config.deliver_policy = js_api.DeliverPolicy.BY_START_SEQUENCE
                config.opt_start_seq = after.sequence + 1
            await js.add_consumer(stream, config)
        except nats.js.errors.NotFoundError as error:
            raise Unavailable("STREAM_MISSING", "The stream is not there yet.") from error
        subscription = Subscription(client, publisher, partition, durable, stream_id)
        await subscription.open()
        return subscription

    def _open(self) -> tuple[Client, JetStreamContext]:
        if self._client is None or self._js is None or not self._client.is_connected:
            raise Unavailable("BROKER_AWAY", "The broker cannot be reached.")
        return self._client, self._js


class Subscription:
    """A partition of a stream, being read.

    Keeps one pull request open ahead of the reader, so that a message is handed over the moment it arrives
    (nats-py's own `fetch` waits for a full batch). At most two requests wait here.
    """

    def __init__(self, client: Client, publisher: str, partition: int, durable: str, stream_id: str) -> None:
        self._client = client
        self._publisher = publisher
        self._partition = partition
        self._stream = publisher.upper()
        self._durable = durable
        self._sub: NatsSubscription | None = None
        self._inbox = ""
        self._waiting: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._wanted = 1
        self._owed = 0
        self._reconnects = 0
        self._quiet_since = 0.0
        self.stream_id = stream_id

    async def open(self) -> None:
        """Starts to listen."""
        self._inbox = self._client.new_inbox()
        # A callback, not `next_msg`: that makes a task and a timer for every message.
        self._sub = await self._client.subscribe(self._inbox, cb=self._take)

    async def _take(self, message: Msg) -> None:
        self._waiting.append(message)
        if len(self._waiting) >= self._wanted:
            self._arrived.set()

    async def fetch(self, most: int, seconds: float) -> list[Delivery]:
        """The next deliveries, as soon as there are any; empty after `seconds` without. Raises Unavailable when
        the stream or the durable is gone: follow again."""
        await self._keep_asking(most)
        if not await self._arrival(1, seconds):
            await self._look_after_silence()
            return []
        return self._at_hand(most)

    async def gather(self, most: int, seconds: float) -> list[Delivery]:
        """The next deliveries, as soon as there are so many; after `seconds` those that have arrived. Raises
        Unavailable as `fetch` does."""
        await self._keep_asking(most)
        await self._arrival(most, seconds)
        return self._at_hand(most)

    async def _arrival(self, number: int, seconds: float) -> bool:
        """Waits until so many messages have arrived; False where the time is over before."""
        if len(self._waiting) >= number:
            return True
        self._wanted = number
        self._arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def _at_hand(self, most: int) -> list[Delivery]:
        messages = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        deliveries = [d for d in map(self._delivery, messages) if d is not None]
        self._owed = max(0, self._owed - len(deliveries))
        if deliveries:
            self._quiet_since = asyncio.get_running_loop().time()
        return deliveries

    async def _keep_asking(self, most: int) -> None:
        """Asks ahead, so that at least so many may come."""
        reconnects = self._client.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects, self._owed = reconnects, 0
        if self._owed >= max(most, PULL // 2):
            return
        number = max(most, PULL)
        request = {"batch": number, "expires": int(PULL_SECONDS * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._inbox)
        self._owed += number

    async def _look_after_silence(self) -> None:
        """A request may have died with the server, a stream with its consumers: ask again, and look."""
        now = asyncio.get_running_loop().time()
        if now - self._quiet_since < PULL_SECONDS:
            return
        self._quiet_since, self._owed = now, 0
        try:
            info = await self._client.jetstream(timeout=5).stream_info(self._stream)
            await self._client.jetstream(timeout=5).consumer_info(self._stream, self._durable)
        except nats.js.errors.NotFoundError as error:
            raise Unavailable("DURABLE_GONE", "The durable is gone.") from error
        if str(info.created) != self.stream_id:
            raise Unavailable("STREAM_REPLACED", "The stream was made anew.")

    def _delivery(self, message: Msg) -> Delivery | None:
        headers = message.headers or {}
        if "Status" in headers:
            self._owed = 0
            # 503: nobody listens for pull requests of this durable any more; asking on would spin for ever.
            deleted = headers["Status"] == "409" and "Deleted" in headers.get("Description", "")
            if deleted or headers["Status"] == "503":
                raise Unavailable("DURABLE_GONE", "The durable is gone.")
            return None
        envelope = Envelope(
            publisher=self._publisher,
            event=message.subject.split(".")[2],
            partition=self._partition,
            position=int(headers.get(_POSITION, "0")),
            event_id=headers.get(_ID, ""),
            entity_ref=bytes.fromhex(headers.get(_ENTITY, "")),
            traceparent=headers.get(_TRACE, ""),
            payload=message.data,
        )
        return Delivery(envelope, stream_sequence(message.reply))

    async def close(self) -> None:
        """Stops reading; the durable stays until it is replaced or idle for an hour."""
        try:
            if self._sub is not None:
                await self._sub.unsubscribe()
        except nats.errors.Error:
            return


def stream_sequence(reply: str) -> int:
    """The message's number in the stream, from the subject for its acknowledgement:
    `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.…`, or with `<domain>.<account>.` before the stream."""
    tokens = reply.split(".")
    return int(tokens[5 if len(tokens) == 9 else 7])


async def _forget(js: JetStreamContext, stream: str, durable: str) -> None:
    try:
        await js.delete_consumer(stream, durable)
    except nats.js.errors.NotFoundError:
        return


def _chunks(envelopes: Sequence[Envelope]) -> list[list[Envelope]]:
    chunks: list[list[Envelope]] = [[]]
    size = 0
    for envelope in envelopes:
        if len(chunks[-1]) >= BATCH_MESSAGES or size + len(envelope.payload) > BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(envelope)
        size += len(envelope.payload)
    return [chunk for chunk in chunks if chunk]


def _failure(answer: Msg) -> int:
    """The error code of a publish acknowledgement; 0 when it was stored."""
    headers = answer.headers or {}
    if headers.get("Status") == "503":
        raise nats.errors.NoRespondersError
    try:
        error: dict[str, Any] | None = json.loads(answer.data).get("error")
    except ValueError as problem:
        raise Internal("BROKER_ANSWER_UNREADABLE", "The broker's answer cannot be read.") from problem
    return int(error.get("err_code", 1)) if error else 0


async def _on_error(error: Exception) -> None:
    log.warning("broker_trouble", error=type(error).__name__)
