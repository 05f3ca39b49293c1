"""How a spooled signal is decided: looked at, compared with whom it may concern, committed in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from google.protobuf.message import DecodeError

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import events_pb2 as events
from misuse.detector.v1 import signal_service_pb2 as messages
from services.chassis.clock import Clock
from services.chassis.database import is_transient
from services.chassis.dead_letters import reason_of
from services.chassis.ids import uuid7
from services.chassis.keys import KeyStore, Unsealable, unseal
from services.chassis.telemetry import logger, observe_stage, stage
from services.chassis.tracing import Hops
from services.detector.domain.channels import Channel
from services.detector.domain.clusters import IDENTICAL, Near, Placement, joined, place
from services.detector.domain.decisions import (
    Band,
    Decision,
    IdentifierKind,
    MatchKind,
    ReviewRules,
    WatchedHit,
    decide,
    identifier_kind,
)
from services.detector.domain.signals import Signal
from services.detector.handlers import records
from services.detector.handlers.intake import KnownChannels, spool_place
from services.detector.handlers.remembering import NEWS, Held, Remembering
from services.detector.metrics import DECIDED as DECISIONS
from services.detector.metrics import SPOOL_WAIT
from services.detector.ports import (
    Analysis,
    Analyst,
    Asked,
    Begin,
    Content,
    Gallery,
    Kept,
    Known,
    Likeness,
    NewContent,
    Outcome,
    SpooledSignal,
    Standing,
    StoredDecision,
    Work,
)
from services.detector.sealing import References, Vault, kinds_of
from services.detector.translate import capture_facts, identifier_kinds, signal_of, stamp

log = logger(__name__)

LEASE = timedelta(seconds=120)
"""A batch whose instance died is taken again after this, in real time; a restart frees it at once."""
DECIDE_SIGNAL = "DECIDE_SIGNAL"
"""Dead letter, and due row of its replay, of a signal that was kept aside; its entity is the spool id."""
MOST_WATCHES = 32
DECIDED, UNREADABLE = 2, 3
_NAME_AND_ADDRESS = frozenset({IdentifierKind.NAME.value, IdentifierKind.ADDRESS.value})
_POLL_SECONDS, _PAUSE_SECONDS = 3.0, 0.5
_HEAVY_BYTES = 16 * 1024 * 1024
"""A batch with so much content may have left some of its lane."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Lane:
    """Texts and pictures wait in lanes of their own, so that one does not stand behind the other."""

    pictures: bool
    most: int
    """Signals in a batch, which is committed as one."""
    together: int
    """Signals analysed at once: they share what tiles and readings of texts may cost (adapters/analysis.py)."""
    gather_seconds: float
    """After a batch of several signals more are coming: the next one is taken no sooner than this after it, for a batch
    costs two transactions however few it holds."""


TEXTS = Lane(pictures=False, most=256, together=256, gather_seconds=0.1)
PICTURES = Lane(pictures=True, most=16, together=8, gather_seconds=0.02)
LANES = (TEXTS, PICTURES)


class Turns:
    """The workers of a lane take batches one after the other: what one has taken, no other looks for."""

    def __init__(self, lane: Lane, wakeup: asyncio.Event) -> None:
        """`wakeup` is set after every commit that spooled signals of the lane."""
        self.lane = lane
        self._wakeup = wakeup
        self._turn = asyncio.Lock()
        self._next = 0.0
        wakeup.set()

    @contextlib.asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """A turn, once there may be something and what comes together has come."""
        async with self._turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wakeup.wait()
            await asyncio.sleep(self._next - time.monotonic())
            self._wakeup.clear()
            yield

    def took(self, rows: Sequence[SpooledSignal]) -> None:
        """Notes what was taken, before the turn ends."""
        if len(rows) > 1:
            self._next = time.monotonic() + self.lane.gather_seconds
        heavy = sum(len(row.payload) for row in rows) >= _HEAVY_BYTES
        # A signal that failed before is taken alone.
        if len(rows) == self.lane.most or heavy or any(row.attempts for row in rows):
            self.again()

    def again(self) -> None:
        """Has somebody look at once: something was left, or given back."""
        self._wakeup.set()


