"""How does a sighting become evidence? Runs as due work, apart from the intake, and as often as it is asked.

Cases whose packing is due at the same time are packed in one transaction: what is read and written for all of them
costs about as many statements as for one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from misuse.case.v1 import events_pb2
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_REMOVAL
from misuse.common.v1.access_pb2 import PURPOSE_CASE_HANDLING
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
from services.case.domain.guidance import Attached, Guidance
from services.case.domain.people import Profile, Subscriber
from services.case.domain.requirements import Claimant, Requirements
from services.case.domain.rules import Rules
from services.case.domain.search import search_words
from services.case.domain.words import CaseState, SubscriberState
from services.case.handlers.evidence import TOUCHES_AT_MOST
from services.case.handlers.guiding import attach_guidance, with_guidance
from services.case.handlers.reporting import Found, Reporting, documents_of, found_of
from services.case.ports import (
    GIVE_UP,
    Captures,
    NewPack,
    PackSummary,
    Pages,
    SearchText,
    Sighting,
    Signer,
    StoredCapture,
    Timestamps,
    Unit,
    Units,
)
from services.chassis.ids import uuid7
from services.chassis.together import Piece

_FETCH_AT_ONCE = 8
_TOLD_AT_MOST = 100
"""Sightings in one EvidencePacked; more are told in further events."""
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


@dataclass(frozen=True, slots=True)
class _Incident:
    """A case that wants evidence."""

    root: Case
    sightings: Sequence[Sighting]
    """The newest first."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the next version of a case's pack is made of."""

    root: Case
    pack: Pack
    fresh: Sequence[Sighting]
    """Of what is packed, what is in no pack yet."""
    supplemented: Touch | None
    """That it supplements the version before."""
    claimant: Claimant
    guidance: Sequence[Attached]
    """What is attached already."""
    captured: Sequence[tuple[Sighting, StoredCapture]] = field(repr=False)
    """The newest first."""


@dataclass(frozen=True, slots=True)
class _Built:
    """A version that is signed."""

    draft: _Draft
    founds: Sequence[Found] = field(repr=False)
    new_guidance: Sequence[str]
    """Paths that are attached with it."""
    choice: Choice = field(repr=False)
    signed: Signed = field(repr=False)


async def pack_cases(needs: Packing, pieces: Sequence[Piece[str]]) -> None:
    """For each of the cases: fetches what is missing, packs, publishes, releases the detector's copies. Does nothing
    where nothing is new, and then still releases what an interrupted run has left.
    """
    asked = {piece.item: piece for piece in pieces}
    async with needs.units() as unit:
        roots = await _roots(unit, asked)
        people = await unit.subscribers.find({root.subscriber_id for root in roots.values()})
        incidents = await _incidents(unit, roots, people, needs.rules)
        fetched = await unit.evidence.fetched([sighting.decision_id for sighting in _sightings(incidents)])
    for group in _groups(incidents, needs.rules.max_items):
        await _fetch(needs, [sighting for sighting in _sightings(group) if sighting.decision_id not in fetched])
        async with needs.units() as unit:
            decisions = await _pack(unit, needs, {case_id: asked[case_id] for case_id in group}, group)
        await release(needs, decisions)


async def _roots(unit: Unit, case_ids: Collection[str]) -> Mapping[str, Case]:
    """Those of the cases that are roots and want evidence."""
    roots = await unit.cases.roots(case_ids)
    return {
        case_id: root
        for case_id, root in roots.items()
        if root.case_id == case_id and root.state is not CaseState.PURGED and not root.is_false_positive
    }


async def _incidents(
    unit: Unit, roots: Mapping[str, Case], people: Mapping[str, Subscriber], rules: Rules
) -> Mapping[str, _Incident]:
    """What belongs into the packs of those who are processed."""
    active = {person for person, each in people.items() if each.state is SubscriberState.ACTIVE}
    wanted = {case_id: root for case_id, root in roots.items() if root.subscriber_id in active}
    sightings = await unit.cases.sightings(wanted, rules.max_items)
    return {case_id: _Incident(root, sightings[case_id]) for case_id, root in wanted.items()}


