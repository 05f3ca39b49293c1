"""What does each command of `jikimi` do?"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpclib
from grpclib.exceptions import StreamTerminatedError
from rich.console import Console
from rich.progress import Progress

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.common import v1 as common
from jikimi_client.misuse.detector import v1 as detector_api
from jikimi_client.misuse.notify import v1 as notify_api
from jikimi_client.misuse.ops import v1 as ops_api
from jikimi_client.misuse.removal import v1 as removal_api
from services.chassis.tokens import Issuer
from services.console.client import Connections, connections, device, once_consented, staff, subscriber
from services.console.home import SERVICES, Home
from services.console.output import PAGE, CannotDo, Row, everything
from services.console.output import name_of as _name
from services.console.output import present as _present
from services.console.output import print_rows as _print
from services.console.output import read_file as _read
from services.console.output import time_of as _time
from services.console.provider import TestProvider

Command = Callable[[Home, argparse.Namespace], Coroutine[Any, Any, int]]
T = TypeVar("T")

KINDS = {
    "mobile": common.IdentifierKind.from_string("MOBILE_PHONE"),
    "landline": common.IdentifierKind.from_string("LANDLINE"),
    "email": common.IdentifierKind.from_string("EMAIL"),
    "card": common.IdentifierKind.from_string("PAYMENT_CARD"),
    "account": common.IdentifierKind.from_string("BANK_ACCOUNT"),
}
VERDICTS = {
    "me": case_api.SubscriberVerdict.from_string("ME"),
    "not-me": case_api.SubscriberVerdict.from_string("NOT_ME"),
    "unsure": case_api.SubscriberVerdict.from_string("UNSURE"),
}
TOKEN_HOURS = 12
"""Longest life of a token (services/chassis/tokens.py)."""
CONSENTS = ("SERVICE", "FACE_TEMPLATE", "TEMPLATE_CROP", "WATCHED_IDENTIFIER", "REMOVAL", "LINKED_ACCOUNT")
PASSING = (grpclib.GRPCError, StreamTerminatedError, OSError, TimeoutError)
"""What a call raises while a service restarts."""


# --- people ---


async def subscriber_add(home: Home, options: argparse.Namespace) -> int:
    """Registers a subscriber with consents, a device and a mandate."""
    async with connections(home) as services:
        subscriber_id = await register(services, options.name, options.mail, options.language)
        await mandate(services, subscriber_id, secrets.token_hex(16))
    _print(options, {"subscriber_id": subscriber_id}, ["subscriber"], [[subscriber_id]])
    return 0


async def register(services: Connections, name: str, mail: str, language: str, request_id: str = "") -> str:
    """A new subscriber with every consent that protection needs. Returns the id; the same request the same id."""
    request_id = request_id or secrets.token_hex(16)
    backend = services.stub("case", case_api.SubscriberServiceStub, staff("APP_BACKEND", "ENROLMENT"))
    answer = await backend.register_subscriber(
        case_api.RegisterSubscriberRequest(
            request_id=request_id, display_name=name, contact_email=mail, language=language
        )
    )
    subscriber_id = _present(answer.subscriber).subscriber_id
    for scope in CONSENTS:
        await backend.record_consent(
            case_api.RecordConsentRequest(
                subscriber_id=subscriber_id,
                request_id=f"{request_id}-{scope}"[:64],
                scope=case_api.ConsentScope.from_string(scope),
                text_version="2026-01",
            )
        )
    return subscriber_id


async def subscriber_show(home: Home, options: argparse.Namespace) -> int:
    """Lists templates and watched identifiers, masked."""
    async with connections(home) as services:
        caller = subscriber(options.subscriber)
        stub = services.stub("detector", detector_api.EnrollmentServiceStub, caller)
        faces = await stub.list_face_templates(detector_api.ListFaceTemplatesRequest(subscriber_id=options.subscriber))
        watched = await stub.list_watched_identifiers(
            detector_api.ListWatchedIdentifiersRequest(subscriber_id=options.subscriber)
        )
    asked = {template_id: ", NEEDS_REVIEW" for template_id in faces.needs_review_ids}
    rows = [
        ["FACE", f.template_id, f"{f.pictures} pictures", _name(f.state) + asked.get(f.template_id, "")]
        for f in faces.templates
    ]
    rows += [[_name(w.kind), w.watch_id, w.masked_value, _name(w.state)] for w in watched.identifiers]
    _print(options, rows, ["kind", "id", "what", "state"], rows)
    return 0


async def watch_add(home: Home, options: argparse.Namespace) -> int:
    """Watches an identifier and proves it."""
    async with connections(home) as services:
        watched = await watch(services, TestProvider(home), options.subscriber, KINDS[options.kind], options.value)
    _print(
        options,
        {"watch_id": watched.watch_id, "masked_value": watched.masked_value},
        ["id", "masked"],
        [[watched.watch_id, watched.masked_value]],
    )
    return 0


async def watch(
    services: Connections,
    provider: TestProvider,
    subscriber_id: str,
    kind: common.IdentifierKind,
    value: str,
    request_id: str = "",
) -> detector_api.WatchedIdentifier:
    """Watches an identifier and proves it through the test provider."""
    stub = services.stub("detector", detector_api.EnrollmentServiceStub, subscriber(subscriber_id, "ENROLMENT"))
    request = detector_api.WatchIdentifierRequest(
        subscriber_id=subscriber_id, request_id=request_id or secrets.token_hex(16), kind=kind, value=value
    )
    watched = _present((await once_consented(lambda: stub.watch_identifier(request))).identifier)
    if watched.state == detector_api.OwnershipState.PENDING:
        claims, signature = provider.assertion(subscriber_id, watched.watch_id, value)
        await stub.verify_ownership(
            detector_api.VerifyOwnershipRequest(
                subscriber_id=subscriber_id, watch_id=watched.watch_id, claims=claims, signature=signature
            )
        )
    return watched


async def face_add(home: Home, options: argparse.Namespace) -> int:
    """Enrols a face and proves it."""
    pictures = [_read(Path(name)) for name in options.pictures]
    async with connections(home) as services:
        made = await enrol(services, TestProvider(home), options.subscriber, pictures)
    facts = {"template_id": made.template_id, "state": made.state, "reason": made.reason}
    _print(options, facts, ["template", "state", ""], [[made.template_id, made.state, _REASONS.get(made.reason, "")]])
    return 0 if made.state == "VERIFIED" else 1


@dataclass(frozen=True)
class Enrolled:
    """What became of an enrolment."""

    template_id: str
    state: str
    reason: str = ""
    """Why it is not VERIFIED, such as NEEDS_REVIEW."""


_REASONS = {"NEEDS_REVIEW": "needs review: people look whether somebody else enrolled this face before"}


async def enrol(
    services: Connections, provider: TestProvider, subscriber_id: str, pictures: Sequence[bytes], request_id: str = ""
) -> Enrolled:
    """Enrols a face and proves it through the test provider."""
    stub = services.stub("detector", detector_api.EnrollmentServiceStub, subscriber(subscriber_id, "ENROLMENT"))
    request = detector_api.EnrollFaceRequest(
        subscriber_id=subscriber_id, request_id=request_id or secrets.token_hex(16), pictures=list(pictures)
    )
    template = _present((await once_consented(lambda: stub.enroll_face(request))).template)
    if template.state != detector_api.OwnershipState.PENDING:
        return Enrolled(template.template_id, _name(template.state))
    claims, signature = provider.assertion(subscriber_id, template.template_id, "")
    proof = await stub.verify_ownership(
        detector_api.VerifyOwnershipRequest(
            subscriber_id=subscriber_id, template_id=template.template_id, claims=claims, signature=signature
        )
    )
    return Enrolled(template.template_id, _name(proof.state), proof.reason)


async def inbox_list(home: Home, options: argparse.Namespace) -> int:
    """Shows the inbox."""
    async with connections(home) as services:
        items = await _inbox(services, options.subscriber)
    rows = [[_time(i.create_time), _name(i.subject), i.case_id, i.title, "read" if i.read_time else ""] for i in items]
    _print(options, [item.to_dict() for item in items], ["time", "subject", "case", "title", ""], rows)
    return 0


async def inbox_read(home: Home, options: argparse.Namespace) -> int:
    """Marks everything as read."""
    async with connections(home) as services:
        items = await _inbox(services, options.subscriber)
        stub = services.stub("notify", notify_api.NotifyServiceStub, subscriber(options.subscriber))
        count = 0
        for start in range(0, len(items), 500):
            ids = [item.item_id for item in items[start : start + 500]]
            answer = await stub.mark_read(notify_api.MarkReadRequest(subscriber_id=options.subscriber, item_ids=ids))
            count += answer.read
    _print(options, {"read": count}, ["read"], [[count]])
    return 0


async def _inbox(services: Connections, subscriber_id: str) -> list[notify_api.InboxItem]:
    stub = services.stub("notify", notify_api.NotifyServiceStub, subscriber(subscriber_id))

    async def page(token: str) -> tuple[list[notify_api.InboxItem], str]:
        answer = await stub.list_inbox(
            notify_api.ListInboxRequest(subscriber_id=subscriber_id, page_size=PAGE, page_token=token)
        )
        return answer.items, answer.next_page_token

    return await everything(page)


async def inbox_device(home: Home, options: argparse.Namespace) -> int:
    """Registers a device, streams and acknowledges until stopped."""
    async with connections(home) as services:
        name = "console"
        await add_device(services, options.subscriber, name)
        stub = services.stub("notify", notify_api.NotifyServiceStub, device(options.subscriber, name), seconds=None)
        stream = stub.stream_notifications(notify_api.StreamNotificationsRequest(subscriber_id=options.subscriber))
        seen = 0
        async for answer in _until_quiet(stream, options.seconds):
            notice = _present(answer.notification)
            print(f"{notice.title}: {notice.body}  [{notice.case_id}]", flush=True)
            await stub.acknowledge_notifications(
                notify_api.AcknowledgeNotificationsRequest(
                    subscriber_id=options.subscriber, notification_ids=[notice.notification_id]
                ),
                timeout=10,
            )
            seen += 1
    print(f"{seen} acknowledged")
    return 0


async def _until_quiet(stream: AsyncIterator[T], seconds: float) -> AsyncIterator[T]:
    while True:
        try:
            async with asyncio.timeout(seconds or None):
                item = await anext(stream)
        except (TimeoutError, StopAsyncIteration):
            return
        yield item


async def add_device(services: Connections, subscriber_id: str, device_id: str) -> None:
    """Registers a device; again is harmless. The subscriber travels to notify as an event, hence the patience."""
    stub = services.stub("notify", notify_api.NotifyServiceStub, subscriber(subscriber_id))
    request = notify_api.RegisterDeviceRequest(subscriber_id=subscriber_id, device_id=device_id, os="web")
    await once_consented(lambda: stub.register_device(request))


# --- signals ---


async def signal_submit(home: Home, options: argparse.Namespace) -> int:
    """Hands in one post."""
    parts = [detector_api.SignalPart(text=text) for text in options.text]
    parts += [detector_api.SignalPart(image=_read(Path(name))) for name in options.files]
    content = hashlib.sha256(b"".join(bytes(part) for part in parts) + options.url.encode()).hexdigest()
    signal = detector_api.Signal(
        signal_id=options.id or f"cli-{content[:32]}",
        channel=options.channel,
        source_type=common.SourceType.from_string("WEB"),
        source_url=options.url,
        discover_time=datetime.now(UTC),
        parts=parts,
        collection_basis=common.CollectionBasis.from_string("PUBLIC_ACCESS"),
        policy_rule_id="console",
    )
    async with connections(home) as services:
        stub = services.stub("detector", detector_api.SignalServiceStub, staff("COLLECTOR", "COLLECTION"))
        answer = await stub.submit_signal(detector_api.SubmitSignalRequest(signal=signal))
    facts = {"signal_id": signal.signal_id, "state": _name(answer.state), "duplicate": answer.duplicate}
    _print(options, facts, list(facts), [list(facts.values())])
    return 0


async def signal_status(home: Home, options: argparse.Namespace) -> int:
    """Shows how far a signal is, with its decisions."""
    async with connections(home) as services:
        stub = services.stub("detector", detector_api.SignalServiceStub, staff("OPERATOR", "CASE_HANDLING"))
        answer = await stub.get_signal_status(detector_api.GetSignalStatusRequest(signal_id=options.id))
    rows = [[_name(answer.state), _name(d.kind), _name(d.band), d.decision_id] for d in answer.decisions]
    _print(options, answer.to_dict(), ["state", "kind", "band", "decision"], rows or [[_name(answer.state)]])
    return 0


async def channel_list(home: Home, options: argparse.Namespace) -> int:
    """Shows the channels."""
    async with connections(home) as services:
        stub = services.stub("detector", detector_api.ChannelServiceStub, staff("OPERATOR", "COLLECTION"))

        async def page(token: str) -> tuple[list[detector_api.Channel], str]:
            answer = await stub.list_channels(detector_api.ListChannelsRequest(page_size=100, page_token=token))
            return answer.channels, answer.next_page_token

        channels = await everything(page)
    rows = [[c.channel, c.channel_group, _name(c.level), "paused" if c.paused else "", c.platform] for c in channels]
    _print(options, [c.to_dict() for c in channels], ["channel", "group", "level", "", "platform"], rows)
    return 0


# --- cases ---


async def all_cases(services: Connections, subscriber_id: str = "") -> list[case_api.Case]:
    """Every case that is not merged into another."""
    stub = services.stub("case", case_api.CaseServiceStub, staff("OPERATOR", "CASE_HANDLING"))

    async def page(token: str) -> tuple[list[case_api.Case], str]:
        answer = await stub.list_cases(
            case_api.ListCasesRequest(subscriber_id=subscriber_id, page_size=PAGE, page_token=token)
        )
        return answer.cases, answer.next_page_token

    return await everything(page)


async def case_list(home: Home, options: argparse.Namespace) -> int:
    """Lists cases."""
    async with connections(home) as services:
        cases = await all_cases(services, options.subscriber)
    rows = [
        [
            c.case_id,
            "+".join(_name(kind) for kind in c.kinds),
            _name(c.state),
            ", ".join(c.channel_groups),
            c.sighting_count,
            f"{c.latency_ms} ms",
            _time(c.create_time),
        ]
        for c in cases
    ]
    headings = ["case", "kind", "state", "channels", "sightings", "latency", "opened"]
    _print(options, [c.to_dict() for c in cases], headings, rows)
    return 0


async def case_show(home: Home, options: argparse.Namespace) -> int:
    """Shows one case."""
    async with connections(home) as services:
        stub = services.stub("case", case_api.CaseServiceStub, staff("OPERATOR", "CASE_HANDLING"))
        answer = await stub.get_case(case_api.GetCaseRequest(case_id=options.case))
    case = _present(answer.case)
    rows = [[_time(s.discover_time), _name(s.kind), s.channel, s.rule, s.decision_id] for s in answer.sightings]
    if not options.json:
        print(f"{case.case_id}  {_name(case.state)}  {'+'.join(_name(kind) for kind in case.kinds)}")
    _print(options, answer.to_dict(), ["found", "kind", "channel", "joined by", "decision"], rows)
    return 0


async def case_verdict(home: Home, options: argparse.Namespace) -> int:
    """Records what the subscriber says."""
    async with connections(home) as services:
        operator = services.stub("case", case_api.CaseServiceStub, staff("OPERATOR", "CASE_HANDLING"))
        found = _present((await operator.get_case(case_api.GetCaseRequest(case_id=options.case))).case)
        stub = services.stub("case", case_api.CaseServiceStub, subscriber(found.subscriber_id))
        answer = await stub.record_subscriber_verdict(
            case_api.RecordSubscriberVerdictRequest(
                subscriber_id=found.subscriber_id,
                case_id=options.case,
                request_id=secrets.token_hex(16),
                verdict=VERDICTS[options.verdict],
            )
        )
    case = _present(answer.case)
    _print(options, case.to_dict(), ["case", "state"], [[case.case_id, _name(case.state)]])
    return 0


async def evidence_export(home: Home, options: argparse.Namespace) -> int:
    """Saves a pack."""
    out = Path(options.out or f"evidence-{options.case}.zip")
    async with connections(home) as services:
        pack = await evidence_pack(services, options.case, options.reason)
    out.write_bytes(pack)
    _print(options, {"file": str(out), "bytes": len(pack)}, ["file", "bytes"], [[out, len(pack)]])
    return 0


async def evidence_pack(services: Connections, case_id: str, reason: str = "") -> bytes:
    """The latest pack of a case."""
    stub = services.stub("case", case_api.CaseServiceStub, staff("OPERATOR", "CASE_HANDLING"), seconds=120)
    request = case_api.GetEvidencePackRequest(case_id=case_id, reason=reason)
    chunks = [answer.chunk async for answer in stub.get_evidence_pack(request)]
    return b"".join(chunks)


# --- removal ---


async def mandate(services: Connections, subscriber_id: str, request_id: str) -> None:
    """The subscriber's mandate for all platforms, for a year. The document is a placeholder of the local system."""
    stub = services.stub("removal", removal_api.RemovalServiceStub, subscriber(subscriber_id))
    request = removal_api.GrantMandateRequest(
        subscriber_id=subscriber_id,
        request_id=request_id,
        document_sha256=hashlib.sha256(b"local mandate").digest(),
        expire_time=datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC),
    )
    await once_consented(lambda: stub.grant_mandate(request))


