"""How does a sighting become evidence? Runs as due work, apart from the intake, and as often as it is asked."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.case.v1 import events_pb2
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_REMOVAL
from misuse.common.v1.access_pb2 import PURPOSE_CASE_HANDLING, Purpose, Role
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case import records
from services.case.domain.archive import Json, Signed, canonical, contents_put_away, statement
from services.case.domain.cases import Case
from services.case.domain.custody import Touch, iso
from services.case.domain.evidence import (
    MAX_ARCHIVE_BYTES,
    Choice,
    Item,
    Pack,
    build,
    choose,
    missing_fields,
)
from services.case.domain.guidance import Guidance
from services.case.domain.requirements import Requirements
from services.case.domain.rules import Rules
from services.case.domain.words import CaseState, SubscriberState
from services.case.handlers.guiding import attach_guidance
from services.case.handlers.reporting import Reporting, documents_of, found_of
from services.case.ports import (
    GIVE_UP,
    Captures,
    PackSummary,
    Pages,
    Sighting,
    Signer,
    StoredCapture,
    Timestamps,
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
TOUCHES_AT_MOST = 200
"""Entries about whole packs in one chain of custody, the newest; all of them are in the case log."""
SUPERSEDED_FORMAT = "jikimi-superseded/1"


@dataclass(frozen=True)
class Packing:
    """What packing needs."""

    units: Units
    captures: Captures
    signer: Signer
    timestamps: Timestamps
    rules: Rules
    requirements: Requirements
    guidance: Guidance
    pages: Pages
    now: Callable[[], datetime]
    most_bytes: int = MAX_ARCHIVE_BYTES
    """Size of the largest archive."""


async def pack_case(needs: Packing, case_id: str) -> None:
    """Fetches what is missing, packs, publishes, releases the detector's copies. Does nothing where nothing is
    new, and then still releases what an interrupted run has left.
    """
    async with needs.units() as unit:
        sightings = await _worth_packing(unit, case_id, needs.rules)
        fetched = await unit.evidence.fetched([sighting.decision_id for sighting in sightings])
    await _fetch(needs, [sighting for sighting in sightings if sighting.decision_id not in fetched])
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
    by_owner: dict[str, dict[str, bytes]] = defaultdict(dict)
    for sighting, content in fetched:
        by_owner[sighting.subscriber_id][sighting.decision_id] = content
    if by_owner:
        async with needs.units() as unit:
            for owner, contents in by_owner.items():
                await unit.evidence.keep(owner, contents, PURPOSE_CASE_HANDLING, needs.now())


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
    if root is not None and ready and (fresh or await _is_behind(unit, root, latest, len(ready))):
        await _build(unit, needs, root, ready, fresh, stored, latest, now)
    return [item.decision_id for item in stored.values() if item.content and not item.released]


async def _is_behind(unit: Unit, root: Case, latest: PackSummary | None, sightings: int) -> bool:
    """Whether the latest pack names other sightings, or the subscriber has said something since: whether it is them, or
    what became of the guidance.
    """
    if latest is None or (latest.items, latest.verdict) != (sightings, root.verdict):
        return True
    return any(path.pack_version is None for path in await unit.evidence.guidance(latest.case_id))


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
    founds = [found_of(s, stored[s.decision_id]) for s in sightings]
    await attach_guidance(unit, root, needs.guidance, {(found.source_type, found.kind) for found in founds}, now)
    pack = await _draft(unit, needs, root, latest, now)
    reporting = Reporting(unit, needs.requirements, needs.guidance, needs.pages, root, pack, founds)
    documents = await documents_of(reporting, items, ())
    # Beside the event loop, as the page: 500 sightings take more than a second of a processor.
    choice = await asyncio.to_thread(choose, pack, items, documents, needs.most_bytes)
    if choice.omitted:
        documents = await documents_of(reporting, choice.packed, choice.omitted)
    built = await asyncio.to_thread(build, pack, choice, documents, needs.signer.sign)
    archive = await asyncio.to_thread(built.finished, await needs.timestamps.stamp(built.imprint))
    summary = PackSummary(
        pack.pack_id,
        root.case_id,
        pack.version,
        built.manifest_sha256,
        len(archive),
        len(items),
        now,
        root.verdict,
    )
    await unit.evidence.add_pack(root.subscriber_id, summary, archive, [sighting.sighting_id for sighting in fresh])
    _record(unit, needs.rules, root, pack, built, choice, {sighting.sighting_id for sighting in fresh}, now)
    complete = {item.sighting_id for item in choice.packed if not item.missing}
    await _publish(unit, root, pack, built, [s for s in fresh if s.sighting_id in complete])
    await _supersede(unit, needs, root, pack.version - needs.rules.keep_versions, now)
    await _start_action(unit, root, needs.rules, now)


async def _draft(unit: Unit, needs: Packing, root: Case, latest: PackSummary | None, now: datetime) -> Pack:
    """The next version; that it supplements the one before becomes part of the chain of custody."""
    attached = (await unit.cases.attachments([root.case_id]))[root.case_id]
    version = latest.version + 1 if latest else 1
    if latest is not None:
        supplemented = Touch(
            "SUPPLEMENTED",
            now,
            "service:case",
            f"version {version} follows version {latest.version}",
            before=latest.manifest_sha256.hex(),
            after=latest.manifest_sha256.hex(),
            version=latest.version,
        )
        await unit.evidence.touch(root.case_id, root.subscriber_id, supplemented)
    return Pack(
        pack_id=uuid7(),
        case_id=root.case_id,
        version=version,
        create_time=now,
        rule_version=needs.rules.evidence_version,
        key_id=needs.signer.key_id,
        merged_case_ids=attached.merged_case_ids,
        previous_sha256=latest.manifest_sha256.hex() if latest else "",
        touches=await unit.evidence.touches(root.case_id, TOUCHES_AT_MOST),
    )


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
        custody=_custody_of(sighting, stored, found, decision),
    )


def _custody_of(
    sighting: Sighting, stored: StoredCapture, found: Mapping[str, Json], decision: Mapping[str, Json]
) -> tuple[Touch, ...]:
    """How the content came to us: fetched by a collector, reduced by the detector, taken over by `case`."""
    if not stored.sha256:
        return ()
    http = found.get("http")
    facts = http if isinstance(http, dict) else {}
    parts = found.get("part_hashes")
    content = hashlib.sha256(canonical(parts)).hexdigest() if parts else ""
    capture, sighting_id = stored.sha256.hex(), sighting.sighting_id
    fetch_time = _moment(facts.get("fetch_time"), sighting.discover_time)
    collector = str(facts.get("collector") or sighting.channel)
    basis = str(found.get("collection_basis", ""))
    decided = _moment(decision.get("decide_time"), stored.fetch_time)
    kept, taken = "masked, redacted, content dropped", "taken over from the detector"
    return (
        Touch("CAPTURED", fetch_time, f"collector:{collector}", basis, "", content, sighting_id),
        Touch("REDUCED", decided, "service:detector", kept, content, capture, sighting_id),
        Touch("PULLED", stored.fetch_time, "service:case", taken, capture, capture, sighting_id),
    )


def _moment(value: Json, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) and value else otherwise


def _as_json(value: dict[str, Json]) -> Json:
    return value


def _record(
    unit: Unit,
    rules: Rules,
    root: Case,
    pack: Pack,
    built: Signed,
    choice: Choice,
    fresh: Collection[str],
    now: datetime,
) -> None:
    digest, version = built.manifest_sha256, rules.evidence_version
    record = records.evidence(
        root, pack.pack_id, "BUILT", digest, len(choice.packed), version, now, pack_version=pack.version
    )
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
                pack_version=pack.version,
            )
            unit.record(root.subscriber_id, record)


async def _supersede(unit: Unit, needs: Packing, root: Case, version: int, now: datetime) -> None:
    """Leaves of an old version what proves it, and not one more copy of every item. A signed mark says that it was us
    who put the contents away: without it they would be missing.
    """
    found = await unit.evidence.pack(root.case_id, version) if version > 0 else None
    if found is None:
        return
    old, archive = found
    said: dict[str, Json] = {
        "format": SUPERSEDED_FORMAT,
        "pack_id": old.pack_id,
        "version": old.version,
        "manifest_sha256": old.manifest_sha256.hex(),
        # Not that of the pack where the key was changed since.
        "key_id": needs.signer.key_id,
        "time": iso(now),
    }
    left = contents_put_away(archive, statement(said, needs.signer.sign))
    await unit.evidence.put_away(root.subscriber_id, old.pack_id, left)
    record = records.evidence(
        root,
        old.pack_id,
        "SUPERSEDED",
        old.manifest_sha256,
        old.items,
        needs.rules.evidence_version,
        now,
        pack_version=old.version,
    )
    unit.record(root.subscriber_id, record)


async def _publish(unit: Unit, root: Case, pack: Pack, built: Signed, fresh: Sequence[Sighting]) -> None:
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
    await unit.forget_reminders(GIVE_UP, [root.case_id])
    await unit.remind(GIVE_UP, {root.case_id: (root.due_time, "")})
    unit.record(root.subscriber_id, records.lifecycle(root, "ACTION_STARTED", before, now))


async def release(needs: Packing, decision_ids: Collection[str]) -> None:
    """Tells the detector that its copies may go, then notes it: a crash between the two repeats the call."""
    if decision_ids:
        await needs.captures.release(decision_ids, PURPOSE_CASE_HANDLING)
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
    await note(unit, case, summary, "READ", Purpose.Name(who.purpose), rules, now, who)
    return summary, archive


async def note(
    unit: Unit, case: Case, pack: PackSummary, action: str, why: str, rules: Rules, now: datetime, who: Who
) -> None:
    """Writes down that somebody touched a whole pack, without changing it: in the log, and in its chain of custody."""
    digest = pack.manifest_sha256
    record = records.evidence(
        case,
        pack.pack_id,
        action,
        digest,
        pack.items,
        rules.evidence_version,
        now,
        who=who,
        pack_version=pack.version,
    )
    unit.record(case.subscriber_id, record)
    touch = Touch(action, now, person(who), why, digest.hex(), digest.hex(), version=pack.version)
    await unit.evidence.touch(pack.case_id, case.subscriber_id, touch)


def person(who: Who) -> str:
    """Who acted, as a chain of custody names them."""
    role = Role.Name(who.role).removeprefix("ROLE_").lower()
    return f"{role}:{who.ref}" if who.ref else "service:case"
