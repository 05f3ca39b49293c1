"""How does a sighting become evidence? Runs as due work, apart from the intake, and as often as it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.case.v1 import events_pb2
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_REMOVAL
from misuse.common.v1.access_pb2 import PURPOSE_CASE_HANDLING
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case import records
from services.case.domain.cases import Case
from services.case.domain.evidence import (
    MAX_ARCHIVE_BYTES,
    Built,
    Choice,
    Item,
    Json,
    Pack,
    build,
    canonical,
    choose,
    missing_fields,
)
from services.case.domain.rules import Rules
from services.case.domain.words import CaseState, SubscriberState
from services.case.ports import (
    GIVE_UP,
    Captures,
    PackSummary,
    Sighting,
    Signer,
    StoredCapture,
    Unit,
    Units,
    Who,
)
from services.case.translate import capture_json, decision_json
from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.ids import uuid7

_FETCH_AT_ONCE = 8
_TOLD_AT_MOST = 100
"""Sightings in one EvidencePacked; more are told in further events."""


@dataclass(frozen=True)
class Packing:
    """What packing needs."""

    units: Units
    captures: Captures
    signer: Signer
    rules: Rules
    now: Callable[[], datetime]
    most_bytes: int = MAX_ARCHIVE_BYTES
    """Size of the largest archive."""


async def pack_case(needs: Packing, case_id: str) -> None:
    """Fetches what is missing, packs, publishes, releases the detector's copies. Does nothing where nothing is
    new, and then still releases what an interrupted run has left.
    """
    async with needs.units() as unit:
        sightings = await _worth_packing(unit, case_id, needs.rules)
        stored = await unit.evidence.captures([sighting.decision_id for sighting in sightings])
    await _fetch(needs, [sighting for sighting in sightings if sighting.decision_id not in stored])
    async with needs.units() as unit:
        decisions = await _pack(unit, needs, case_id)
    await release(needs, decisions)


async def _worth_packing(unit: Unit, case_id: str, rules: Rules) -> Sequence[Sighting]:
    """The sightings that belong into the pack; none where the case is an alias or wants no evidence."""
    root = await unit.cases.get(case_id)
    if root is None or root.state in (CaseState.MERGED, CaseState.PURGED) or root.is_false_positive:
        return ()
    subscriber = await unit.subscribers.get(root.subscriber_id)
    if subscriber is None or subscriber.state is not SubscriberState.ACTIVE:
        return ()
    return await unit.cases.sightings(case_id, rules.max_items)


async def _fetch(needs: Packing, sightings: Sequence[Sighting]) -> None:
    """Takes captures over; what the detector no longer has is remembered as absent."""
    gate = asyncio.Semaphore(_FETCH_AT_ONCE)

    async def fetch(sighting: Sighting) -> tuple[Sighting, bytes]:
        async with gate:
            content = await needs.captures.fetch(sighting.decision_id, PURPOSE_CASE_HANDLING)
        return sighting, content or b""

    fetched = await asyncio.gather(*(fetch(sighting) for sighting in sightings))
    if fetched:
        async with needs.units() as unit:
            for sighting, content in fetched:
                await unit.evidence.keep(
                    sighting.subscriber_id, sighting.decision_id, content, PURPOSE_CASE_HANDLING, needs.now()
                )


async def _pack(unit: Unit, needs: Packing, case_id: str) -> Collection[str]:
    """Builds the next version where there is something new. Returns decisions whose copies may go."""
    now = needs.now()
    root = await unit.cases.get(case_id)
    if root is None:
        return ()
    await unit.subscribers.lock([root.subscriber_id])
    sightings = await _worth_packing(unit, case_id, needs.rules)
    root = await unit.cases.get(case_id)
    stored = await unit.evidence.captures([sighting.decision_id for sighting in sightings])
    # A sighting that came in while we fetched has its own reminder.
    ready = [sighting for sighting in sightings if sighting.decision_id in stored]
    latest = await unit.evidence.latest(case_id)
    fresh = [sighting for sighting in ready if sighting.pack_version is None]
    if root is not None and ready and (fresh or latest is None or latest.items != len(ready)):
        await _build(unit, needs, root, ready, fresh, stored, latest, now)
    return [item.decision_id for item in stored.values() if item.content and not item.released]


async def _build(
    unit: Unit,
    needs: Packing,
    root: Case,
    sightings: Sequence[Sighting],
    fresh: Sequence[Sighting],
    stored: Mapping[str, StoredCapture],
    latest: PackSummary | None,
    now: datetime,
) -> None:
    # The newest first, as the sightings come.
    items = [item_of(s, stored[s.decision_id], needs.rules.required) for s in sightings]
    attached = (await unit.cases.attachments([root.case_id]))[root.case_id]
    pack = Pack(
        pack_id=uuid7(),
        case_id=root.case_id,
        version=latest.version + 1 if latest else 1,
        create_time=now,
        rule_version=needs.rules.evidence_version,
        key_id=needs.signer.key_id,
        merged_case_ids=attached.merged_case_ids,
    )
    choice = choose(pack, items, needs.most_bytes)
    built = build(pack, choice, needs.signer.sign)
    summary = PackSummary(
        pack.pack_id, root.case_id, pack.version, built.manifest_sha256, len(built.archive), len(items), now
    )
    await unit.evidence.add_pack(
        root.subscriber_id, summary, built.archive, [sighting.sighting_id for sighting in fresh]
    )
    _record(unit, needs.rules, root, pack, built, choice, {sighting.sighting_id for sighting in fresh}, now)
    complete = {item.sighting_id for item in choice.packed if not item.missing}
    await _publish(unit, root, pack, built, [s for s in fresh if s.sighting_id in complete])
    await _supersede(unit, root, pack.version - needs.rules.keep_versions, needs.rules, now)
    await _start_action(unit, root, needs.rules, now)


def item_of(sighting: Sighting, stored: StoredCapture, required: Sequence[str]) -> Item:
    """A sighting's files, from what the detector handed over."""
    capture = Capture.FromString(stored.content)
    found, decision = capture_json(capture), decision_json(capture)
    files = {
        "capture.json": canonical(_as_json(found)) if found else b"",
        "decision.json": canonical(_as_json(decision)) if decision else b"",
        "masked.txt": capture.masked_text.encode(),
        "thumbnail.jpg": capture.redacted_thumbnail,
    }
    return Item(
        sighting_id=sighting.sighting_id,
        decision_id=sighting.decision_id,
        case_id=sighting.case_id,
        kind=sighting.kind.name,
        channel=sighting.channel,
        channel_group=sighting.channel_group,
        rule=sighting.rule,
        discover_time=sighting.discover_time,
        files={name: content for name, content in files.items() if content},
        missing=missing_fields(found, bool(decision), required),
        fetch_time=stored.fetch_time,
        capture_sha256=stored.sha256,
    )