@dataclass(slots=True)
class _Batch:
    """What was taken together."""

    lane: Lane
    lease: str = field(default_factory=uuid7)
    rows: Sequence[SpooledSignal] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)


@dataclass(slots=True)
class _Job:
    """A signal on its way to its decision."""

    row: SpooledSignal
    signal: Signal | None = None
    analysis: Analysis | None = None
    decisions: list[Decision] = field(default_factory=list)
    kept: dict[tuple[str, MatchKind], Kept] = field(default_factory=dict)
    stale: bool = False
    """True when somebody it concerned is no longer to be matched."""
    failure: str = ""
    """Why it could not be decided, UPPER_SNAKE: by its own fault, whatever else was in the batch."""
    hopeless: bool = False
    """True when another attempt would fail in the same way."""

    def fail(self, reason: str, *, hopeless: bool = False) -> None:
        """Notes why it cannot be decided."""
        self.failure, self.hopeless = reason, hopeless


@dataclass(frozen=True)
class Deciding:
    """Takes batches from the spool and decides them."""

    begin: Begin
    quietly: Begin
    """A transaction that wakes nobody: for looking and for leases."""
    keys: KeyStore
    vault: Vault
    clock: Clock
    references: References
    analyst: Analyst
    likeness: Likeness
    remembering: Remembering
    gallery: Gallery
    rules: ReviewRules
    executor: Executor
    channels: KnownChannels
    owner: str
    """Name of this instance; rows it held when it died are free when it comes back."""
    paused: Callable[[Lane], bool] = lambda lane: False
    """Whether what a lane needs is away: its signals wait untouched."""
    abandoned: set[str] = field(default_factory=set)
    """Leases of batches that failed and are not free yet."""
    suspects_next: set[Lane] = field(default_factory=set)
    """Lanes of which fresh signals were taken last: where they come steadily, one that failed before would never have
    its turn otherwise."""
    put_aside: Counter[Lane] = field(default_factory=Counter)
    """Signals of each lane that were kept aside since one was decided."""

    @property
    def stopped(self) -> bool:
        """Whether a lane has stopped: so many signals in a row were kept aside that the fault must be ours."""
        return any(self._stopped(lane) for lane in LANES)

    def _stopped(self, lane: Lane) -> bool:
        return self.put_aside[lane] >= self.rules.stop_after

    async def free(self, spool_id: str) -> None:
        """What a due row of kind DECIDE_SIGNAL does: a signal that was kept aside is tried anew, its lane too."""
        async with self.begin() as work:
            await work.spool.unpark(int(spool_id))
        self.put_aside.clear()

    async def batch(self, lane: Lane) -> int:
        """Decides one batch; returns how many signals were taken, none while the lane is stopped or paused."""
        batch = await self._take(lane)
        await self._decide(batch)
        return len(batch.rows)

    async def _take(self, lane: Lane) -> _Batch:
        batch = _Batch(lane)
        if self._stopped(lane) or self.paused(lane):
            return batch
        await self._free_abandoned()
        until = datetime.now(UTC) + LEASE
        try:
            async with self.quietly() as work:
                batch.rows = await work.spool.take(
                    lane.pictures,
                    lane.most,
                    batch.lease,
                    self.owner,
                    until,
                    suspects_first=lane in self.suspects_next,
                )
                batch.channels = await self.channels.known(work) if batch.rows else {}
        except BaseException:
            # Each statement is committed by itself: some may be taken.
            self.abandoned.add(batch.lease)
            raise
        if batch.rows and not batch.rows[0].attempts:
            self.suspects_next.add(lane)
        else:
            self.suspects_next.discard(lane)
        return batch

    async def _decide(self, batch: _Batch) -> bool:
        """Decides what was taken; False where some of it was given back."""
        if not batch.rows:
            return True
        try:
            return await self._decide_rows(batch)
        except BaseException:
            # Free at once what cannot be decided now: no signal is at fault, so that none is counted as failed. Where
            # the store itself is away the next batch frees it.
            self.abandoned.add(batch.lease)
            with contextlib.suppress(Exception):
                await self._free_abandoned()
            raise

    async def _free_abandoned(self) -> None:
        for lease in tuple(self.abandoned):
            async with self.begin() as work:
                await work.spool.release(lease=lease)
            self.abandoned.discard(lease)

    async def _decide_rows(self, batch: _Batch) -> bool:
        times = _Times(taken=time.time())
        with stage("analyse"):
            jobs = await self._beside(self._analysed, batch)
        times.analysed = time.time()
        with stage("decide"):
            await self._find_whom(jobs)
            if any(job.decisions for job in jobs):
                await self._beside(_keep, jobs)
        times.decided = time.time()
        with stage("decide_commit"):
            parked = await self._commit(jobs, batch.lease, times)
        for job in jobs:
            _count_wait(job.row, times.taken)
        self._count(batch.lane, parked, decided=any(not job.failure for job in jobs))
        return not any(job.failure for job in jobs)

    async def _commit(self, jobs: Sequence[_Job], lease: str, times: _Times) -> list[_Job]:
        """Commits what was decided and gives back what failed; returns the jobs that are now kept aside."""
        while True:
            with Hops() as hops:
                commit, committed = _Commit(self, self.clock.now(), hops, times), False
                try:
                    async with self.begin() as work:
                        await commit.run(work, [job for job in jobs if not job.failure], lease)
                        parked = [job for job in jobs if job.failure and await self._put_back(work, job, lease)]
                    committed = True
                    return parked
                except _Incomparable as problem:
                    _note_failure(problem.job, problem.error)
                finally:
                    self.remembering.settled(commit.held, committed=committed)

    async def _put_back(self, work: Work, job: _Job, lease: str) -> bool:
        """Gives back a signal that failed by itself; True where it is kept aside for good, with its dead letter."""
        row = job.row
        park = job.hopeless or row.attempts + 1 >= self.rules.attempts
        held = await work.spool.failed(row.spool_id, lease, park=park)
        if held and park:
            work.set_aside(DECIDE_SIGNAL, str(row.spool_id), job.failure, row.traceparent)
        return held and park

    def _count(self, lane: Lane, parked: Sequence[_Job], decided: bool) -> None:
        if decided:
            self.put_aside[lane] = 0
        self.put_aside[lane] += len(parked)
        for job in parked:
            log.error("signal_kept_aside", spool_id=job.row.spool_id, reason=job.failure)
        if parked and self._stopped(lane):
            log.error("lane_stopped", pictures=lane.pictures, in_a_row=self.put_aside[lane])

    async def run(self, turns: Turns) -> None:
        """Decides what a lane holds, for ever; several that share the turns do so side by side."""
        while True:
            try:
                async with turns.mine():
                    batch = await self._take(turns.lane)
                    turns.took(batch.rows)
                if not await self._decide(batch):
                    turns.again()
            except Exception as error:  # one batch must not end the service; what was taken is free again
                log.error("batch_not_decided", pictures=turns.lane.pictures, error=error)
                await asyncio.sleep(_PAUSE_SECONDS)
                turns.again()

    async def start(self) -> None:
        """Frees what this instance held when it died."""
        async with self.begin() as work:
            await work.spool.release(owner=self.owner)

    async def _beside(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Runs something heavy beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(function, *arguments))

    def _analysed(self, batch: _Batch) -> list[_Job]:
        jobs = [_Job(row) for row in batch.rows]
        keys = {key_id: self.keys.get(key_id) for key_id in {row.key_id for row in batch.rows}}
        for job in jobs:
            self._open(job, keys[job.row.key_id], batch.channels)
        opened, most = [job for job in jobs if not job.failure], batch.lane.together
        for at in range(0, len(opened), most):
            self._analyse(opened[at : at + most])
        return jobs

    def _open(self, job: _Job, key: bytes | None, channels: Mapping[str, Channel]) -> None:
        row = job.row
        if row.attempts >= self.rules.attempts:
            job.fail("BREAKS_ITS_WORKER", hopeless=True)
            return
        if key is None:
            job.fail("SPOOL_KEY_MISSING", hopeless=True)
            return
        try:
            payload = unseal(key, row.payload, spool_place(row.signal_ref))
            signal = signal_of(messages.Signal.FromString(payload))
            # Collectors may leave the group out; thresholds depend on it.
            channel = channels.get(signal.channel)
            job.signal = signal if channel is None else replace(signal, channel_group=channel.channel_group)
        except (Unsealable, DecodeError):
            job.fail("CANNOT_BE_OPENED", hopeless=True)

    def _analyse(self, jobs: Sequence[_Job]) -> None:
        """Analyses all together; where that fails each alone, so that only those which fail by themselves do."""
        try:
            analyses = self.analyst.analyse([job.signal for job in jobs if job.signal is not None])
        except Exception as error:
            if is_transient(error):
                raise
            if len(jobs) == 1:
                _note_failure(jobs[0], error)
                return
            for job in jobs:
                self._analyse([job])
            return
        for job, analysis in zip(jobs, analyses, strict=True):
            job.analysis = analysis

    async def _find_whom(self, jobs: Sequence[_Job]) -> None:
        """Compares what was found with the watched values, and decides."""
        values = [self.references.values(job.analysis.hits) if job.analysis else {} for job in jobs]
        refs = {ref for each in values for ref in each}
        owners: dict[bytes, list[tuple[str, str]]] = {}
        if refs:
            async with self.quietly() as work:
                for ref, subscriber_id, watch_id in await work.watches.matching(refs, self.clock.now()):
                    owners.setdefault(ref, []).append((subscriber_id, watch_id))
        for job, hits in zip(jobs, values, strict=True):
            if job.analysis is None:
                continue
            watched = [
                WatchedHit(subscriber_id, watch_id, hit)
                for ref, found in hits.items()
                for subscriber_id, watch_id in owners.get(ref, ())
                for hit in found
            ]
            job.decisions = decide(job.analysis.faces, watched, self.rules)


