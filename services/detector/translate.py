"""How contract messages become values, and values contract messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import signal_service_pb2 as signals
from services.detector.domain.channels import Channel, ChannelLevel
from services.detector.domain.ownership import Challenge, Claims, FaceTemplate, Watch
from services.detector.domain.reports import Scan
from services.detector.domain.signals import CaptureFacts, Pair, Part, Signal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_SECONDS = 253_402_300_799
"""9999-12-31: the last second that a datetime holds."""


def time_of(message: object, field: str) -> datetime | None:
    """A timestamp field as an aware time; None when it is unset or beyond what a calendar holds."""
    if not message.HasField(field):  # type: ignore[attr-defined] # any generated message
        return None
    stamp: Timestamp = getattr(message, field)
    if not 0 < stamp.seconds <= _LATEST_SECONDS or not 0 <= stamp.nanos < 1_000_000_000:
        return None
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)


def stamp(time: datetime | None) -> Timestamp | None:
    """An aware time as a message; None stays None (a field that is left unset)."""
    if time is None:
        return None
    # A third of what FromDatetime takes: a decision has five of them.
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def signal_of(message: signals.Signal) -> Signal:
    """A signal as a value."""
    facts = message.capture
    return Signal(
        signal_id=message.signal_id,
        channel=message.channel,
        channel_group=message.channel_group,
        source_type=message.source_type,
        source_url=message.source_url,
        post_id=message.post_id,
        parent_url=message.parent_url,
        discover_time=time_of(message, "discover_time"),
        publish_time=time_of(message, "publish_time"),
        parts=tuple(_part(part) for part in message.parts),
        metadata=_pairs(message.metadata),
        author_hash=message.author_hash,
        collection_basis=message.collection_basis,
        policy_rule_id=message.policy_rule_id,
        capture=CaptureFacts(
            http_status=facts.http_status,
            redirects=tuple(facts.redirects),
            headers=_pairs(facts.headers),
            tls_peer_sha256=facts.tls_peer_sha256,
            collector=facts.collector,
            fetch_time=time_of(facts, "fetch_time"),
        ),
        sexual_content_reported=message.sexual_content_reported,
        account_dump=message.account_dump,
        scan_id=message.scan_id,
    )


def _part(part: signals.SignalPart) -> Part:
    if part.WhichOneof("content") == "image":
        return Part(image=part.image)
    return Part(text=part.text)


def _pairs(pairs: Iterable[signals.MetadataPair]) -> tuple[Pair, ...]:
    return tuple(Pair(pair.name, pair.value) for pair in pairs)


def capture_facts(facts: CaptureFacts) -> signals.CaptureFacts:
    """The facts of a capture as a message."""
    return signals.CaptureFacts(
        http_status=facts.http_status,
        redirects=facts.redirects,
        headers=[signals.MetadataPair(name=pair.name, value=pair.value) for pair in facts.headers],
        tls_peer_sha256=facts.tls_peer_sha256,
        collector=facts.collector,
        fetch_time=stamp(facts.fetch_time),
    )


def channel_of(message: channels.Channel) -> Channel:
    """A channel as a value. Raises ValueError for a level that is none."""
    return Channel(
        channel=message.channel,
        channel_group=message.channel_group,
        display_name=message.display_name,
        source_type=message.source_type,
        level=ChannelLevel(message.level),
        paused=message.paused,
        platform=message.platform,
        version=message.version,
    )


def channel_message(channel: Channel, scan: Scan | None = None) -> channels.Channel:
    """A channel as a message, with the scan that runs."""
    return channels.Channel(
        channel=channel.channel,
        channel_group=channel.channel_group,
        display_name=channel.display_name,
        source_type=common.SourceType.ValueType(channel.source_type),
        level=channels.ChannelLevel.ValueType(channel.level),
        paused=channel.paused,
        platform=channel.platform,
        version=channel.version,
        update_time=stamp(channel.update_time),
        scan_id=scan.scan_id if scan else "",
        scan_max_signals=scan.max_signals if scan else 0,
        scan_end_time=stamp(scan.end_time) if scan else None,
    )


def template_message(template: FaceTemplate) -> enrolment.FaceTemplate:
    """A template as a message."""
    return enrolment.FaceTemplate(
        template_id=template.template_id,
        state=enrolment.OwnershipState.ValueType(template.state),
        create_time=stamp(template.create_time),
        expire_time=stamp(template.expire_time),
        pictures=template.pictures,
        model_ids=template.model_ids,
        source=enrolment.TemplateSource.ValueType(template.source),
        liveness=enrolment.Liveness.ValueType(template.liveness),
    )


def challenge_message(challenge: Challenge, nonce: bytes) -> enrolment.AskLivenessChallengeResponse:
    """A challenge as a message."""
    return enrolment.AskLivenessChallengeResponse(
        challenge_id=challenge.challenge_id,
        nonce=nonce,
        poses=[enrolment.Pose.ValueType(pose) for pose in challenge.poses],
        expire_time=stamp(challenge.expire_time),
    )


def watch_message(watch: Watch, masked_value: str) -> enrolment.WatchedIdentifier:
    """A watched identifier as a message."""
    return enrolment.WatchedIdentifier(
        watch_id=watch.watch_id,
        kind=common.IdentifierKind.ValueType(watch.kind),
        masked_value=masked_value,
        state=enrolment.OwnershipState.ValueType(watch.state),
        create_time=stamp(watch.create_time),
        expire_time=stamp(watch.expire_time),
    )


def claims_of(message: enrolment.OwnershipClaims) -> Claims:
    """A provider's claims as a value."""
    return Claims(
        provider=message.provider,
        audience=message.audience,
        subscriber_id=message.subscriber_id,
        target_id=message.target_id,
        value=message.value,
        possession=message.possession,
        real_name=message.real_name,
        nonce=message.nonce,
        issue_time=time_of(message, "issue_time"),
        expire_time=time_of(message, "expire_time"),
        guardian=message.guardian,
        fourteen=message.fourteen,
        live_face=message.live_face,
    )


def identifier_kinds(kinds: Iterable[int]) -> Sequence[common.IdentifierKind.ValueType]:
    """Each kind once, in the contract's order."""
    return [common.IdentifierKind.ValueType(kind) for kind in sorted(set(kinds))]
