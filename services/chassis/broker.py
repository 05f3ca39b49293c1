"""How do events travel?

NATS JetStream, one stream per publisher (`CASE`, subjects `case.v1.>`). The broker is transport only: it may lose
a stream, and nothing is lost, because the relay recreates it and consumers ask the publisher for what they miss.

A message costs far more than what is in it, in the server as at both ends. So events of one kind that follow each other
in their partition travel as one message, a run: its payload is theirs joined, its headers list a value for each.
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
ATOMIC_FROM = 20
"""Messages from which on one atomic batch is cheaper than each by itself: the broker keeps a batch in files of its own
until it is whole."""
BATCH_MESSAGES = 500
BATCH_BYTES = 4 * 1024**2
RUN_EVENTS, RUN_BYTES = 100, 64 * 1024
"""What a run may hold; one event may be larger."""
PULL = 256
"""Messages asked for ahead."""
LOOK_SECONDS = 3.0
"""A publisher looks whether its stream is there no more often than this."""
PULL_SECONDS = 15.0
"""Life of a pull request, and silence after which the stream is looked at."""
HEAD = "head"
"""Event name of an announcement of the head position; it has no position of its own."""

_ID, _POSITION, _ENTITY, _TRACE = "Jikimi-Event-Id", "Jikimi-Position", "Jikimi-Entity", "traceparent"
_RUN, _ENTITIES = "Jikimi-Run", "Jikimi-Entities"
"""Of a run alone: `17:120,98`, position of the first event and the bytes of each. It has no `Jikimi-Position` and no
`Jikimi-Entity`: a reader that knows no runs passes it, misses its events and gets them one by one."""


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


@dataclass(slots=True)
class _Message:
    """What is put on the wire: one event, or a run of them."""

    subject: str
    payload: bytes = field(repr=False)
    headers: dict[str, str]


@dataclass(slots=True)
class Delivery:
    """An envelope as it arrived; `envelope.event` is HEAD for an announcement."""

    envelope: Envelope
    stream_seq: int
    """Number in the stream of the last message that is wholly dealt with once this event is."""


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

    async def publish(self, publisher: str, envelopes: Sequence[Envelope], *, apart: bool = False) -> None:
        """Publishes in order; returns when the broker has stored all of them. Raises Unavailable. `apart`: without
        runs, as readers of the release before know it."""
        for chunk in _chunks([[each] for each in envelopes] if apart else _runs(envelopes)):
            try:
                if len(chunk) < ATOMIC_FROM:
                    await self._publish_side_by_side(chunk)
                else:
                    await self._publish_atomically(publisher, chunk)
            except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError) as error:
                self._checked.pop(publisher, None)
                raise Unavailable("STREAM_MISSING", "The stream does not answer.") from error

    async def _publish_side_by_side(self, chunk: Sequence[_Message]) -> None:
        """Sends them in order and waits for all answers. Where one is not stored and one behind it is, readers see a
        gap until it is published again."""
        await asyncio.gather(*map(self._publish_one, chunk))

    async def _publish_one(self, message: _Message) -> None:
        _, js = self._open()
        await js.publish(message.subject, message.payload, headers=message.headers, timeout=5)

    async def _publish_atomically(self, publisher: str, chunk: Sequence[_Message]) -> None:
        """One atomic batch (ADR-50): all stored or none. Falls back to messages by themselves when it is refused."""
        client, _ = self._open()
        batch = uuid7()
        for number, message in enumerate(chunk[:-1], start=1):
            headers = message.headers | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await client.publish(message.subject, message.payload, headers=headers)
        last = chunk[-1]
        headers = last.headers | {
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(len(chunk)),
            "Nats-Batch-Commit": "1",
        }
        answer = await client.request(last.subject, last.payload, headers=headers, timeout=10)
        failure = _failure(answer)
        if failure:
            log.warning("atomic_batch_refused", stream=publisher, code=failure, messages=len(chunk))
            await self._publish_side_by_side(chunk)

    async def announce(self, publisher: str, heads: Mapping[int, int]) -> None:
        """Publishes the head position of each partition."""
        for partition, position in heads.items():
            await self._publish_one(_message([Envelope(publisher, HEAD, partition, position, uuid7(), b"", "", b"")]))

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
    (nats-py's own `fetch` waits for a full batch). No more is asked for while enough waits here: a reader that is far
    behind must not take the whole stream into its memory.
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
        self._events = 0
        """Events in the messages that wait."""
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
        self._events += _size(message)
        self._owed = max(0, self._owed - 1)
        if self._events >= self._wanted:
            self._arrived.set()
        else:
            await self._keep_asking()

    async def fetch(self, most: int, seconds: float) -> list[Delivery]:
        """The next deliveries, as soon as there are any, but no more than `most` or one run; empty after `seconds`
        without. Raises Unavailable when the stream or the durable is gone: follow again."""
        await self._keep_asking()
        if not await self._arrival(1, seconds):
            await self._look_after_silence()
            return []
        return self._at_hand(max(most, _size(self._waiting[0])))

    async def gather(self, most: int, seconds: float) -> list[Delivery]:
        """The next deliveries, as soon as there are so many; after `seconds` those that have arrived. Raises
        Unavailable as `fetch` does."""
        await self._keep_asking()
        await self._arrival(most, seconds)
        return self._at_hand(most)

    async def _arrival(self, number: int, seconds: float) -> bool:
        """Waits until so many events have arrived; False where the time is over before."""
        if self._events >= number:
            return True
        self._wanted = number
        self._arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        finally:
            self._wanted = 1
        return True

    def _at_hand(self, most: int) -> list[Delivery]:
        """What has arrived: whole messages, of no more events than that."""
        deliveries: list[Delivery] = []
        while self._waiting and len(deliveries) + _size(self._waiting[0]) <= most:
            message = self._waiting.popleft()
            self._events -= _size(message)
            deliveries += self._read(message)
        if deliveries:
            self._quiet_since = asyncio.get_running_loop().time()
        return deliveries

    async def _keep_asking(self) -> None:
        """Asks ahead, so that some may come at any time, unless as many wait as the reader takes."""
        reconnects = self._client.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects, self._owed = reconnects, 0
        if self._owed >= PULL // 2 or self._events >= max(PULL, self._wanted):
            return
        self._owed += PULL
        request = {"batch": PULL, "expires": int(PULL_SECONDS * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._inbox)

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

    def _read(self, message: Msg) -> list[Delivery]:
        """The events of a message; none of one that says how a request ended."""
        headers = message.headers or {}
        if "Status" not in headers:
            return _deliveries(self._publisher, self._partition, message)
        self._owed = 0
        # 503: nobody listens for pull requests of this durable any more; asking on would spin for ever.
        deleted = headers["Status"] == "409" and "Deleted" in headers.get("Description", "")
        if deleted or headers["Status"] == "503":
            raise Unavailable("DURABLE_GONE", "The durable is gone.")
        return []

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


def _size(message: Msg) -> int:
    """How many events a message holds."""
    return 1 + (message.headers or {}).get(_RUN, "").count(",")


async def _forget(js: JetStreamContext, stream: str, durable: str) -> None:
    try:
        await js.delete_consumer(stream, durable)
    except nats.js.errors.NotFoundError:
        return


def _runs(envelopes: Sequence[Envelope]) -> list[list[Envelope]]:
    """The envelopes in their order, those together that may share a message."""
    runs: list[list[Envelope]] = []
    size = 0
    for envelope in envelopes:
        last = runs[-1][-1] if runs else None
        follows = (
            last is not None
            and last.event == envelope.event
            and (last.partition, last.position + 1) == (envelope.partition, envelope.position)
        )
        if not follows or len(runs[-1]) >= RUN_EVENTS or size + len(envelope.payload) > RUN_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(envelope)
        size += len(envelope.payload)
    return runs


def _message(run: Sequence[Envelope]) -> _Message:
    first = run[0]
    entities = ",".join(each.entity_ref.hex() for each in run)
    headers = {_ID: ",".join(each.event_id for each in run)}
    if any(each.traceparent for each in run):
        headers[_TRACE] = ",".join(each.traceparent for each in run)
    if len(run) == 1:
        headers |= {_POSITION: str(first.position), _ENTITY: entities}
        return _Message(first.subject, first.payload, headers)
    headers[_ENTITIES] = entities
    headers[_RUN] = f"{first.position}:{','.join(str(len(each.payload)) for each in run)}"
    return _Message(first.subject, b"".join(each.payload for each in run), headers)


def _deliveries(publisher: str, partition: int, message: Msg) -> list[Delivery]:
    """The events of a message. Raises ValueError for one that is none of ours."""
    headers = message.headers or {}
    event, number = message.subject.split(".")[2], stream_sequence(message.reply)
    first, _, listed = headers.get(_RUN, "").partition(":")
    sizes = [int(size) for size in listed.split(",")] if listed else [len(message.data)]
    position = int(first or headers.get(_POSITION, "0"))
    ids = headers.get(_ID, "").split(",")
    entities = headers.get(_ENTITIES if first else _ENTITY, "").split(",")
    traces = headers[_TRACE].split(",") if _TRACE in headers else [""] * len(sizes)
    deliveries, start = [], 0
    for place, (event_id, entity, trace, size) in enumerate(zip(ids, entities, traces, sizes, strict=True)):
        envelope = Envelope(
            publisher=publisher,
            event=event,
            partition=partition,
            position=position + place,
            event_id=event_id,
            entity_ref=bytes.fromhex(entity),
            traceparent=trace,
            payload=message.data[start : start + size],
        )
        start += size
        # Whoever stops within a run reads it again.
        deliveries.append(Delivery(envelope, number if place == len(sizes) - 1 else number - 1))
    return deliveries


def _chunks(runs: Sequence[Sequence[Envelope]]) -> list[list[_Message]]:
    """Messages that are stored together, all or none."""
    chunks: list[list[_Message]] = [[]]
    size = 0
    for message in map(_message, runs):
        if len(chunks[-1]) >= BATCH_MESSAGES or size + len(message.payload) > BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(message)
        size += len(message.payload)
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