def _sightings(incidents: Mapping[str, _Incident]) -> list[Sighting]:
    return [sighting for incident in incidents.values() for sighting in incident.sightings]


def _groups(incidents: Mapping[str, _Incident], most: int) -> Iterator[dict[str, _Incident]]:
    """Incidents that are fetched and packed together: no more sightings than of the largest pack, for all of them are
    in memory at once."""
    group: dict[str, _Incident] = {}
    room = most
    for case_id, incident in incidents.items():
        if group and len(incident.sightings) > room:
            yield group
            group, room = {}, most
        group[case_id] = incident
        room -= len(incident.sightings)
    if group:
        yield group


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
            await unit.evidence.keep(by_owner, PURPOSE_CASE_HANDLING, needs.now())


async def _pack(
    unit: Unit, needs: Packing, asked: Mapping[str, Piece[str]], seen: Mapping[str, _Incident]
) -> Collection[str]:
    """Builds the next version of each case where there is something new. Returns decisions whose copies may go."""
    now = needs.now()
    people = await unit.subscribers.lock({incident.root.subscriber_id for incident in seen.values()})
    incidents = await _incidents(unit, await _roots(unit, seen), people, needs.rules)
    stored = await unit.evidence.captures([sighting.decision_id for sighting in _sightings(incidents)])
    drafts = await _drafts(unit, needs, incidents, stored, now)
    # Beside the event loop: 500 sightings take more than a second of a processor.
    built = await asyncio.to_thread(lambda: [_built(needs, draft, now) for draft in drafts])
    tokens = [await needs.timestamps.stamp(each.signed.imprint) for each in built]
    archives = await asyncio.to_thread(
        lambda: [each.signed.finished(token) for each, token in zip(built, tokens, strict=True)]
    )
    if built:
        await _keep(unit, needs, asked, list(zip(built, archives, strict=True)), now)
    return [item.decision_id for item in stored.values() if item.content and not item.released]


async def _drafts(
    unit: Unit,
    needs: Packing,
    incidents: Mapping[str, _Incident],
    stored: Mapping[str, StoredCapture],
    now: datetime,
) -> Sequence[_Draft]:
    """What the next versions are made of, of the cases where there is something new."""
    latest = await unit.evidence.latest(incidents)
    guidance = await unit.evidence.guidance(incidents)
    # A sighting that came in while we fetched has its own reminder.
    ready = {case_id: [s for s in each.sightings if s.decision_id in stored] for case_id, each in incidents.items()}
    new = {
        case_id: incidents[case_id].root
        for case_id, there in ready.items()
        if there and _is_new(incidents[case_id].root, there, latest.get(case_id), guidance[case_id])
    }
    if not new:
        return ()
    merged = await unit.cases.merged(new)
    touches = await unit.evidence.touches(new, TOUCHES_AT_MOST)
    profiles = await unit.subscribers.profiles({root.subscriber_id for root in new.values()})
    return [
        _draft(
            needs,
            root,
            latest.get(case_id),
            merged[case_id],
            touches[case_id],
            _claimant(profiles.get(root.subscriber_id)),
            guidance[case_id],
            [(sighting, stored[sighting.decision_id]) for sighting in ready[case_id]],
            now,
        )
        for case_id, root in new.items()
    ]


def _is_new(root: Case, ready: Sequence[Sighting], latest: PackSummary | None, guidance: Sequence[Attached]) -> bool:
    """Whether there is something that the latest pack does not show: a sighting more or less, or what the subscriber
    has said since, whether it is them, or what became of the guidance.
    """
    if latest is None or (latest.items, latest.verdict) != (len(ready), root.verdict):
        return True
    return any(sighting.pack_version is None for sighting in ready) or any(
        path.pack_version is None for path in guidance
    )


def _claimant(profile: Profile | None) -> Claimant:
    return Claimant(bool(profile and profile.display_name), bool(profile and profile.contact_email))


