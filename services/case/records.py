"""How does `case` write down what it did? One function per record type; ids, kinds, versions and hashes only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.common.v1 import signal_pb2
from misuse.common.v1.access_pb2 import Purpose
from misuse.log.v1.record_pb2 import (
    AccessLog,
    CaseLifecycleLog,
    ConsentLog,
    DedupMergeLog,
    EvidencePackLog,
    LabelLog,
    LogRecord,
    SubscriberLog,
)
from services.case.domain.cases import Case
from services.case.domain.chain import Head
from services.case.domain.incidents import Facts, latency_ms
from services.case.domain.words import CaseKind
from services.case.ports import SYSTEM, Who


def stamp(moment: datetime) -> Timestamp:
    """A time as the contract has it."""
    value = Timestamp()
    value.FromDatetime(moment)
    return value


def kind_number(kind: CaseKind) -> signal_pb2.CaseKind.ValueType:
    """The kind as the contract has it: the numbers are the same, kept equal by a test."""
    return cast("signal_pb2.CaseKind.ValueType", kind.value)


def lifecycle(
    case: Case,
    transition: str,
    from_state: str,
    now: datetime,
    *,
    facts: Facts | None = None,
    who: Who = SYSTEM,
    reason: str = "",
) -> LogRecord:
    """A case changed; `facts` are those that caused it."""
    body = CaseLifecycleLog(
        transition=transition,
        from_state=from_state,
        to_state=case.state.name,
        kind=kind_number(case.kinds[0]),
        resolution=case.resolution.name if case.resolution else "",
        reason=reason,
    )
    if facts is not None:
        _add_facts(body, facts, now)
    return _record([case.case_id], "case", case.case_id, case.version, now, who, facts, case_lifecycle_log=body)


def upload(
    case: Case, transition: str, from_state: str, upload_check_id: str, now: datetime, *, reason: str = ""
) -> LogRecord:
    """A warning before an upload opened a case, or was dropped; its check stands for the decision."""
    body = CaseLifecycleLog(
        transition=transition, from_state=from_state, kind=kind_number(case.kinds[0]), reason=reason
    )
    opened = transition == "OPENED"
    if opened:
        body.to_state = case.state.name
        body.discover_time.FromDatetime(case.discover_time)
        body.latency_ms = case.latency_ms
    entity = ("case", case.case_id) if opened else ("decision", upload_check_id)
    record = _record([case.case_id] if opened else [], *entity, case.version, now, SYSTEM, case_lifecycle_log=body)
    record.decision_id = upload_check_id
    return record


def dropped(facts: Facts, reason: str, now: datetime) -> LogRecord:
    """Facts that opened nothing, because their subscriber is not processed."""
    body = CaseLifecycleLog(transition="DROPPED", kind=kind_number(facts.kind), reason=reason)
    _add_facts(body, facts, now)
    return _record([], "decision", facts.decision_id, 1, now, SYSTEM, facts, case_lifecycle_log=body)


def review_opened(item_id: str, facts: Facts, now: datetime) -> LogRecord:
    """A decision waits for a person."""
    body = CaseLifecycleLog(transition="REVIEW_OPENED", kind=kind_number(facts.kind))
    _add_facts(body, facts, now)
    return _record([], "review_item", item_id, 1, now, SYSTEM, facts, case_lifecycle_log=body)


def joined(root: Case, rule: str, rule_version: str, facts: Facts, now: datetime) -> LogRecord:
    """A signal joined an incident."""
    body = DedupMergeLog(
        root_case_id=root.case_id,
        rule=rule,
        rule_version=rule_version,
        signal_ref=facts.signal_ref,
        channel_group=facts.channel_group,
    )
    return _record([root.case_id], "case", root.case_id, root.version, now, SYSTEM, facts, dedup_merge_log=body)


def merged(
    root: Case,
    alias: Case,
    rule: str,
    rule_version: str,
    now: datetime,
    heads: tuple[Head, Head],
    *,
    who: Who = SYSTEM,
    unmerged: bool = False,
) -> LogRecord:
    """Two cases became one incident, or were parted; the heads of both chains go into both."""
    body = DedupMergeLog(
        root_case_id=root.case_id,
        merged_case_id=alias.case_id,
        rule=rule,
        rule_version=rule_version,
        unmerged=unmerged,
        root_head_sequence=heads[0].sequence,
        root_head_hash=heads[0].head_hash,
        merged_head_sequence=heads[1].sequence,
        merged_head_hash=heads[1].head_hash,
    )
    ids = [root.case_id, alias.case_id]
    return _record(ids, "case", root.case_id, root.version, now, who, dedup_merge_log=body)


def evidence(
    case: Case,
    pack_id: str,
    action: str,
    manifest_sha256: bytes,
    items: int,
    rule_version: str,
    now: datetime,
    *,
    missing: Sequence[str] = (),
    decision_id: str = "",
    who: Who = SYSTEM,
) -> LogRecord:
    """A pack was built or read, or a sighting's evidence is incomplete."""
    body = EvidencePackLog(
        pack_id=pack_id,
        action=action,
        manifest_sha256=manifest_sha256,
        items=items,
        missing_fields=list(missing)[:16],
        rule_version=rule_version,
    )
    record = _record([case.case_id], "evidence_pack", pack_id, 1, now, who, evidence_pack_log=body)
    record.decision_id = decision_id
    return record