async def all_removals(services: Connections, case_id: str = "") -> list[removal_api.RemovalRequest]:
    """Every removal request."""
    stub = services.stub("removal", removal_api.RemovalServiceStub, staff("OPERATOR", "REMOVAL"))

    async def page(token: str) -> tuple[list[removal_api.RemovalRequest], str]:
        answer = await stub.list_removal_requests(
            removal_api.ListRemovalRequestsRequest(case_id=case_id, page_size=PAGE, page_token=token)
        )
        return answer.removal_requests, answer.next_page_token

    return await everything(page)


async def removal_list(home: Home, options: argparse.Namespace) -> int:
    """Lists removal requests."""
    async with connections(home) as services:
        requests = await all_removals(services, options.case)
    rows = [
        [r.removal_request_id, r.platform, r.path, _name(r.state), len(r.attempts), _time(r.create_time)]
        for r in requests
    ]
    headings = ["request", "platform", "path", "state", "attempts", "made"]
    _print(options, [r.to_dict() for r in requests], headings, rows)
    return 0


# --- operations ---


async def dead_letters(services: Connections, service: str) -> tuple[list[ops_api.DeadLetter], int]:
    """The first page of a service's dead letters and their number."""
    stub = services.stub(service, ops_api.OpsServiceStub, staff("SRE", "OPERATIONS"))
    answer = await stub.list_dead_letters(ops_api.ListDeadLettersRequest(page_size=PAGE))
    return answer.dead_letters, answer.total