def _draft(
    needs: Packing,
    root: Case,
    latest: PackSummary | None,
    merged_case_ids: Sequence[str],
    touches: Sequence[Touch],
    claimant: Claimant,
    guidance: Sequence[Attached],
    captured: Sequence[tuple[Sighting, StoredCapture]],
    now: datetime,
) -> _Draft:
    """The next version; that it supplements the one before becomes part of the chain of custody."""
    version = latest.version + 1 if latest else 1
    supplemented = None
    if latest is not None:
        digest = latest.manifest_sha256.hex()
        why = f"version {version} follows version {latest.version}"
        supplemented = Touch("SUPPLEMENTED", now, "service:case", why, digest, digest, version=latest.version)
        touches = [*touches, supplemented][-TOUCHES_AT_MOST:]
    pack = Pack(
        pack_id=uuid7(),
        case_id=root.case_id,
        version=version,
        create_time=now,
        rule_version=needs.rules.evidence_version,
        key_id=needs.signer.key_id,
        merged_case_ids=merged_case_ids,
        previous_sha256=latest.manifest_sha256.hex() if latest else "",
        touches=touches,
    )
    fresh = [sighting for sighting, _ in captured if sighting.pack_version is None]
    return _Draft(root, pack, fresh, supplemented, claimant, guidance, captured)


def _built(needs: Packing, draft: _Draft, now: datetime) -> _Built:
    founds = [found_of(sighting, capture) for sighting, capture in draft.captured]
    items = [
        item_of(found, capture, needs.rules.required)
        for found, (_, capture) in zip(founds, draft.captured, strict=True)
    ]
    finds = {(found.source_type, found.kind) for found in founds}
    new, guidance = with_guidance(draft.guidance, needs.guidance, finds, now)
    reporting = Reporting(
        needs.requirements, needs.guidance, needs.pages, draft.root, draft.pack, founds, draft.claimant, guidance
    )
    documents = documents_of(reporting, items, ())
    choice = choose(draft.pack, items, documents, needs.most_bytes)
    if choice.omitted:
        documents = documents_of(reporting, choice.packed, choice.omitted)
    return _Built(draft, founds, new, choice, build(draft.pack, choice, documents, needs.signer.sign))


async def _keep(
    unit: Unit,
    needs: Packing,
    asked: Mapping[str, Piece[str]],
    archives: Sequence[tuple[_Built, bytes]],
    now: datetime,
) -> None:
    """Stores the new versions and tells of them."""
    owners = {built.draft.root.subscriber_id for built, _ in archives}
    consenting = await unit.subscribers.consenting(owners, CONSENT_SCOPE_REMOVAL)
    started: list[Case] = []
    for built, _ in archives:
        root = built.draft.root
        consent = root.subscriber_id in consenting
        if await asked[root.case_id].within(_tell(unit, needs, built, consent, now)):
            started.append(root)
    await unit.evidence.add_packs([_new_pack(built, archive, now) for built, archive in archives])
    await unit.search.add([text for built, _ in archives for text in _texts(built, needs.rules)])
    if started:
        # A row of an earlier round would hold with its earlier time.
        await unit.forget_reminders(GIVE_UP, [root.case_id for root in started])
        await unit.remind(GIVE_UP, {root.case_id: (now + needs.rules.give_up_after, "") for root in started})
        await unit.cases.update(started)


def _new_pack(built: _Built, archive: bytes, now: datetime) -> NewPack:
    draft, pack = built.draft, built.draft.pack
    summary = PackSummary(
        pack.pack_id,
        pack.case_id,
        pack.version,
        built.signed.manifest_sha256,
        len(archive),
        len(built.founds),
        now,
        draft.root.verdict,
    )
    return NewPack(
        subscriber_id=draft.root.subscriber_id,
        summary=summary,
        archive=archive,
        packed=[sighting.sighting_id for sighting in draft.fresh],
        supplemented=draft.supplemented,
        shows_new_guidance=bool(built.new_guidance) or any(path.pack_version is None for path in draft.guidance),
    )


