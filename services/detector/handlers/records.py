"""How the detector's facts become log records: opaque ids, kinds, versions and hashes only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from misuse.common.v1 import access_pb2
from misuse.common.v1 import signal_pb2 as common
from misuse.log.v1 import record_pb2 as log
from services.chassis.errors import Unauthenticated
from services.chassis.tokens import Actor, current_actor
from services.detector.domain.clusters import Placement
from services.detector.domain.decisions import Band, Decision, MatchKind, identifier_kind
from services.detector.domain.picture_text import is_written
from services.detector.domain.pii import Hit
from services.detector.domain.reports import Report, Scan
from services.detector.domain.signals import Signal
from services.detector.ports import Analysis, Analyst, Gallery, GalleryFacts
from services.detector.sealing import References
from services.detector.translate import stamp

MOST_HITS = 256
MOST_REASONS = 16
GALLERY = "face_gallery"
"""By which word records know the index of templates."""


def signed(record: log.LogRecord, references: References) -> log.LogRecord:
    """The record with whoever calls now; unchanged where the system acts by itself."""
    try:
        actor: Actor = current_actor()
    except Unauthenticated:
        return record
    record.actor_role = actor.role
    record.actor_ref = references.actor(actor.subject)
    record.purpose = actor.purpose
    return record


def intake(signal: Signal, ref: bytes, reason: str, group: str, now: datetime, *, duplicate: bool) -> log.LogRecord:
    """A signal that was refused, or had been accepted before. `group` is empty for an unknown channel."""
    return log.LogRecord(
        entity="signal",
        entity_id=ref.hex(),
        entity_version=1,
        occur_time=stamp(now),
        signal_intake_log=log.SignalIntakeLog(
            signal_ref=ref,
            accepted=duplicate,
            reason=reason,
            channel=signal.channel if group else "",
            channel_group=group,
            discover_time=stamp(signal.discover_time),
            size_bytes=signal.size_bytes,
            duplicate=duplicate,
        ),
    )


def decision(
    decision_id: str,
    signal: Signal,
    ref: bytes,
    group: str,
    found: Decision,
    placement: Placement | None,
    analysis: Analysis,
    analyst: Analyst,
    gallery: Gallery,
    now: datetime,
    unowned_hits: Sequence[log.UnownedHits] = (),
) -> log.LogRecord:
    """A decision, with the detail of its kind."""
    face = found.kind is MatchKind.FACE
    body = log.MatchDecisionLog(
        signal_ref=ref,
        band=common.Band.ValueType(found.band),
        kind=common.MatchKind.ValueType(found.kind),
        reasons=found.reasons[:MOST_REASONS],
        channel=signal.channel,
        channel_group=group,
        discover_time=stamp(signal.discover_time),
        decide_time=stamp(now),
        rule_version=analyst.face_rule_version if face else analyst.text_rule_version,
        unowned_hits=unowned_hits,
        source_type=common.SourceType.ValueType(signal.source_type),
    )
    if face:
        body.face_match_decision_log.CopyFrom(_face_detail(found, placement, analysis, analyst, gallery))
    else:
        body.pii_pattern_match_log.CopyFrom(_text_detail(found, analysis, analyst))
    return log.LogRecord(
        decision_id=decision_id,
        entity="decision",
        entity_id=decision_id,
        entity_version=1,
        purpose=access_pb2.PURPOSE_COLLECTION,
        occur_time=stamp(now),
        match_decision_log=body,
    )


def unowned(analysis: Analysis, decisions: Sequence[Decision]) -> list[log.UnownedHits]:
    """What of a signal's personal data belongs to no subscriber, by kind; what is set aside as not personal is none."""
    owned = {id(each.hit) for decision in decisions for each in decision.watched}
    kinds = Counter(identifier_kind(hit) for hit in analysis.hits if hit.personal and id(hit) not in owned)
    counted = sorted(kinds.items())
    return [log.UnownedHits(kind=common.IdentifierKind.ValueType(kind), count=count) for kind, count in counted]


def _face_detail(
    found: Decision, placement: Placement | None, analysis: Analysis, analyst: Analyst, gallery: Gallery
) -> log.FaceMatchDecisionLog:
    face = found.face
    detail = log.FaceMatchDecisionLog(
        faces_found=analysis.faces_found,
        face_index=-1,
        model_id=analyst.model_id,
        engine_id=analyst.engine_id,
        threshold_version=analyst.face_rule_version,
        gallery_version=gallery.version,
        gallery_size=len(gallery),
    )
    if face is not None:
        detail.face_index = face.face_index
        detail.quality_milli = face.quality_milli
        detail.face_size_px = face.size_px
        detail.second_opinion = face.second_opinion
    if placement is not None and found.band is not Band.NONE:
        detail.cluster_id, detail.cluster_rule = placement.cluster_id, placement.rule
    return detail


def _text_detail(found: Decision, analysis: Analysis, analyst: Analyst) -> log.PIIPatternMatchLog:
    watched = {id(each.hit) for each in found.watched}
    # The watched ones first: they are the reason.
    hits = sorted(analysis.hits, key=lambda hit: id(hit) not in watched)
    return log.PIIPatternMatchLog(
        hits=[_hit(hit, id(hit) in watched) for hit in hits[:MOST_HITS]],
        doxing=analysis.doxing,
        hits_omitted=max(0, len(hits) - MOST_HITS),
        reader_id=analyst.reader_id if any(is_written(hit.field) for hit in hits) else "",
    )