def _as_json(value: dict[str, Json]) -> Json:
    return value


def _record(
    unit: Unit,
    rules: Rules,
    root: Case,
    pack: Pack,
    built: Built,
    choice: Choice,
    fresh: Collection[str],
    now: datetime,
) -> None:
    digest, version = built.manifest_sha256, rules.evidence_version
    record = records.evidence(root, pack.pack_id, "BUILT", digest, len(choice.packed), version, now)
    unit.record(root.subscriber_id, record)
    lacking = [("INCOMPLETE", item) for item in choice.packed if item.missing]
    lacking += [("OMITTED", item) for item in choice.omitted]
    for action, item in lacking:
        if item.sighting_id in fresh:
            record = records.evidence(
                root,
                pack.pack_id,
                action,
                digest,
                1,
                version,
                now,
                missing=item.missing,
                decision_id=item.decision_id,
            )
            unit.record(root.subscriber_id, record)


async def _supersede(unit: Unit, root: Case, version: int, rules: Rules, now: datetime) -> None:
    """Leaves of an old version what proves it, and not one more copy of every item."""
    old = await unit.evidence.leave_manifest(root.subscriber_id, root.case_id, version)
    if old is not None:
        record = records.evidence(
            root, old.pack_id, "SUPERSEDED", old.manifest_sha256, old.items, rules.evidence_version, now
        )
        unit.record(root.subscriber_id, record)


