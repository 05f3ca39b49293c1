"""How does `case` write down what it did? One function per record type; ids, kinds, versions and hashes only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.common.v1 import signal_pb2
from misuse.common.v1.access_pb2 import Purpose
from misuse.log.v1.record_pb2 import (
    AccessLog,
    ApprovalLog,
    CaseLifecycleLog,
    ConsentLog,
    DedupMergeLog,
    EvidencePackLog,
    GuidanceLog,
    LabelLog,
    LogRecord,
    PurgeDueLog,
    PurgeLog,
    RepostRecurrenceLog,
    ReviewLog,
    RightsFollowLog,
    RightsRequestLog,
    SubscriberLog,
)
from services.case.domain.approvals import Proposal
from services.case.domain.cases import Case
from services.case.domain.chain import Head
from services.case.domain.incidents import Facts, Joined, Recurrence, latency_ms
from services.case.domain.rights import RightsRequest
from services.case.domain.words import CaseKind, Rule
from services.case.ports import SYSTEM, ReviewItem, Who

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    """A time as the contract has it. Every record has some, and `FromDatetime` takes twice as long."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


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
        priority_reasons=[each.name for each in case.reasons],
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


def joined(root: Case, join: Joined, rule_version: str, facts: Facts, now: datetime) -> LogRecord:
    """A signal joined an incident."""
    body = DedupMergeLog(
        root_case_id=root.case_id,
        branch_case_id=join.branch_id,
        rule=join.rule,
        rule_version=rule_version,
        signal_ref=facts.signal_ref,
        channel_group=facts.channel_group,
        cluster_rule=facts.cluster_rule,
    )
    return _record([root.case_id], "case", root.case_id, root.version, now, SYSTEM, facts, dedup_merge_log=body)


def recurred(
    case: Case, recurrence: Recurrence, rule_version: str, facts: Facts, now: datetime
) -> LogRecord:
    """A signal showed content of a closed incident again; `case` is the one that it belongs to now."""
    body = RepostRecurrenceLog(
        closed_case_id=recurrence.case_id,
        close_time=stamp(recurrence.close_time),
        resolution=recurrence.resolution.name,
        found_time=stamp(facts.discover_time),
        case_id=case.case_id,
        outcome=recurrence.outcome,
        rule=recurrence.rule,
        rule_version=rule_version,
        channel_group=facts.channel_group,
    )
    ids = list(dict.fromkeys((case.case_id, recurrence.case_id)))
    return _record(ids, "case", case.case_id, case.version, now, SYSTEM, facts, repost_recurrence_log=body)


def reappeared(case: Case, close_time: datetime, resolution: str, rule_version: str, now: datetime) -> LogRecord:
    """The platform shows content of a closed incident again."""
    body = RepostRecurrenceLog(
        closed_case_id=case.case_id,
        close_time=stamp(close_time),
        resolution=resolution,
        found_time=stamp(now),
        case_id=case.case_id,
        outcome="REOPENED",
        rule=Rule.REMOVAL_RECHECK,
        rule_version=rule_version,
    )
    return _record([case.case_id], "case", case.case_id, case.version, now, SYSTEM, repost_recurrence_log=body)


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
    pack_version: int = 0,
) -> LogRecord:
    """A pack was built or read, or a sighting's evidence is incomplete; or the whole case was exported."""
    body = EvidencePackLog(
        pack_id=pack_id,
        action=action,
        manifest_sha256=manifest_sha256,
        items=items,
        missing_fields=list(missing)[:16],
        rule_version=rule_version,
        pack_version=pack_version,
    )
    record = _record([case.case_id], "evidence_pack", pack_id, 1, now, who, evidence_pack_log=body)
    record.decision_id = decision_id
    return record


def guidance(
    case: Case,
    action: str,
    path_ids: Sequence[str],
    version: str,
    now: datetime,
    *,
    outcome: str = "",
    who: Who = SYSTEM,
) -> LogRecord:
    """Public guidance was ATTACHED to a case, or the subscriber ANSWERED what became of it."""
    body = GuidanceLog(action=action, path_ids=path_ids, guidance_version=version, outcome=outcome)
    return _record([case.case_id], "case", case.case_id, case.version, now, who, guidance_log=body)


def access(method: str, resource: str, entity_ref: str, now: datetime, who: Who) -> LogRecord:
    """Somebody read personal data; `entity_ref` is an opaque reference."""
    body = AccessLog(method=method, resource=resource, outcome="OK")
    return _record([], resource, entity_ref, 1, now, who, access_log=body)


def subscriber(transition: str, entity_ref: str, version: int, now: datetime, who: Who) -> LogRecord:
    """A subscriber was registered, suspended and so on; `entity_ref` is an opaque reference."""
    body = SubscriberLog(transition=transition)
    return _record([], "subscriber", entity_ref, version, now, who, subscriber_log=body)


def consent(scope: str, given: bool, text_version: str, entity_id: str, now: datetime, who: Who) -> LogRecord:
    """A consent was given or withdrawn."""
    body = ConsentLog(scope=scope, given=given, text_version=text_version)
    return _record([], "consent", entity_id, 1 if given else 2, now, who, consent_log=body)


