"""What does each command of `jikimi account`, `upload` and `redaction` do?"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from betterproto import which_one_of

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.detector import v1 as detector_api
from jikimi_client.misuse.gate import v1 as gate_api
from jikimi_client.misuse.log import v1 as log_api
from services.console.client import Connections, connections, once_consented, staff, subscriber
from services.console.home import Home
from services.console.output import (
    PAGE,
    CannotDo,
    Row,
    everything,
    name_of,
    present,
    print_rows,
    read_file,
    time_of,
)


def _stub(services: Connections, subscriber_id: str) -> detector_api.UploadServiceStub:
    return services.stub("detector", detector_api.UploadServiceStub, subscriber(subscriber_id))


async def account_link(home: Home, options: argparse.Namespace) -> int:
    """Links an account."""
    async with connections(home) as services:
        account_id = await link(services, options.subscriber, options.platform, options.name, others=options.others)
    print_rows(options, {"account_id": account_id}, ["account"], [[account_id]])
    return 0


async def link(
    services: Connections, subscriber_id: str, platform: str, name: str, *, others: bool = False
) -> str:
    """Links an account; returns its id."""
    request = detector_api.LinkAccountRequest(
        subscriber_id=subscriber_id,
        request_id=secrets.token_hex(16),
        platform=platform,
        handle=name,
        warn_about_others=others,
    )
    answer = await once_consented(lambda: _stub(services, subscriber_id).link_account(request))
    return present(answer.account).account_id


async def account_list(home: Home, options: argparse.Namespace) -> int:
    """Lists linked accounts."""
    async with connections(home) as services:
        stub = _stub(services, options.subscriber)

        async def page(token: str) -> tuple[list[detector_api.LinkedAccount], str]:
            answer = await stub.list_linked_accounts(
                detector_api.ListLinkedAccountsRequest(subscriber_id=options.subscriber, page_token=token)
            )
            return answer.accounts, answer.next_page_token

        found = await everything(page)
    rows = [
        [each.account_id, each.platform, each.masked_handle, "others too" if each.warn_about_others else ""]
        for each in found
    ]
    print_rows(options, [each.to_dict() for each in found], ["account", "platform", "name", ""], rows)
    return 0


async def account_unlink(home: Home, options: argparse.Namespace) -> int:
    """Unlinks an account."""
    async with connections(home) as services:
        request = detector_api.UnlinkAccountRequest(subscriber_id=options.subscriber, account_id=options.account)
        await _stub(services, options.subscriber).unlink_account(request)
    print_rows(options, {"unlinked": options.account}, ["unlinked"], [[options.account]])
    return 0


async def upload_check(home: Home, options: argparse.Namespace) -> int:
    """Checks a picture, a text or both before they are uploaded."""
    image = read_file(Path(options.picture)) if options.picture else b""
    async with connections(home) as services:
        request = detector_api.CheckUploadRequest(
            subscriber_id=options.subscriber,
            request_id=secrets.token_hex(16),
            account_id=options.account,
            image=image,
            text=options.text,
        )
        answer = await _stub(services, options.subscriber).check_upload(request)
    rows = [_finding_row(each) for each in answer.findings]
    if not options.json:
        print(f"check {answer.upload_check_id}: {name_of(answer.severity)}, {name_of(answer.suggested_action)}")
    print_rows(options, answer.to_dict(), ["what", "where", "place", "severity"], rows)
    return 0


def _finding_row(finding: detector_api.UploadFinding) -> Row:
    if finding.you or finding.another_person:
        what = "you" if finding.you else "a child" if finding.child else "another person"
    else:
        what = name_of(finding.kind)
    return [what, finding.field, " ".join(map(str, finding.region)), name_of(finding.severity)]


async def upload_resolve(home: Home, options: argparse.Namespace) -> int:
    """Says what becomes of a checked upload; for blur the same content again, the result goes into a file."""
    image = read_file(Path(options.picture)) if options.picture else b""
    async with connections(home) as services:
        request = detector_api.ResolveUploadRequest(
            subscriber_id=options.subscriber,
            upload_check_id=options.check,
            choice=detector_api.UploadChoice.from_string(options.choice.upper()),
            image=image,
            text=options.text,
        )
        answer = await _stub(services, options.subscriber).resolve_upload(request)
    if answer.redacted_image:
        Path(options.out).write_bytes(answer.redacted_image)
    facts = {"choice": name_of(answer.choice), "file": options.out if answer.redacted_image else ""}
    facts["text"] = answer.redacted_text
    print_rows(options, facts, list(facts), [list(facts.values())])
    return 0


async def upload_report(home: Home, options: argparse.Namespace) -> int:
    """UserActionOutcomeReport of the last days."""
    end = datetime.now(UTC)
    async with connections(home) as services:
        stub = services.stub("gate", gate_api.GateServiceStub, staff("OPERATOR", "AUDIT"))
        request = gate_api.ReportUserActionsRequest(start_time=end - timedelta(days=options.days), end_time=end)
        answer = await stub.report_user_actions(request)
    headings = ["by", "what", "shown", "blurred", "cancelled", "went on", "no answer", "open"]
    rows = [_counts_row(each) for each in [present(answer.total), *answer.rows]]
    facts = {"report": "UserActionOutcomeReport", "period": f"{options.days} days"} | answer.to_dict()
    print_rows(options, facts, headings, rows)
    return 0


def _counts_row(counts: gate_api.UserActionCounts) -> Row:
    numbers = (counts.shown, counts.blurred, counts.cancelled, counts.went_on, counts.no_answer, counts.open)
    return [counts.dimension, counts.name, *numbers]


async def redaction_audit(home: Home, options: argparse.Namespace) -> int:
    """RedactionAuditReport: what the log of a case says was covered, proved again on the stored result. 1 when not."""
    async with connections(home) as services:
        found = await _blurs(services, options.case)
        if not found:
            raise CannotDo("The log of this case tells of no redaction.")
        stub = services.stub("detector", detector_api.UploadServiceStub, staff("AUDITOR", "AUDIT"))
        answers = [await stub.audit_redaction(detector_api.AuditRedactionRequest(record=record)) for record in found]
    rows = [[each.upload_check_id, seen.name, seen.outcome, seen.detail] for each in answers for seen in each.checks]
    reports = [_report(options.case, record, answer) for record, answer in zip(found, answers, strict=True)]
    print_rows(options, reports, ["check", "what", "outcome", "seen"], rows)
    return 0 if all(answer.proved for answer in answers) else 1


def _report(
    case_id: str, record: log_api.BlurApplyLog, answer: detector_api.AuditRedactionResponse
) -> dict[str, object]:
    """What was done, from the log alone; and what was seen now."""
    return {
        "report": "RedactionAuditReport",
        "case_id": case_id,
        "upload_check_id": record.upload_check_id,
        "done": record.to_dict(),
        "proved": answer.proved,
        "checks": [check.to_dict() for check in answer.checks],
        "create_time": time_of(answer.create_time),
    }


async def _blurs(services: Connections, case_id: str) -> Sequence[log_api.BlurApplyLog]:
    stub = services.stub("case", case_api.CaseServiceStub, staff("AUDITOR", "AUDIT"))

    async def page(token: str) -> tuple[list[case_api.CaseLogEntry], str]:
        request = case_api.ListCaseLogRequest(case_id=case_id, page_size=PAGE, page_token=token)
        answer = await stub.list_case_log(request)
        return answer.entries, answer.next_page_token

    bodies = [which_one_of(entry.record, "body")[1] for entry in await everything(page) if entry.record is not None]
    return [body for body in bodies if isinstance(body, log_api.BlurApplyLog)]