async def _publish(unit: Unit, root: Case, pack: Pack, built: Built, fresh: Sequence[Sighting]) -> None:
    consent = await unit.subscribers.standing(root.subscriber_id, CONSENT_SCOPE_REMOVAL)
    for start in range(0, max(1, len(fresh)), _TOLD_AT_MOST):
        event = events_pb2.EvidencePacked(
            case_id=root.case_id,
            subscriber_id=root.subscriber_id,
            pack_id=pack.pack_id,
            version=pack.version,
            manifest_sha256=built.manifest_sha256,
            sightings=[_packed(sighting) for sighting in fresh[start : start + _TOLD_AT_MOST]],
            removal_consent=consent is not None,
        )
        unit.tell(root.subscriber_id, event)


def _packed(sighting: Sighting) -> events_pb2.PackedSighting:
    return events_pb2.PackedSighting(
        sighting_id=sighting.sighting_id,
        channel=sighting.channel,
        channel_group=sighting.channel_group,
        platform=sighting.platform,
        kind=sighting.kind.value,  # type: ignore[arg-type] # FACE and PII have the same numbers
    )


async def _start_action(unit: Unit, root: Case, rules: Rules, now: datetime) -> None:
    if root.state not in (CaseState.OPEN, CaseState.RESOLVED):
        return
    before = root.state.name
    root.move(CaseState.ACTION_STARTED, now)
    # Without a platform or a consent nobody will ever tell of a removal.
    root.due_time = now + rules.give_up_after
    await unit.cases.update([root])
    # A row of an earlier round would hold with its earlier time.
    await unit.forget_reminder(GIVE_UP, root.case_id)
    await unit.remind(GIVE_UP, {root.case_id: (root.due_time, "")})
    unit.record(root.subscriber_id, records.lifecycle(root, "ACTION_STARTED", before, now))


async def release(needs: Packing, decision_ids: Collection[str]) -> None:
    """Tells the detector that its copies may go, then notes it: a crash between the two repeats the call."""
    for decision_id in decision_ids:
        await needs.captures.release(decision_id, PURPOSE_CASE_HANDLING)
    if decision_ids:
        async with needs.units() as unit:
            await unit.evidence.mark_released(decision_ids)


async def read_pack(
    unit: Unit, case_id: str, version: int, owner: str, rules: Rules, now: datetime, who: Who
) -> tuple[PackSummary, bytes]:
    """A pack of a case; the reading is recorded. A merged case without a pack of its own answers with its
    root's, a superseded version with its manifest and signature. Raises NotFound, FailedPrecondition
    NOT_PACKED_YET.
    """
    case = await unit.cases.get(case_id)
    if case is None or (owner and case.subscriber_id != owner):
        raise NotFound("CASE_UNKNOWN", "There is no such case.")
    found = None
    # A version is counted per case: one that was announced before a merge is asked for by the merged id.
    for candidate in (case_id, case.root_case_id) if version else (case.root_case_id, case_id):
        found = found or await unit.evidence.pack(candidate, version)
    if found is None and version:
        raise NotFound("PACK_UNKNOWN", "The case has no pack of this version.")
    if found is None:
        raise FailedPrecondition(
            "NOT_PACKED_YET", "No evidence is packed yet.", violations=[("case", "NOT_PACKED_YET")]
        )
    summary, archive = found
    record = records.evidence(
        case, summary.pack_id, "READ", summary.manifest_sha256, summary.items, rules.evidence_version, now, who=who
    )
    unit.record(case.subscriber_id, record)
    return summary, archive
