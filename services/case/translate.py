"""How do the contract's messages become values, and values messages?"""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.case.v1 import case_pb2, case_service_pb2, subscriber_service_pb2
from misuse.common.v1.signal_pb2 import IdentifierKind
from misuse.detector.v1.events_pb2 import MatchFacts, UploadWarned
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.archive import Json
from services.case.domain.cases import Case
from services.case.domain.guidance import Attached, Guidance
from services.case.domain.incidents import Facts, Key
from services.case.domain.people import Consent, Profile, Subscriber
from services.case.domain.uploads import UploadWarning
from services.case.domain.words import Band, CaseKind, KeyKind, PriorityReason
from services.case.ports import Attachments, PackSummary, Sighting, Statistics
from services.case.records import kind_number
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid

_IDS_AT_MOST = 32


def facts_of(message: MatchFacts, band: Band, traceparent: str) -> Facts:
    """The facts of a detector event. Raises InvalidInput FACTS_MALFORMED for what the contract does not allow."""
    try:
        kind = CaseKind(message.kind)
    except ValueError:
        raise _malformed("kind") from None
    if not message.decision_id or not message.subscriber_id or not message.HasField("discover_time"):
        raise _malformed("decision_id")
    return Facts(
        decision_id=message.decision_id,
        subscriber_id=message.subscriber_id,
        signal_ref=message.signal_ref,
        kind=kind,
        channel=message.channel,
        channel_group=message.channel_group,
        platform=message.platform,
        discover_time=moment_of(message.discover_time),
        keys=_keys(message),
        band=band,
        traceparent=traceparent,
        near=frozenset(message.also_cluster_ids[:_IDS_AT_MOST]),
        cluster_rule=message.cluster_rule,
        reasons=_reasons(message),
    )


def _reasons(message: MatchFacts) -> frozenset[PriorityReason]:
    said = {
        PriorityReason.SEXUAL_CONTENT: message.sexual_content_reported,
        PriorityReason.NAME_AND_ADDRESS: message.doxing or message.name_and_address,
    }
    return frozenset(reason for reason, holds in said.items() if holds)


def warning_of(message: UploadWarned, traceparent: str) -> UploadWarning:
    """The facts of a warning before an upload. Raises InvalidInput FACTS_MALFORMED."""
    for name in ("upload_check_id", "case_id", "subscriber_id"):
        try:
            parse_uuid(getattr(message, name), name)
        except InvalidInput:
            raise _malformed(name) from None
    if not message.HasField("occur_time"):
        raise _malformed("occur_time")
    return UploadWarning(
        message.upload_check_id, message.case_id, message.subscriber_id, moment_of(message.occur_time), traceparent
    )


def _keys(message: MatchFacts) -> tuple[Key, ...]:
    clusters = [message.cluster_id, *message.also_cluster_ids][:_IDS_AT_MOST]
    keys = [Key(KeyKind.CLUSTER, value) for value in clusters if value]
    keys += [Key(KeyKind.IDENTIFIER, value) for value in message.watch_ids[:_IDS_AT_MOST] if value]
    if message.post_ref:
        keys.append(Key(KeyKind.POST, message.post_ref.hex()))
    if message.dump_ref:
        keys.append(Key(KeyKind.DUMP, message.dump_ref.hex()))
    if any(len(key.value) > 64 for key in keys):
        raise _malformed("keys")
    return tuple(dict.fromkeys(keys))


def _malformed(field: str) -> InvalidInput:
    return InvalidInput("FACTS_MALFORMED", "The facts are not as the contract has them.", violations=[
        (field, "FACTS_MALFORMED")
    ])


def moment_of(value: Timestamp) -> datetime:
    """A time as we have it, in UTC."""
    return value.ToDatetime(UTC)