def purge(item_kind: str, entity_id: str, due_time: datetime, rule: str, now: datetime) -> LogRecord:
    """Something due was purged."""
    body = PurgeLog(item_kind=item_kind, due_time=stamp(due_time), rule=rule)
    record = _record([], item_kind.lower(), entity_id, 1, now, SYSTEM, purge_log=body)
    record.purpose = Purpose.PURPOSE_RIGHTS
    return record


def purge_due(item_kind: str, entity_id: str, due_time: datetime, rule: str, now: datetime) -> LogRecord:
    """Something became subject to purge: the entry of the due list that `purge` answers."""
    body = PurgeDueLog(item_kind=item_kind, due_time=stamp(due_time), rule=rule)
    record = _record([], item_kind.lower(), entity_id, 1, now, SYSTEM, purge_due_log=body)
    record.purpose = Purpose.PURPOSE_RIGHTS
    return record


def approval(proposal: Proposal, action: str, rule_version: str, now: datetime, who: Who) -> LogRecord:
    """A decision of two people moved: PROPOSED, APPROVED, GRANTED, REJECTED, EXPIRED."""
    body = ApprovalLog(
        proposal_id=proposal.proposal_id,
        kind=proposal.kind,
        action=action,
        body_sha256=proposal.body_sha256,
        approvals=len(proposal.approver_refs),
        rule_version=rule_version,
    )
    return _record([], "proposal", proposal.proposal_id, proposal.version, now, who, approval_log=body)


def label(
    source: str, verdict: str, now: datetime, who: Who, *, case_ids: Sequence[str] = (), decision_id: str = ""
) -> LogRecord:
    """The subscriber or a reviewer said what it is."""
    body = LabelLog(source=source, verdict=verdict)
    entity = ("decision", decision_id) if decision_id else ("case", case_ids[0])
    record = _record(case_ids, *entity, 1, now, who, label_log=body)
    record.decision_id = decision_id
    return record


def item_label(
    source: str, verdict: str, item: ReviewItem, policy_version: str, review_ms: int, now: datetime, who: Who
) -> LogRecord:
    """A reviewer or adjudicator said what an item is."""
    record = label(source, verdict, now, who, decision_id=item.decision_id)
    body = record.label_log
    body.sample_id = item.sample_id
    body.review_item_id = item.review_item_id
    body.review_ms = review_ms
    body.wait_ms = latency_ms(item.create_time, now)
    body.policy_version = policy_version
    return record


def review(item: ReviewItem, action: str, now: datetime, *, reason: str = "") -> LogRecord:
    """An item was ESCALATED, DISPUTED, SETTLED by the subscriber's word, or became VOID."""
    body = ReviewLog(
        review_item_id=item.review_item_id,
        action=action,
        sample_id=item.sample_id,
        reason=reason,
        escalations=item.escalations,
        wait_ms=latency_ms(item.create_time, now),
    )
    record = _record([], "review_item", item.review_item_id, item.escalations + 1, now, SYSTEM, review_log=body)
    record.decision_id = item.decision_id
    return record


def rights(
    request: RightsRequest, to_state: str, reason: str, rule_version: str, now: datetime, who: Who
) -> LogRecord:
    """A request about one's own data moved: RECEIVED, EXTENDED, FULFILLED, REJECTED."""
    body = RightsRequestLog(
        rights_request_id=request.rights_request_id,
        type=request.type.value,
        to_state=to_state,
        due_time=stamp(request.due_time),
        requester=request.requester.value,
        identity_basis=request.identity_basis,
        reason=reason,
        rule_version=rule_version,
        answer_sha256=request.answer_sha256,
    )
    thing = ("rights_request", request.rights_request_id)
    return _for_rights(_record([], *thing, request.version, now, who, rights_request_log=body))


def rights_follow(
    request: RightsRequest, action: str, rule_version: str, now: datetime, who: Who, *, entry: str = ""
) -> LogRecord:
    """A request was REMINDED, ESCALATED, STARTED to be erased, or something was CORRECTED."""
    body = RightsFollowLog(
        rights_request_id=request.rights_request_id,
        type=request.type.value,
        action=action,
        entry=entry,
        rule_version=rule_version,
    )
    thing = ("rights_request", request.rights_request_id)
    return _for_rights(_record([], *thing, request.version, now, who, rights_follow_log=body))


def _for_rights(record: LogRecord) -> LogRecord:
    record.purpose = Purpose.PURPOSE_RIGHTS
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
    | ApprovalLog
    | ConsentLog
    | LabelLog
    | RepostRecurrenceLog
    | PurgeDueLog
    | PurgeLog
    | ReviewLog
    | RightsFollowLog
    | RightsRequestLog
    | SubscriberLog
    | GuidanceLog,
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
    body.discover_time.CopyFrom(stamp(facts.discover_time))
    body.latency_ms = latency_ms(facts.discover_time, now)
    body.signal_ref = facts.signal_ref
    body.band = facts.band.value  # type: ignore[assignment] # same numbers, kept equal by a test
