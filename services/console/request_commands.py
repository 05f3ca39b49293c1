"""What does each command of `jikimi rights` do with requests about one's own data and with the list of purges?"""

from __future__ import annotations

import argparse
import hashlib
import secrets
from pathlib import Path

from jikimi_client.misuse.case import v1 as case_api
from services.console.client import Connections, connections, staff, subscriber
from services.console.home import Home
from services.console.output import PAGE, CannotDo, everything, present, print_rows, read_file, time_of

TYPES = ("ACCESS", "CORRECTION", "DELETION", "SUSPENSION", "EXPLANATION")
REQUESTERS = ("SELF", "LEGAL_REPRESENTATIVE", "AGENT")
STATES = ("RECEIVED", "FULFILLED", "REJECTED", "ALL")
PURGE_STATES = ("DUE", "PURGED", "HELD")
_HEADINGS = ["id", "type", "state", "asked by", "due", "answered", "why", ""]


def _stub(services: Connections, options: argparse.Namespace) -> case_api.PrivacyServiceStub:
    caller = staff("PRIVACY_OFFICER", "RIGHTS", getattr(options, "person", "") or "console")
    return services.stub("case", case_api.PrivacyServiceStub, caller)


async def ask(home: Home, options: argparse.Namespace) -> int:
    """Hands a request in: with the person's own token, or for the person where it is said how that was checked."""
    asked = case_api.CreateRightsRequestRequest(
        subscriber_id=options.subscriber,
        request_id=secrets.token_hex(16),
        type=options.type,
        requester=options.requester,
        identity_basis=options.identity,
        document_sha256=hashlib.sha256(read_file(Path(options.document))).digest() if options.document else b"",
        reason=options.reason,
        detail=options.detail,
    )
    async with connections(home) as services:
        stub = _stub(services, options)
        if not options.identity:
            own = subscriber(options.subscriber, "RIGHTS")
            stub = services.stub("case", case_api.PrivacyServiceStub, own)
        answer = await stub.create_rights_request(asked)
    return _print(options, present(answer.rights_request))


async def requests(home: Home, options: argparse.Namespace) -> int:
    """Lists requests, next deadline first. Exit status 1 while one is late."""
    async with connections(home) as services:
        stub = _stub(services, options)

        async def page(token: str) -> tuple[list[case_api.RightsRequest], str]:
            wanted = case_api.ListRightsRequestsRequest(page_size=PAGE, page_token=token, state=options.state)
            answer = await stub.list_rights_requests(wanted)
            return answer.rights_requests, answer.next_page_token

        found = await everything(page)
    print_rows(options, [each.to_dict() for each in found], _HEADINGS, [_row(each) for each in found])
    return 1 if any(each.overdue and each.state == "RECEIVED" for each in found) else 0


async def show(home: Home, options: argparse.Namespace) -> int:
    """Shows one with what was asked for."""
    async with connections(home) as services:
        wanted = case_api.GetRightsRequestRequest(rights_request_id=options.request)
        answer = await _stub(services, options).get_rights_request(wanted)
    shown = present(answer.rights_request)
    status = _print(options, shown)
    if not options.json:
        for words in (shown.law, shown.detail, shown.reason_text, shown.objection_text):
            if words:
                print(words)
    return status


async def fulfil(home: Home, options: argparse.Namespace) -> int:
    """Does what was asked for."""
    wanted = case_api.FulfillRightsRequestRequest(
        rights_request_id=options.request,
        statement=options.statement,
        corrections=[_correction(each) for each in options.correct],
    )
    async with connections(home) as services:
        answer = await _stub(services, options).fulfill_rights_request(wanted)
    return _print(options, present(answer.rights_request))


def _correction(words: str) -> case_api.Correction:
    entry, equals, content = words.partition("=")
    if not equals:
        raise CannotDo("A correction reads like CONTACT_EMAIL=name@example.org.")
    return case_api.Correction(entry=entry, content=content)


async def reject(home: Home, options: argparse.Namespace) -> int:
    """Refuses for a reason that `rights.yaml` knows."""
    wanted = case_api.RejectRightsRequestRequest(
        rights_request_id=options.request, reason=options.why, statement=options.statement
    )
    async with connections(home) as services:
        answer = await _stub(services, options).reject_rights_request(wanted)
    return _print(options, present(answer.rights_request))


async def extend(home: Home, options: argparse.Namespace) -> int:
    """Puts the deadline off."""
    async with connections(home) as services:
        stub = _stub(services, options)
        seen = await stub.get_rights_request(case_api.GetRightsRequestRequest(rights_request_id=options.request))
        wanted = case_api.ExtendRightsRequestRequest(
            rights_request_id=options.request,
            reason=options.why,
            extensions=present(seen.rights_request).extensions,
        )
        answer = await stub.extend_rights_request(wanted)
    return _print(options, present(answer.rights_request))


async def answer(home: Home, options: argparse.Namespace) -> int:
    """Saves the document that answers a request."""
    wanted = case_api.GetRightsAnswerRequest(rights_request_id=options.request, reason=options.reason)
    async with connections(home) as services:
        parts = [part.chunk async for part in _stub(services, options).get_rights_answer(wanted)]
    out = Path(options.out)
    # Personal data: for nobody else on this machine.
    out.touch(mode=0o600)
    out.write_bytes(b"".join(parts))
    print_rows(options, {"file": str(out)}, ["file"], [[out]])
    return 0


async def purges(home: Home, options: argparse.Namespace) -> int:
    """Lists what is to be purged, was, or is held. Exit status 1 while something is overdue."""
    async with connections(home) as services:
        stub = _stub(services, options)

        async def page(token: str) -> tuple[list[case_api.PurgeItem], str]:
            wanted = case_api.ListPurgeItemsRequest(page_size=PAGE, page_token=token, state=options.state)
            found = await stub.list_purge_items(wanted)
            return found.items, found.next_page_token

        found = await everything(page)
    rows = [
        [
            each.service,
            each.item_kind,
            each.item_id,
            each.state,
            time_of(each.due_time),
            time_of(each.purge_time),
            each.rule,
            f"{each.chain_id} {each.sequence}" if each.chain_id else each.record_id,
        ]
        for each in found
    ]
    headings = ["service", "kind", "what", "state", "due", "purged", "rule", "proof"]
    print_rows(options, [each.to_dict() for each in found], headings, rows)
    return 1 if any(each.state == "OVERDUE" for each in found) else 0


def _print(options: argparse.Namespace, shown: case_api.RightsRequest) -> int:
    print_rows(options, shown.to_dict(), _HEADINGS, [_row(shown)])
    return 0


def _row(shown: case_api.RightsRequest) -> list[object]:
    return [
        shown.rights_request_id,
        shown.type,
        "ERASING" if shown.erasure_id and shown.state == "RECEIVED" else shown.state,
        f"{shown.requester} ({shown.identity_basis})",
        time_of(shown.due_time),
        time_of(shown.answer_time),
        shown.reason_code,
        "LATE" if shown.overdue else "",
    ]