def case_message(case: Case, attached: Attachments) -> case_pb2.Case:
    """A case for the wire."""
    message = case_pb2.Case(
        case_id=case.case_id,
        root_case_id=case.root_case_id,
        subscriber_id=case.subscriber_id,
        kinds=[kind_number(kind) for kind in case.kinds],
        state=case.state.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
        resolution=case.resolution.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
        channel_groups=case.channel_groups,
        sighting_count=case.sighting_count,
        latency_ms=case.latency_ms,
        version=case.version,
        removal_request_ids=attached.removal_request_ids,
        merged_case_ids=attached.merged_case_ids,
        verdict=case.verdict.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
        priority=case.priority.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
        priority_reasons=[reason.value for reason in case.reasons],  # type: ignore[misc] # as above
        recurrence_of_case_id=case.recurrence_of,
        occurrence=case.occurrence,
        guidance=attached.guidance,
    )
    message.discover_time.FromDatetime(case.discover_time)
    message.create_time.FromDatetime(case.create_time)
    message.update_time.FromDatetime(case.update_time)
    if case.due_time is not None:
        message.due_time.FromDatetime(case.due_time)
    if case.deadline_time is not None:
        message.deadline_time.FromDatetime(case.deadline_time)
    if case.close_time is not None:
        message.close_time.FromDatetime(case.close_time)
    if attached.evidence is not None:
        message.evidence.CopyFrom(pack_message(attached.evidence))
    return message


def statistics_message(counted: Statistics) -> case_service_pb2.GetCaseStatisticsResponse:
    """Counts for the wire, in the order of the contract's numbers."""
    message = case_service_pb2.GetCaseStatisticsResponse(
        cases=sum(counted.states.values()), overdue=counted.overdue, sightings=counted.sightings
    )
    message.count_time.FromDatetime(counted.count_time)
    for state, cases in sorted(counted.states.items()):
        message.states.add(state=case_pb2.CaseState.ValueType(state), cases=cases)
    for priority, cases in sorted(counted.priorities.items()):
        message.priorities.add(priority=case_pb2.CasePriority.ValueType(priority), cases=cases)
    for kind, cases in sorted(counted.kinds.items()):
        message.kinds.add(kind=kind_number(kind), cases=cases)
    for group, cases in counted.channel_groups.items():
        message.channel_groups.add(channel_group=group, cases=cases)
    return message


def pack_message(pack: PackSummary) -> case_pb2.EvidencePackSummary:
    """A pack at a glance for the wire."""
    message = case_pb2.EvidencePackSummary(
        pack_id=pack.pack_id,
        version=pack.version,
        manifest_sha256=pack.manifest_sha256,
        size_bytes=pack.size_bytes,
    )
    message.create_time.FromDatetime(pack.create_time)
    return message


def guidance_message(attached: Attached, guidance: Guidance) -> case_pb2.Guidance:
    """A guidance path of a case for the wire; by its id alone where the rules do not know it any more."""
    message = case_pb2.Guidance(
        path_id=attached.path_id,
        guidance_version=attached.version,
        outcome=attached.outcome.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
    )
    path = guidance.path(attached.path_id)
    if path is not None:
        message.name_ko, message.name_en = path.name["ko"], path.name["en"]
        message.offers_ko, message.offers_en = path.offers["ko"], path.offers["en"]
        message.url, message.phone = path.url, path.phone
    message.attach_time.FromDatetime(attached.attach_time)
    if attached.answer_time is not None:
        message.answer_time.FromDatetime(attached.answer_time)
    return message


def sighting_message(sighting: Sighting) -> case_pb2.Sighting:
    """A sighting for the wire."""
    message = case_pb2.Sighting(
        sighting_id=sighting.sighting_id,
        decision_id=sighting.decision_id,
        case_id=sighting.case_id,
        kind=sighting.kind.value,  # type: ignore[arg-type] # FACE and PII have the same numbers
        channel=sighting.channel,
        channel_group=sighting.channel_group,
        rule=sighting.rule,
    )
    message.discover_time.FromDatetime(sighting.discover_time)
    message.create_time.FromDatetime(sighting.create_time)
    return message


