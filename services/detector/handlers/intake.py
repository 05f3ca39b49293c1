"""How signals come in: checked at the door, committed to the spool in batches, answered after the commit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.database import is_transient
from services.chassis.errors import ResourceExhausted, Unavailable
from services.chassis.ids import uuid7
from services.chassis.keys import KeyStore, seal
from services.chassis.telemetry import stage
from services.detector.domain.channels import Channel
from services.detector.domain.signals import Door, Refused, Signal, usable_id
from services.detector.handlers import records
from services.detector.metrics import SIGNALS
from services.detector.ports import Begin, SpooledSignal, Work
from services.detector.sealing import References

BATCH_SIGNALS = 256
BATCH_BYTES = 24 * 1024 * 1024
GATHER_SECONDS = 0.05
"""Where the batch before held several signals, more are coming: the next one gathers them for a moment. Who sends one
signal after the other never waits for it."""
WAITING_BYTES = 192 * 1024 * 1024
"""Content of all callers that may wait for a commit at once."""
_HEAVY_BYTES = 128 * 1024
_COUNT_SECONDS = 1.0
MOST_CHANNELS = 1000
CHANNELS_SECONDS = 1.0
"""How old the channel rows may be that a batch goes by: so long a replica may not know of a pause."""

SPOOLED = 1
_UUID_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class Incoming:
    """A signal at the door, with its bytes as they are kept."""

    signal: Signal
    payload: bytes = field(repr=False)
    traceparent: str
    refused: str = ""
    """Why the message could not be read, where it could not; the signal is then empty."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: a state, or a refusal."""

    state: int = 0
    duplicate: bool = False
    refused: Refused | None = None


class KnownChannels:
    """The channel rows, read again when older than CHANNELS_SECONDS or changed by this replica."""

    def __init__(self) -> None:
        self._rows: Mapping[str, Channel] = {}
        self._read = -CHANNELS_SECONDS

    async def known(self, work: Work) -> Mapping[str, Channel]:
        """Channels by id."""
        moment = time.monotonic()
        if moment - self._read >= CHANNELS_SECONDS:
            self._rows = {row.channel: row for row in await work.channels.page("", MOST_CHANNELS)}
            self._read = moment
        return self._rows

    def forget(self) -> None:
        """Has them read again: one was changed."""
        self._read = -CHANNELS_SECONDS


@dataclass(slots=True)
class _Candidate:
    incoming: Incoming
    ref: bytes = b""
    fingerprint: bytes = field(default=b"", repr=False)
    outcome: Outcome | None = None