def _texts(built: _Built, rules: Rules) -> Iterator[SearchText]:
    """By which words the texts that are packed for the first time are found."""
    for found in built.founds:
        sighting = found.sighting
        if sighting.pack_version is None:
            words = search_words(found.masked_text, rules.search_words)
            yield SearchText(sighting.decision_id, sighting.case_id, sighting.subscriber_id, words)


async def _tell(unit: Unit, needs: Packing, built: _Built, consent: bool, now: datetime) -> bool:
    """Records and tells of a new version, as whoever asked for it. Returns whether the case changed its state by it."""
    root, pack = built.draft.root, built.draft.pack
    if built.new_guidance:
        await attach_guidance(unit, root, built.new_guidance, needs.guidance.version, now)
    _record(unit, needs.rules, built, now)
    _publish(unit, built, consent)
    await _supersede(unit, needs, root, pack.version - needs.rules.keep_versions, now)
    return _start_action(unit, root, needs.rules, now)


def item_of(found: Found, stored: StoredCapture, required: Sequence[str]) -> Item:
    """A sighting's files, from what the detector handed over."""
    sighting, capture, decision = found.sighting, dict(found.capture), dict(found.decision)
    files = {
        "capture.json": canonical(_as_json(capture)) if capture else b"",
        "decision.json": canonical(_as_json(decision)) if decision else b"",
        "masked.txt": found.masked_text.encode(),
        "thumbnail.jpg": found.thumbnail,
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
        missing=missing_fields(capture, bool(decision), required),
        custody=_custody_of(found, stored),
    )


def _custody_of(of: Found, stored: StoredCapture) -> tuple[Touch, ...]:
    """How the content came to us: fetched by a collector, reduced by the detector, taken over by `case`."""
    if not stored.sha256:
        return ()
    sighting, found, decision = of.sighting, of.capture, of.decision
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


def _record(unit: Unit, rules: Rules, built: _Built, now: datetime) -> None:
    root, pack, choice = built.draft.root, built.draft.pack, built.choice
    digest, version = built.signed.manifest_sha256, rules.evidence_version
    fresh = {sighting.sighting_id for sighting in built.draft.fresh}
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


def _publish(unit: Unit, built: _Built, consent: bool) -> None:
    root, pack = built.draft.root, built.draft.pack
    complete = {item.sighting_id for item in built.choice.packed if not item.missing}
    fresh = [sighting for sighting in built.draft.fresh if sighting.sighting_id in complete]
    for start in range(0, max(1, len(fresh)), _TOLD_AT_MOST):
        event = events_pb2.EvidencePacked(
            case_id=root.case_id,
            subscriber_id=root.subscriber_id,
            pack_id=pack.pack_id,
            version=pack.version,
            manifest_sha256=built.signed.manifest_sha256,
            sightings=[_packed(sighting) for sighting in fresh[start : start + _TOLD_AT_MOST]],
            removal_consent=consent,
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


def _start_action(unit: Unit, root: Case, rules: Rules, now: datetime) -> bool:
    """Moves a case to ACTION_STARTED; the caller writes it and reminds of giving up. False where it stays."""
    if root.state not in (CaseState.OPEN, CaseState.RESOLVED):
        return False
    before = root.state.name
    root.move(CaseState.ACTION_STARTED, now)
    # Without a platform or a consent nobody will ever tell of a removal.
    root.due_time = now + rules.give_up_after
    unit.record(root.subscriber_id, records.lifecycle(root, "ACTION_STARTED", before, now))
    return True


async def release(needs: Packing, decision_ids: Collection[str]) -> None:
    """Tells the detector that its copies may go, then notes it: a crash between the two repeats the call."""
    if decision_ids:
        await needs.captures.release(decision_ids, PURPOSE_CASE_HANDLING)
        async with needs.units() as unit:
            await unit.evidence.mark_released(decision_ids)