@dataclass(slots=True)
class _Times:
    """When a batch came how far, seconds since the epoch: its spans and figures tell it."""

    taken: float
    analysed: float = 0.0
    decided: float = 0.0

    def hop(self, hops: Hops, row: SpooledSignal) -> str:
        """The span of a signal: from its coming to the commit of what was decided; its traceparent."""
        received = _received(row)
        about = {
            "analyse_ms": round(1000 * (self.analysed - self.taken)),
            "search_ms": round(1000 * (self.decided - self.analysed)),
        }
        return hops.begin(row.traceparent, "detector.decide", about, ready_at=received, taken_at=self.taken)


def _received(row: SpooledSignal) -> float | None:
    return row.receive_time.timestamp() if row.receive_time else None


def _count_wait(row: SpooledSignal, taken: float) -> None:
    if (received := _received(row)) is not None:
        SPOOL_WAIT.observe(max(0.0, taken - received), "pictures" if row.pictures else "texts")


class _Incomparable(Exception):
    """A job whose content cannot be compared with others: the batch is committed again without it."""

    def __init__(self, job: _Job, error: Exception) -> None:
        super().__init__("a content cannot be compared")
        self.job, self.error = job, error


def _keep(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        for decision in job.decisions:
            try:
                if job.analysis is not None:
                    job.kept[decision.subscriber_id, decision.kind] = job.analysis.keep(decision)
            except Exception as error:
                if is_transient(error):
                    raise
                _note_failure(job, error)
                break


def _note_failure(job: _Job, error: Exception) -> None:
    job.fail(reason_of(error))
    log.error("signal_not_analysed", spool_id=job.row.spool_id, attempts=job.row.attempts + 1, error=error)


def _drop_stale(jobs: Sequence[_Job], live: Collection[str], standing: Standing) -> None:
    """Drops decisions about subscribers, templates and identifiers that are no longer to be matched."""
    for job in jobs:
        found = job.decisions
        job.decisions = [
            decision
            for decision in found
            if decision.subscriber_id in live
            and (decision.face is None or decision.face.template_id in standing.template_ids)
            and all(each.watch_id in standing.watch_ids for each in decision.watched)
        ]
        job.stale = job.stale or len(job.decisions) < len(found)


class _Commit:
    """The transaction that decides a batch: everything of a signal, or nothing."""

    _work: Work

    def __init__(self, deciding: Deciding, now: datetime, hops: Hops, times: _Times) -> None:
        self._hops = hops
        self._times = times
        self._deciding = deciding
        self._now = now
        self._outcome = Outcome()
        self._exact: dict[bytes, str] = {}
        self._unseen: Collection[bytes] = ()
        """References of contents that were not seen for a day."""
        self.held: Mapping[str, Held] = {}
        """Earlier contents of those whom the batch concerns."""
        self._fresh: dict[str, Known] = {}
        """What this transaction adds to them."""
        self._placements: dict[tuple[int, str, MatchKind], Placement | None] = {}
        self._channels: Mapping[str, Channel] = {}

    async def run(self, work: Work, jobs: Sequence[_Job], lease: str) -> None:
        """Decides the jobs that this lease still holds."""
        self._work, deciding = work, self._deciding
        people = {decision.subscriber_id for job in jobs for decision in job.decisions}
        claimed = await work.batches.claim([job.row.spool_id for job in jobs], lease, people)
        held = [job for job in jobs if job.row.spool_id in claimed.spool_ids]
        self._channels = await deciding.channels.known(work)
        if people:
            live = {who for who, suspended in claimed.suspended.items() if not suspended}
            live = {who for who in live if not deciding.keys.destroyed(who)}
            await self._compare(held, live)
        for job in held:
            with self._hops.within(self._times.hop(self._hops, job.row)):
                self._conclude(job)
        await work.batches.write(self._outcome, self._now)

    async def _compare(self, jobs: Sequence[_Job], live: Collection[str]) -> None:
        """Drops decisions that no longer hold, and places the contents of the others. Under the subscribers' locks:
        whoever stops watching takes the same lock."""
        work, deciding = self._work, self._deciding
        self.held = await deciding.remembering.held(work, live)
        asked = self._asked([(job, each) for job in jobs for each in job.decisions if each.subscriber_id in live])
        standing = await work.batches.look(asked, NEWS, self._now)
        _drop_stale(jobs, live, standing)
        await deciding.remembering.catch_up(work, self.held, standing.newer, deciding._beside)
        self._exact = dict(standing.clusters)
        self._unseen = standing.unseen
        self._outcome.due = deciding.remembering.purges(self.held)
        await deciding._beside(self._place_all, jobs)

    def _asked(self, decisions: Sequence[tuple[_Job, Decision]]) -> Asked:
        references = self._deciding.references
        return Asked(
            value_refs={references.value(w.hit.kind, w.hit.canonical) for _, each in decisions for w in each.watched},
            template_ids={each.face.template_id for _, each in decisions if each.face},
            content_refs={
                references.content(each.subscriber_id, content.sha256)
                for job, each in decisions
                for content in self._kept(job, each).contents
            },
            after={who: each.last for who, each in self.held.items()},
        )

    @staticmethod
    def _kept(job: _Job, decision: Decision) -> Kept:
        return job.kept[decision.subscriber_id, decision.kind]

    def _conclude(self, job: _Job) -> None:
        signal, analysis = job.signal, job.analysis
        assert signal is not None and analysis is not None  # jobs that failed do not come here
        for decision in job.decisions:
            self._store(job, signal, analysis, decision)
        none_id, kind = None, 0
        if not job.decisions:
            none_id, kind = uuid7(), int(_kind_of(signal))
            self._record_none(none_id, job, signal, analysis)
        DECISIONS.add(min((decision.band for decision in job.decisions), default=Band.NONE).name)
        unread = len(analysis.unreadable) == len(signal.parts)
        self._outcome.signals.append((job.row.signal_ref, UNREADABLE if unread else DECIDED, none_id, kind))
        if signal.discover_time is not None:
            observe_stage("discover_to_decision", (self._now - signal.discover_time).total_seconds())

    def _record_none(self, decision_id: str, job: _Job, signal: Signal, analysis: Analysis) -> None:
        reasons = ("NO_LONGER_MATCHED",) if job.stale else records.none_reasons(analysis)
        nobody = Decision("", _kind_of(signal), Band.NONE, reasons)
        self._record(decision_id, job, signal, analysis, nobody, None)

    def _record(
        self,
        decision_id: str,
        job: _Job,
        signal: Signal,
        analysis: Analysis,
        decision: Decision,
        placement: Placement | None,
    ) -> None:
        deciding = self._deciding
        first = not job.decisions or decision is job.decisions[0]
        record = records.decision(
            decision_id,
            signal,
            job.row.signal_ref,
            self._group(signal),
            decision,
            placement,
            analysis,
            deciding.analyst,
            deciding.gallery,
            self._now,
            records.unowned(analysis, job.decisions) if first else (),
        )
        self._work.record(decision.subscriber_id or job.row.signal_ref.hex(), record)

    def _group(self, signal: Signal) -> str:
        channel = self._channels.get(signal.channel)
        return channel.channel_group if channel else signal.channel_group

    def _store(self, job: _Job, signal: Signal, analysis: Analysis, decision: Decision) -> None:
        decision_id = uuid7()
        placement = self._placements[job.row.spool_id, decision.subscriber_id, decision.kind]
        # The event goes out before the record: `case` links the decision to its case first.
        facts = self._facts(decision_id, job, signal, analysis, decision, placement)
        needs = {Band.MATCH: events.SignalMatched, Band.REVIEW: events.ReviewNeeded}[decision.band]
        self._work.event(decision.subscriber_id, needs(facts=facts))
        self._record(decision_id, job, signal, analysis, decision, placement)
        self._outcome.decisions.append(self._stored_decision(decision_id, job, signal, analysis, decision, placement))

    def _place_all(self, jobs: Sequence[_Job]) -> None:
        """Places every content in its cluster. Heavy: runs beside the event loop, once for the batch."""
        for job in jobs:
            for decision in job.decisions:
                who = decision.subscriber_id
                placements = [self._place(job, who, content) for content in self._kept(job, decision).contents]
                self._placements[job.row.spool_id, who, decision.kind] = joined(placements)

    def _place(self, job: _Job, subscriber_id: str, content: Content) -> Placement:
        deciding = self._deciding
        ref = deciding.references.content(subscriber_id, content.sha256)
        if ref in self._exact:
            if ref in self._unseen:
                self._outcome.seen_again.add(ref)
            return Placement(self._exact[ref], IDENTICAL, 0)
        known, fresh = self.held[subscriber_id].known, self._fresh.get(subscriber_id)
        near = [near for each in (known, fresh) if each for near in self._near(job, content, each)]
        placement = place(uuid7(), near)
        self._exact[ref] = placement.cluster_id
        if fresh is None:
            fresh = self._fresh[subscriber_id] = deciding.likeness.nothing_known()
        fresh.add(content.medium, placement.cluster_id, content.fingerprint)
        sealed = deciding.vault.seal(subscriber_id, "content", subscriber_id, "fingerprint", content.data)
        self._outcome.contents.append(NewContent(subscriber_id, placement.cluster_id, content.medium, ref, sealed))
        return placement

    def _near(self, job: _Job, content: Content, known: Known) -> Sequence[Near]:
        try:
            return self._deciding.likeness.near(content, known)
        except Exception as error:
            if is_transient(error):
                raise
            raise _Incomparable(job, error) from error

    def _facts(
        self,
        decision_id: str,
        job: _Job,
        signal: Signal,
        analysis: Analysis,
        decision: Decision,
        placement: Placement | None,
    ) -> events.MatchFacts:
        deciding = self._deciding
        channel = self._channels.get(signal.channel)
        face = decision.kind is MatchKind.FACE
        return events.MatchFacts(
            decision_id=decision_id,
            subscriber_id=decision.subscriber_id,
            signal_ref=job.row.signal_ref,
            kind=common.MatchKind.ValueType(decision.kind),
            channel=signal.channel,
            channel_group=self._group(signal),
            source_type=common.SourceType.ValueType(signal.source_type),
            platform=channel.platform if channel else "",
            discover_time=stamp(signal.discover_time),
            decide_time=stamp(self._now),
            cluster_id=placement.cluster_id if placement else "",
            cluster_rule=placement.rule if placement else "",
            cluster_distance_milli=placement.distance_milli if placement else 0,
            cluster_rule_version=deciding.likeness.rule_version,
            watch_ids=sorted({each.watch_id for each in decision.watched})[:MOST_WATCHES],
            identifier_kinds=identifier_kinds(identifier_kind(each.hit) for each in decision.watched),
            post_ref=deciding.references.post(signal),
            url_ref=deciding.references.url(signal),
            doxing=analysis.doxing and not face,
            template_id=decision.face.template_id if decision.face else "",
            rule_version=deciding.analyst.face_rule_version if face else deciding.analyst.text_rule_version,
            also_cluster_ids=placement.also if placement else (),
            sexual_content_reported=signal.sexual_content_reported,
            dump_ref=deciding.references.dump(signal),
            name_and_address=_NAME_AND_ADDRESS <= set(kinds_of(analysis.hits)),
        )

    def _stored_decision(
        self,
        decision_id: str,
        job: _Job,
        signal: Signal,
        analysis: Analysis,
        decision: Decision,
        placement: Placement | None,
    ) -> StoredDecision:
        face = decision.face
        scores = json.dumps(
            {"score": face.score, "margin": face.margin, "reach": face.reach} if face else {}
        ).encode()
        capture = self._capture(decision_id, job, signal, analysis, decision, placement)
        seal = partial(self._deciding.vault.seal, decision.subscriber_id, "decision", decision_id)
        return StoredDecision(
            decision_id=decision_id,
            signal_ref=job.row.signal_ref,
            subscriber_id=decision.subscriber_id,
            band=decision.band,
            kind=decision.kind,
            template_id=face.template_id if face else "",
            scores=seal("scores", scores),
            capture=seal("capture", capture.SerializeToString()),
        )

    def _capture(
        self,
        decision_id: str,
        job: _Job,
        signal: Signal,
        analysis: Analysis,
        decision: Decision,
        placement: Placement | None,
    ) -> messages.Capture:
        kept = self._kept(job, decision)
        facts = self._decision_facts(analysis, decision, placement)
        return messages.Capture(
            decision_id=decision_id,
            subscriber_id=decision.subscriber_id,
            channel=signal.channel,
            channel_group=self._group(signal),
            source_type=common.SourceType.ValueType(signal.source_type),
            source_url=signal.source_url,
            parent_url=signal.parent_url,
            post_id=signal.post_id,
            discover_time=stamp(signal.discover_time),
            publish_time=stamp(signal.publish_time),
            collection_basis=common.CollectionBasis.ValueType(signal.collection_basis),
            policy_rule_id=signal.policy_rule_id,
            capture_facts=capture_facts(signal.capture),
            part_hashes=[
                messages.PartHash(part=name, sha256=digest, size_bytes=size)
                for name, digest, size in signal.part_hashes()
            ],
            masked_text=kept.masked_text,
            redacted_thumbnail=kept.thumbnail,
            candidate_crop=kept.candidate_crop if decision.band is Band.REVIEW else b"",
            decision=facts,
        )

    def _decision_facts(
        self, analysis: Analysis, decision: Decision, placement: Placement | None
    ) -> messages.DecisionFacts:
        analyst = self._deciding.analyst
        face = decision.kind is MatchKind.FACE
        return messages.DecisionFacts(
            band=common.Band.ValueType(decision.band),
            kind=common.MatchKind.ValueType(decision.kind),
            reasons=decision.reasons,
            model_id=analyst.model_id if face else "",
            engine_id=analyst.engine_id if face else "",
            rule_version=analyst.face_rule_version if face else analyst.text_rule_version,
            identifier_kinds=identifier_kinds(kinds_of(analysis.hits)),
            decide_time=stamp(self._now),
            faces_found=analysis.faces_found,
            cluster_id=placement.cluster_id if placement else "",
            cluster_rule=placement.rule if placement else "",
        )


def _kind_of(signal: Signal) -> MatchKind:
    """What a signal with nobody in it was looked at for."""
    return MatchKind.FACE if signal.images else MatchKind.PII