class Intake:
    """Commits batches of signals."""

    def __init__(
        self,
        begin: Begin,
        keys: KeyStore,
        clock: Clock,
        door: Door,
        references: References,
        channels: KnownChannels,
        most_spool_bytes: int,
    ) -> None:
        self._begin = begin
        self._keys = keys
        self._clock = clock
        self._door = door
        self._references = references
        self._channels = channels
        self._most_bytes = most_spool_bytes
        self._bytes = 0
        self._counted = -_COUNT_SECONDS
        self._key = ""

    async def commit(self, batch: Sequence[Incoming]) -> list[Outcome]:
        """One transaction for all; outcomes in the order of the batch."""
        now = self._clock.now()
        with stage("intake_commit"):
            async with self._begin() as work:
                known = await self._channels.known(work)
                candidates = [self._at_the_door(each, known, now) for each in batch]
                await self._count(work, candidates)
                await self._accept(work, [each for each in candidates if each.outcome is None], now)
                outcomes = [each.outcome or Outcome(SPOOLED) for each in candidates]
                self._record(work, candidates, known, now)
                await self._tally(work, candidates)
        for outcome in outcomes:
            _count_outcome(outcome)
        return outcomes

    def _at_the_door(self, incoming: Incoming, known: Mapping[str, Channel], now: datetime) -> _Candidate:
        signal = incoming.signal
        candidate = _Candidate(incoming)
        if usable_id(signal.signal_id):
            candidate.ref = self._references.signal(signal.signal_id)
        try:
            if incoming.refused:
                raise Refused(incoming.refused)
            self._door.check(signal, known.get(signal.channel), now)
        except Refused as refusal:
            candidate.outcome = Outcome(refused=refusal)
        else:
            candidate.fingerprint = self._references.fingerprint(signal)
        return candidate

    async def _count(self, work: Work, candidates: Sequence[_Candidate]) -> None:
        """Refuses what the spool cannot hold. Its size is counted once a second and estimated in between."""
        moment = time.monotonic()
        if moment - self._counted >= _COUNT_SECONDS:
            self._bytes, self._counted = await work.spool.size_bytes(), moment
        for candidate in candidates:
            if candidate.outcome is None:
                self._bytes += len(candidate.incoming.payload)
                if self._bytes > self._most_bytes:
                    candidate.outcome = Outcome(refused=Refused("SPOOL_FULL"))

    async def _accept(self, work: Work, candidates: Sequence[_Candidate], now: datetime) -> None:
        first: dict[bytes, _Candidate] = {}
        for candidate in candidates:
            first.setdefault(candidate.ref, candidate)
        new = await work.spool.remember({ref: each.fingerprint for ref, each in first.items()}, now)
        seen = await work.spool.remembered(first.keys() - new)
        for candidate in candidates:
            if candidate is first[candidate.ref] and candidate.ref in new:
                continue
            if candidate.ref in seen:
                fingerprint, state = seen[candidate.ref].fingerprint, seen[candidate.ref].state
            else:
                fingerprint, state = first[candidate.ref].fingerprint, SPOOLED
            same = fingerprint == candidate.fingerprint
            reused = Refused("SIGNAL_ID_REUSED", "signal_id")
            candidate.outcome = Outcome(state, True) if same else Outcome(refused=reused)
        await self._spool(work, [each for ref, each in first.items() if ref in new], now)

    async def _spool(self, work: Work, candidates: Sequence[_Candidate], now: datetime) -> None:
        if not candidates:
            return
        key_id = self._key_id(now)
        key = self._keys.get(key_id)
        if key is None:
            key = await asyncio.to_thread(self._keys.get_or_create, key_id)
        if sum(len(each.incoming.payload) for each in candidates) > _HEAVY_BYTES:
            rows = await asyncio.to_thread(_sealed, candidates, key_id, key)
        else:
            rows = _sealed(candidates, key_id, key)
        await work.spool.put(rows, now)

    async def _tally(self, work: Work, candidates: Sequence[_Candidate]) -> None:
        """Counts what a scan brought; a repeat brings nothing."""
        brought: dict[tuple[str, str], tuple[int, int]] = {}
        for candidate in candidates:
            signal, outcome = candidate.incoming.signal, candidate.outcome
            if len(signal.scan_id) == _UUID_CHARACTERS and not (outcome and outcome.duplicate):
                accepted, refused = brought.get((signal.scan_id, signal.channel), (0, 0))
                brought[signal.scan_id, signal.channel] = (
                    (accepted, refused + 1) if outcome and outcome.refused else (accepted + 1, refused)
                )
        if brought:
            await work.scans.count(brought)

    def _key_id(self, now: datetime) -> str:
        """The spool key of this instance and hour; a name is never used again once its key is destroyed."""
        hour = f"{now:%Y%m%d%H}"
        if not self._key.startswith(f"spool:{hour}:"):
            self._key = f"spool:{hour}:{uuid7()}"
        return self._key

    def _record(
        self, work: Work, candidates: Sequence[_Candidate], known: Mapping[str, Channel], now: datetime
    ) -> None:
        """A refusal and a repeat leave a record here; an accepted signal's record is its decision."""
        for candidate in candidates:
            outcome, signal = candidate.outcome, candidate.incoming.signal
            if outcome is None:
                continue
            channel = known.get(signal.channel)
            record = records.intake(
                signal,
                candidate.ref,
                outcome.refused.reason if outcome.refused else "",
                channel.channel_group if channel else "",
                now,
                duplicate=outcome.duplicate,
            )
            work.record(candidate.ref.hex() or "signal", records.signed(record, self._references))


def _sealed(candidates: Sequence[_Candidate], key_id: str, key: bytes) -> list[SpooledSignal]:
    return [
        SpooledSignal(
            signal_ref=each.ref,
            key_id=key_id,
            payload=seal(key, each.incoming.payload, spool_place(each.ref)),
            pictures=any(part.image is not None for part in each.incoming.signal.parts),
            traceparent=each.incoming.traceparent,
        )
        for each in candidates
    ]


def spool_place(ref: bytes) -> bytes:
    """The associated data of a spooled payload."""
    return b"detector/spool/" + ref


@dataclass(slots=True)
class _Waiting:
    incoming: Incoming
    answer: asyncio.Future[Outcome]


class Counter:
    """Gathers the signals of all callers into batches: while one batch commits, the next one fills."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._last = 0
        self._drain: asyncio.Task[None] | None = None

    def submit(self, incoming: Incoming) -> asyncio.Future[Outcome]:
        """The outcome, once it is committed. Raises ResourceExhausted when too much waits already."""
        size = len(incoming.payload)
        if self._bytes + size > WAITING_BYTES:
            raise ResourceExhausted("TOO_MUCH_IN_FLIGHT", "Too much content waits.", retry_after_ms=1000)
        self._bytes += size
        waiting = _Waiting(incoming, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._drain_all())
        return waiting.answer

    async def _drain_all(self) -> None:
        while self._waiting:
            if 1 < self._last < BATCH_SIGNALS:
                await asyncio.sleep(GATHER_SECONDS)
            batch = self._next_batch()
            self._last = len(batch)
            try:
                outcomes = await self._intake.commit([each.incoming for each in batch])
            except Exception as error:  # every caller must hear of it; the server turns it into a status
                _fail(batch, error)
            else:
                for each, outcome in zip(batch, outcomes, strict=True):
                    if not each.answer.done():
                        each.answer.set_result(outcome)
            finally:
                self._bytes -= sum(len(each.incoming.payload) for each in batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < BATCH_SIGNALS:
            size += len(self._waiting[0].incoming.payload)
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for each in batch:
        if not each.answer.done():
            passing = is_transient(error)
            each.answer.set_exception(
                Unavailable("STORE_UNAVAILABLE", "The store cannot be reached; try again.") if passing else error
            )


def _count_outcome(outcome: Outcome) -> None:
    word = outcome.refused.reason if outcome.refused else "DUPLICATE" if outcome.duplicate else "ACCEPTED"
    SIGNALS.add(word)
