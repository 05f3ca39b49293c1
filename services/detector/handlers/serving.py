"""What else is asked of the detector: channels, the state of a signal, captures; and what must be swept."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import PURPOSE_REVIEW, ROLE_OPERATOR
from misuse.detector.v1 import events_pb2 as events
from misuse.detector.v1 import signal_service_pb2 as messages
from services.chassis.clock import Clock
from services.chassis.errors import Aborted, InvalidInput, NotFound
from services.chassis.keys import KeyStore
from services.chassis.telemetry import logger
from services.chassis.tokens import current_actor
from services.detector.domain.channels import BadChannel, Channel, ChannelLevel
from services.detector.domain.decisions import Band, MatchKind, ReviewRules
from services.detector.domain.signals import usable_id
from services.detector.handlers import records
from services.detector.handlers.intake import MOST_CHANNELS, KnownChannels
from services.detector.ports import Begin, StoredDecision, Work
from services.detector.sealing import References, Vault

log = logger(__name__)

MOST_REASON_CHARACTERS = 256
MOST_PURGED = 500
"""Captures in one round of the sweep."""
SPOOL_KEY_RULE = "SPOOL_KEY_WITHOUT_ROWS"
LONGEST_REQUIREMENT = timedelta(days=366)
"""How long ago a new channel may have been asked for."""


@dataclass(frozen=True)
class Watching:
    """The channel rows."""

    begin: Begin
    clock: Clock
    references: References
    source_types: frozenset[int]
    known: KnownChannels

    async def page(self, after: str, most: int) -> list[Channel]:
        """A page of channels by id."""
        async with self.begin() as work:
            return await work.channels.page(after, most)

    async def get(self, channel: str) -> Channel:
        """One channel."""
        async with self.begin() as work:
            return _found(await work.channels.get(channel))

    async def put(self, request: Message, wanted: Channel, require_time: datetime | None = None) -> Channel:
        """Stores a channel whose version is the stored one (0 for a new one). `require_time`: when a new one was asked
        for, now where unset."""
        self._check(wanted)
        now = self.clock.now()
        if require_time is not None and not now - LONGEST_REQUIREMENT <= require_time <= now:
            bad = [("require_time", "OUT_OF_BOUNDS")]
            raise InvalidInput("OUT_OF_BOUNDS", "A channel cannot have been asked for then.", violations=bad)
        async with self.begin() as work:
            caller = current_actor().subject
            if known := await work.recall(caller, "UpsertChannel", request):
                return _found(await work.channels.get(known))
            before = await work.channels.get(wanted.channel, lock=True)
            if wanted.version != (before.version if before else 0):
                raise Aborted("VERSION_MISMATCH", "The channel was changed meanwhile; read it again.")
            if before is None and len(await work.channels.page("", MOST_CHANNELS)) >= MOST_CHANNELS:
                raise InvalidInput("TOO_MANY_CHANNELS", "There are as many channels as can be.")
            stored = replace(wanted, version=wanted.version + 1, update_time=now)
            if before is None:
                self._onboard(work, stored, "REQUIRED", require_time or now)
            await self._store(work, stored, before, "CHANGED" if before else "CREATED")
            await work.remember(caller, "UpsertChannel", request, stored.channel)
        self.known.forget()
        return stored

    async def pause(self, channel: str, paused: bool, reason: str) -> Channel:
        """Pauses or resumes; a channel that is so already stays as it is."""
        if len(reason) > MOST_REASON_CHARACTERS:
            raise InvalidInput("TEXT_TOO_LARGE", "The reason is too long.", violations=[("reason", "TEXT_TOO_LARGE")])
        async with self.begin() as work:
            before = _found(await work.channels.get(channel, lock=True))
            if before.paused == paused:
                return before
            stored = replace(before, paused=paused, version=before.version + 1, update_time=self.clock.now())
            await self._store(work, stored, before, "PAUSED" if paused else "RESUMED")
        self.known.forget()
        return stored

    def _check(self, wanted: Channel) -> None:
        try:
            wanted.check()
        except BadChannel as problem:
            field_name = f"channel.{problem.field}"
            raise InvalidInput(
                problem.reason, "The channel is not well formed.", violations=[(field_name, problem.reason)]
            ) from None
        if wanted.source_type not in self.source_types:
            raise InvalidInput(
                "UNKNOWN_ENUM", "The source type is not known.", violations=[("channel.source_type", "UNKNOWN_ENUM")]
            )

    async def _store(self, work: Work, channel: Channel, before: Channel | None, reason: str) -> None:
        await work.channels.put(channel)
        record = records.channel_scan(
            channel.channel, channel.channel_group, channel.level.name, reason, channel.version, self.clock.now()
        )
        work.record(channel.channel, records.signed(record, self.references))
        if _live(channel) and not (before and _live(before)):
            self._onboard(work, channel, "LIVE", self.clock.now())
        if before is not None and before.level is not channel.level:
            work.event(
                channel.channel,
                events.ChannelSwitched(
                    channel=channel.channel,
                    channel_group=channel.channel_group,
                    from_level=before.level.name,
                    to_level=channel.level.name,
                    reason="OPERATOR",
                ),
            )


    def _onboard(self, work: Work, channel: Channel, step: str, step_time: datetime) -> None:
        record = records.onboarding(
            channel.channel, channel.channel_group, step, step_time, channel.version, self.clock.now()
        )
        work.record(channel.channel, records.signed(record, self.references))


def _live(channel: Channel) -> bool:
    """Whether signals of it are let in."""
    return not channel.paused and channel.level is not ChannelLevel.BLOCKED


def _found(channel: Channel | None) -> Channel:
    if channel is None:
        raise NotFound("NO_SUCH_CHANNEL", "There is no such channel.")
    return channel


@dataclass(frozen=True, slots=True)
class SignalStatus:
    """Where a signal stands; decisions are (id, band, kind)."""

    state: int
    decisions: Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class Looking:
    """Signals and captures, as others may see them."""

    begin: Begin
    vault: Vault
    references: References

    async def status(self, signal_id: str) -> SignalStatus:
        """Where a signal stands; its decisions are for operators."""
        if not usable_id(signal_id):
            raise InvalidInput("BAD_SIGNAL_ID", "This is no signal id.", violations=[("signal_id", "BAD_SIGNAL_ID")])
        ref = self.references.signal(signal_id)
        async with self.begin() as work:
            known = (await work.spool.remembered([ref])).get(ref)
            if known is None:
                raise NotFound("NO_SUCH_SIGNAL", "There is no such signal.")
            if current_actor().role != ROLE_OPERATOR:
                return SignalStatus(known.state, ())
            found = [(each.decision_id, int(each.band), int(each.kind)) for each in await work.decisions.of_signal(ref)]
        if known.none_decision_id:
            found.append((known.none_decision_id, int(Band.NONE), known.kind or int(MatchKind.PII)))
        return SignalStatus(known.state, found)

    async def captures(self, decision_ids: Collection[str]) -> dict[str, messages.Capture]:
        """What was kept of decisions, by their ids, as far as it is there; for a REVIEW, and for whoever labels a
        MATCH, with the crop that the subscriber consented to keep. Of a MATCH that was handed over long ago, labellers
        get that crop alone."""
        found = {}
        async with self.begin() as work:
            for decision in await work.decisions.some(decision_ids):
                if (capture := await self._shown(work, decision)) is not None:
                    found[decision.decision_id] = capture
        return found

    async def _shown(self, work: Work, decision: StoredDecision) -> messages.Capture | None:
        labelled = current_actor().purpose == PURPOSE_REVIEW and decision.band is Band.MATCH
        capture, crop = self._opened(decision), b""
        if decision.template_id and (labelled or decision.band is Band.REVIEW):
            crop = await self._template_crop(work, decision.template_id)
        if capture is None:
            if not (labelled and crop):
                return None
            capture = messages.Capture(decision_id=decision.decision_id, subscriber_id=decision.subscriber_id)
        capture.template_crop = crop
        return capture

    def _opened(self, decision: StoredDecision) -> messages.Capture | None:
        if decision.capture is None:
            return None
        owner, decision_id = decision.subscriber_id, decision.decision_id
        opened = self.vault.open(owner, "decision", decision_id, "capture", decision.capture)
        return None if opened is None else messages.Capture.FromString(opened)

    async def _template_crop(self, work: Work, template_id: str) -> bytes:
        held = await work.templates.get(template_id)
        if held is None or held.crop is None:
            return b""
        owner = held.template.subscriber_id
        return self.vault.open(owner, "face_template", template_id, "crop", held.crop) or b""

    async def release(self, decision_ids: Collection[str]) -> None:
        """Deletes captures; harmless where there are none."""
        async with self.begin() as work:
            await work.decisions.release(decision_ids)


@dataclass
class Sweeping:
    """Destroys spool keys whose rows are gone, and forgets what is past its retention."""

    begin: Begin
    keys: KeyStore
    clock: Clock
    rules: ReviewRules
    settle_seconds: float = 60.0
    """How long, in real time, a key must have been without rows: a submission may just be committing."""
    _empty_since: dict[str, float] = field(default_factory=dict)

    async def sweep(self) -> None:
        """One round."""
        now = self.clock.now()
        async with self.begin() as work:
            await work.spool.purge_memory(now - timedelta(days=self.rules.signal_memory_days))
            await self._purge_captures(work, now)
            await work.decisions.purge(now - timedelta(days=self.rules.score_retention_days))
            await work.purge_nonces(now)
            await work.scans.purge(now - timedelta(days=self.rules.signal_memory_days))
            # A key is used within its hour of business time only.
            empty = await work.spool.unused_keys(now - timedelta(hours=1))
            for key_id in set(empty) - self._empty_since.keys():
                work.record(key_id, records.purge_due("SPOOL_KEY", key_id, now, SPOOL_KEY_RULE, now))
        moment = time.monotonic()
        self._empty_since = {key_id: self._empty_since.get(key_id, moment) for key_id in empty}
        for key_id, since in list(self._empty_since.items()):
            if moment - since >= self.settle_seconds:
                await self._destroy(key_id)

    async def _purge_captures(self, work: Work, now: datetime) -> None:
        """Whoever a capture was made for has had all the time to take it over into evidence."""
        kept = timedelta(days=self.rules.capture_days)
        for decision_id, made in await work.decisions.purge_captures(now - kept, MOST_PURGED):
            work.record(decision_id, records.purge("CAPTURE", decision_id, made + kept, "CAPTURE_NOT_RELEASED", now))

    async def _destroy(self, key_id: str) -> None:
        now = self.clock.now()
        async with self.begin() as work:
            if key_id not in await work.spool.unused_keys(now):
                return
            self.keys.destroy(key_id)
            await work.spool.forget_key(key_id)
            work.record(key_id, records.purge("SPOOL_KEY", key_id, now, SPOOL_KEY_RULE, now))
        del self._empty_since[key_id]