async def dlq_list(home: Home, options: argparse.Namespace) -> int:
    """Lists dead letters."""
    rows: list[Row] = []
    async with connections(home) as services:
        for service in [options.service] if options.service else SERVICES:
            letters, _ = await dead_letters(services, service)
            rows += [
                [service, x.dead_letter_id, x.publisher, x.type_name, x.reason, "parked" if x.parked else ""]
                for x in letters
            ]
    _print(options, [list(map(str, row)) for row in rows], ["service", "id", "from", "what", "reason", ""], rows)
    return 0


async def dlq_replay(home: Home, options: argparse.Namespace) -> int:
    """Replays dead letters."""
    async with connections(home) as services:
        stub = services.stub(options.service, ops_api.OpsServiceStub, staff("SRE", "OPERATIONS"), seconds=300)
        answer = await stub.replay_dead_letters(ops_api.ReplayDeadLettersRequest(dead_letter_ids=options.ids))
    facts = {"replayed": answer.replayed, "rejected": answer.rejected}
    _print(options, facts, list(facts), [list(facts.values())])
    return 0 if answer.rejected == 0 else 1


async def gallery_status(home: Home, options: argparse.Namespace) -> int:
    """Shows how current the gallery of enrolled faces is."""
    async with connections(home) as services:
        state = await _gallery(services).get_index_version(ops_api.GetIndexVersionRequest())
    facts = {
        "templates": state.entries,
        "version": state.version,
        "newest version": state.head_version,
        "age ms": state.age_ms,
        "changed": _time(state.update_time),
        "being rebuilt": f"at version {state.rebuild_version}" if state.rebuilding else "no",
    }
    _print(options, {name.replace(" ", "_"): value for name, value in facts.items()}, list(facts), [[*facts.values()]])
    return 0