def _hit(hit: Hit, watched: bool) -> log.PIIPatternHit:
    return log.PIIPatternHit(
        kind=common.IdentifierKind.ValueType(identifier_kind(hit)),
        rule_id=hit.rule_id,
        rule_version=str(hit.rule_version),
        field=_field(hit.field),
        start=hit.start,
        end=hit.end,
        confidence=hit.confidence.name,
        check_result=str(hit.check),
        mask_rule=str(hit.mask_rule),
        watched=watched,
    )


_KNOWN_FIELDS = frozenset({"title", "alt", "file_name", "author", "exif", "description", "caption"})


def _field(name: str) -> str:
    """The field's name as far as it is ours: a collector's own pair names may hold anything."""
    if is_written(name):
        return name
    head, _, rest = name.partition(".")
    word = rest.partition(".")[0]
    return f"{head}.{word if word.isdecimal() or word in _KNOWN_FIELDS else 'other'}"


def ownership(
    entity: str,
    entity_id: str,
    version: int,
    kind: str,
    states: tuple[str, str],
    now: datetime,
    *,
    reason: str = "",
    verifier: str = "",
) -> log.LogRecord:
    """A template or watched identifier that moved from one state to another; `states` are (from, to)."""
    return log.LogRecord(
        entity=entity,
        entity_id=entity_id,
        entity_version=version,
        occur_time=stamp(now),
        ownership_log=log.OwnershipLog(
            kind=kind, from_state=states[0], to_state=states[1], reason=reason, verifier=verifier
        ),
    )


def purge(item_kind: str, entity_id: str, due_time: datetime, rule: str, now: datetime) -> log.LogRecord:
    """Something due for purge that was purged."""
    return log.LogRecord(
        entity=item_kind.lower(),
        entity_id=entity_id,
        entity_version=1,
        occur_time=stamp(now),
        purge_log=log.PurgeLog(item_kind=item_kind, due_time=stamp(due_time), rule=rule),
    )


def purge_due(item_kind: str, entity_id: str, due_time: datetime, rule: str, now: datetime) -> log.LogRecord:
    """Something that became subject to purge: the entry of the due list that `purge` answers."""
    return log.LogRecord(
        entity=item_kind.lower(),
        entity_id=entity_id,
        entity_version=1,
        occur_time=stamp(now),
        purge_due_log=log.PurgeDueLog(item_kind=item_kind, due_time=stamp(due_time), rule=rule),
    )


def onboarding(
    channel: str, group: str, step: str, step_time: datetime, version: int, now: datetime
) -> log.LogRecord:
    """A new channel was asked for (REQUIRED), or its signals are let in (LIVE)."""
    return log.LogRecord(
        entity="channel",
        entity_id=channel,
        entity_version=version,
        occur_time=stamp(now),
        channel_onboarding_log=log.ChannelOnboardingLog(
            channel=channel, channel_group=group, step=step, step_time=stamp(step_time)
        ),
    )


def channel_scan(channel: str, group: str, level: str, reason: str, version: int, now: datetime) -> log.LogRecord:
    """A channel that was changed, paused or resumed."""
    return log.LogRecord(
        entity="channel",
        entity_id=channel,
        entity_version=version,
        occur_time=stamp(now),
        channel_scan_log=log.ChannelScanLog(channel=channel, channel_group=group, level=level, reason=reason),
    )


def scan(scan: Scan, reason: str, now: datetime) -> log.LogRecord:
    """A scan was asked for, or ended. It goes by the channel as it was when it was asked for: no news of that."""
    body = log.ChannelScanLog(
        channel=scan.channel,
        channel_group=scan.channel_group,
        signals=scan.accepted,
        level=scan.level,
        reason=reason,
        scan_id=scan.scan_id,
        refused=scan.refused,
    )
    return log.LogRecord(
        entity="channel",
        entity_id=scan.channel,
        entity_version=scan.channel_version,
        purpose=access_pb2.PURPOSE_COLLECTION,
        occur_time=stamp(now),
        channel_scan_log=body,
    )


def sighting_report(
    report: Report, action: str, reason: str, signal_ref: bytes, rule_version: str, now: datetime
) -> log.LogRecord:
    """A subscriber reported where something was seen, or something became of it."""
    body = log.SightingReportLog(
        report_id=report.report_id,
        action=action,
        reason=reason,
        channel=report.channel,
        signal_ref=signal_ref,
        tries=report.tries,
        rule_version=rule_version,
    )
    return log.LogRecord(
        entity="sighting_report",
        entity_id=report.report_id,
        entity_version=report.tries + (1 if action in ("RECEIVED", "DEFERRED") else 2),
        purpose=access_pb2.PURPOSE_PROTECTION,
        occur_time=stamp(now),
        sighting_report_log=body,
    )


def index_version(replica: str, facts: GalleryFacts, now: datetime) -> log.LogRecord:
    """How current the gallery is that a replica serves."""
    return log.LogRecord(
        entity="index",
        entity_id=replica,
        entity_version=max(1, facts.version),
        purpose=access_pb2.PURPOSE_OPERATIONS,
        occur_time=stamp(now),
        index_version_log=log.IndexVersionLog(
            index=GALLERY,
            replica=replica,
            version=facts.version,
            head_version=facts.head_version,
            age_ms=facts.age_ms,
            entries=facts.templates,
        ),
    )


def none_reasons(analysis: Analysis) -> tuple[str, ...]:
    """Why a signal concerns nobody: every distinct reason, in order."""
    reasons: list[str] = [f"UNREADABLE_{reason}" for _, reason in analysis.unreadable]
    reasons += [reason for face in analysis.faces for reason in face.reasons]
    if analysis.hits:
        reasons.append("NOT_WATCHED")
    if not analysis.all_read:
        reasons.append("TEXT_NOT_ALL_READ")
    return _once(reasons) or ("NOTHING_FOUND",)


def _once(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))[:MOST_REASONS]