def access(method: str, resource: str, entity_ref: str, now: datetime, who: Who) -> LogRecord:
    """Somebody read personal data; `entity_ref` is an opaque reference."""
    body = AccessLog(method=method, resource=resource, outcome="OK")
    return _record([], resource, entity_ref, 1, now, who, access_log=body)


def subscriber(transition: str, entity_ref: str, version: int, now: datetime, who: Who) -> LogRecord:
    """A subscriber was REGISTERED, SUSPENDED, RESUMED or LEFT; `entity_ref` is an opaque reference."""
    body = SubscriberLog(transition=transition)
    return _record([], "subscriber", entity_ref, version, now, who, subscriber_log=body)


def consent(scope: str, given: bool, text_version: str, entity_id: str, now: datetime, who: Who) -> LogRecord:
    """A consent was given or withdrawn."""
    body = ConsentLog(scope=scope, given=given, text_version=text_version)
    return _record([], "consent", entity_id, 1 if given else 2, now, who, consent_log=body)


def label(
    source: str, verdict: str, now: datetime, who: Who, *, case_ids: Sequence[str] = (), decision_id: str = ""
) -> LogRecord:
    """The subscriber or a reviewer said what it is."""
    body = LabelLog(source=source, verdict=verdict)
    entity = ("decision", decision_id) if decision_id else ("case", case_ids[0])
    record = _record(case_ids, *entity, 1, now, who, label_log=body)
    record.decision_id = decision_id
    return record


def _record(
    case_ids: Sequence[str],
    entity: str,
    entity_id: str,
    version: int,
    now: datetime,
    who: Who,
    facts: Facts | None = None,
    **body: CaseLifecycleLog
    | DedupMergeLog
    | EvidencePackLog
    | AccessLog
    | ConsentLog
    | LabelLog
    | SubscriberLog,
) -> LogRecord:
    return LogRecord(
        case_ids=case_ids,
        decision_id=facts.decision_id if facts else "",
        entity=entity,
        entity_id=entity_id,
        entity_version=version,
        actor_role=who.role,
        actor_ref=who.ref,
        purpose=who.purpose or Purpose.PURPOSE_CASE_HANDLING,
        occur_time=stamp(now),
        **body,  # type: ignore[arg-type] # the stubs cannot tell the bodies of a oneof apart
    )


def _add_facts(body: CaseLifecycleLog, facts: Facts, now: datetime) -> None:
    body.channel = facts.channel
    body.channel_group = facts.channel_group
    body.discover_time.FromDatetime(facts.discover_time)
    body.latency_ms = latency_ms(facts.discover_time, now)
    body.signal_ref = facts.signal_ref
    body.band = facts.band.value  # type: ignore[assignment] # same numbers, kept equal by a test