def subscriber_message(subscriber: Subscriber, profile: Profile | None) -> subscriber_service_pb2.Subscriber:
    """A subscriber for the wire; without the profile where its key is gone."""
    message = subscriber_service_pb2.Subscriber(
        subscriber_id=subscriber.subscriber_id,
        state=subscriber.state.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
        language=subscriber.language,
        minor=subscriber.minor,
    )
    if profile is not None:
        message.display_name = profile.display_name
        message.contact_email = profile.contact_email
    message.create_time.FromDatetime(subscriber.create_time)
    return message


def consent_message(consent: Consent) -> subscriber_service_pb2.Consent:
    """A consent for the wire."""
    message = subscriber_service_pb2.Consent(
        consent_id=consent.consent_id,
        scope=consent.scope,  # type: ignore[arg-type] # the number of the contract
        text_version=consent.text_version,
    )
    message.give_time.FromDatetime(consent.give_time)
    if consent.withdraw_time is not None:
        message.withdraw_time.FromDatetime(consent.withdraw_time)
    return message


def capture_json(capture: Capture) -> dict[str, Json]:
    """What a pack says of how the content was found (`capture.json`); only fields that are there."""
    http = capture.capture_facts
    values: dict[str, Json] = {
        "source_url": capture.source_url,
        "parent_url": capture.parent_url,
        "post_id": capture.post_id,
        "channel": capture.channel,
        "channel_group": capture.channel_group,
        "source_type": _name(capture, "source_type"),
        "collection_basis": _name(capture, "collection_basis"),
        "policy_rule_id": capture.policy_rule_id,
        "discover_time": _iso(capture.discover_time) if capture.HasField("discover_time") else "",
        "publish_time": _iso(capture.publish_time) if capture.HasField("publish_time") else "",
        "part_hashes": [
            {"part": part.part, "sha256": part.sha256.hex(), "size_bytes": part.size_bytes}
            for part in capture.part_hashes
        ],
    }
    if capture.HasField("capture_facts"):
        values["http"] = {
            "status": http.http_status,
            "redirects": list(http.redirects),
            "headers": [{"name": pair.name, "value": pair.value} for pair in http.headers],
            "tls_peer_sha256": http.tls_peer_sha256.hex(),
            "collector": http.collector,
            "fetch_time": _iso(http.fetch_time) if http.HasField("fetch_time") else "",
        }
    return {name: value for name, value in values.items() if value not in ("", [])}


def decision_json(capture: Capture) -> dict[str, Json]:
    """What a pack says of why it was decided so (`decision.json`); empty where the detector said nothing."""
    if not capture.HasField("decision"):
        return {}
    decision = capture.decision
    values: dict[str, Json] = {
        "decision_id": capture.decision_id,
        "band": _name(decision, "band"),
        "kind": _name(decision, "kind"),
        "reasons": list(decision.reasons),
        "model_id": decision.model_id,
        "engine_id": decision.engine_id,
        "rule_version": decision.rule_version,
        "identifier_kinds": [
            IdentifierKind.Name(number)
            for number in decision.identifier_kinds
            if number in IdentifierKind.values()
        ],
        "decide_time": _iso(decision.decide_time) if decision.HasField("decide_time") else "",
        "faces_found": decision.faces_found,
        "cluster_id": decision.cluster_id,
        "cluster_rule": decision.cluster_rule,
    }
    return {name: value for name, value in values.items() if value not in ("", [])}


def _name(message: Message, field: str) -> str:
    """The name of an enum's value; empty where it was not stated or is not known here."""
    number: int = getattr(message, field)
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    value = enum.values_by_number.get(number) if enum and number else None
    return value.name if value else ""


def _iso(value: Timestamp) -> str:
    return moment_of(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