async def gallery_rebuild(home: Home, options: argparse.Namespace) -> int:
    """Has the gallery built anew, and follows it to its end."""
    async with connections(home) as services:
        stub = _gallery(services)
        answer = await stub.rebuild_index(ops_api.RebuildIndexRequest())
        state = await stub.get_index_version(ops_api.GetIndexVersionRequest())
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("Building the gallery anew", total=max(1, state.head_version))
            while state.rebuilding:
                progress.update(task, completed=state.rebuild_version, total=max(1, state.head_version))
                await asyncio.sleep(0.25)
                state = await stub.get_index_version(ops_api.GetIndexVersionRequest())
    facts = {"started": answer.started, "templates": state.entries, "version": state.version}
    _print(options, facts, list(facts), [list(facts.values())])
    return 0


def _gallery(services: Connections) -> ops_api.OpsServiceStub:
    return services.stub("detector", ops_api.OpsServiceStub, staff("SRE", "OPERATIONS"))


async def token_issue(home: Home, options: argparse.Namespace) -> int:
    """Prints a token. Raises CannotDo for a life that no verifier accepts."""
    if not 0 < options.hours <= TOKEN_HOURS:
        raise CannotDo(f"A token is valid for at most {TOKEN_HOURS} hours.")
    caller = staff(options.role, options.purpose, options.subject)
    issuer = Issuer.from_file(home.path / "tokens" / "private" / "issuer.key")
    print(issuer.issue(caller.subject, caller.role, caller.purpose, options.audience, 3600 * options.hours))
    return 0


# --- for all ---
