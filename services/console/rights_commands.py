"""What does each command of `jikimi rights`, `access` and `rules` do?"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.ops import v1 as ops_api
from services.console.client import Connections, connections, staff
from services.console.home import SERVICES, Home
from services.console.output import PAGE, everything, name_of, print_rows, time_of

RULE_READERS = {
    "SRE": "OPERATIONS",
    "OPERATOR": "CASE_HANDLING",
    "REVIEWER": "REVIEW",
    "PRIVACY_OFFICER": "RIGHTS",
    "AUDITOR": "AUDIT",
    "RELEASE_MANAGER": "RELEASE",
}
"""Role → the purpose for which it asks for rules."""
UNAPPROVED = "NOBODY APPROVED IT"


def _stub(services: Connections) -> case_api.PrivacyServiceStub:
    return services.stub("case", case_api.PrivacyServiceStub, staff("PRIVACY_OFFICER", "RIGHTS"))


async def erase(home: Home, options: argparse.Namespace) -> int:
    """Starts the erasure of a subscriber."""
    async with connections(home) as services:
        answer = await _stub(services).erase_subscriber(
            case_api.EraseSubscriberRequest(subscriber_id=options.subscriber, request_id=secrets.token_hex(16))
        )
    rows = [[answer.erasure_id, time_of(answer.due_time)]]
    print_rows(options, answer.to_dict(), ["id", "complete by"], rows)
    return 0


async def erasures(home: Home, options: argparse.Namespace) -> int:
    """Lists erasures. Exit status 1 while one is late."""
    async with connections(home) as services:
        stub = _stub(services)

        async def page(token: str) -> tuple[list[case_api.Erasure], str]:
            answer = await stub.list_erasures(case_api.ListErasuresRequest(page_size=PAGE, page_token=token))
            return answer.erasures, answer.next_page_token

        found = await everything(page)
    rows = [
        [
            each.erasure_id,
            time_of(each.request_time),
            time_of(each.due_time),
            time_of(each.complete_time) if each.complete_time else f"round {each.round}",
            ", ".join(each.waiting_for),
            "LATE" if each.overdue else "",
        ]
        for each in found
    ]
    headings = ["id", "asked", "complete by", "complete", "waiting for", ""]
    print_rows(options, [each.to_dict() for each in found], headings, rows)
    return 1 if any(each.overdue and not each.complete_time for each in found) else 0


# --- who read what ---


async def access_list(home: Home, options: argparse.Namespace) -> int:
    """Lists readings of personal data, newest first."""
    async with connections(home) as services:
        stub = _stub(services)

        async def page(token: str) -> tuple[list[case_api.AccessEntry], str]:
            request = case_api.ListAccessLogRequest(
                subscriber_id=options.subscriber, page_size=PAGE, page_token=token
            )
            answer = await stub.list_access_log(request)
            return answer.entries, answer.next_page_token

        found = await everything(page)
    rows = [
        [
            time_of(each.occur_time),
            name_of(each.role),
            each.actor,
            name_of(each.purpose),
            each.method.rpartition("/")[2],
            f"{each.field} {each.id}".strip(),
            each.origin,
            each.reason,
        ]
        for each in found
    ]
    headings = ["time", "role", "who", "purpose", "method", "what", "from", "reason"]
    print_rows(options, [each.to_dict() for each in found], headings, rows)
    return 0


async def access_report(home: Home, options: argparse.Namespace) -> int:
    """Saves the AccessReviewReport of a month as JSON and HTML."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    async with connections(home) as services:
        for name, ending in (("JSON", "json"), ("HTML", "html")):
            wanted = case_api.AccessReportFormat.from_string(name)
            answer = await _stub(services).report_access(
                case_api.ReportAccessRequest(month=options.month, format=wanted)
            )
            file = out / f"AccessReviewReport-{options.month}.{ending}"
            file.write_bytes(answer.document)
            files.append(file)
    print_rows(options, [str(file) for file in files], ["file"], [[file] for file in files])
    return 0


# --- rules ---


async def rules_list(home: Home, options: argparse.Namespace) -> int:
    """Lists the rules of the services with their versions, and their values where the role may read them. Exit status 1
    where an operator's own file was approved by nobody."""
    found: dict[str, list[ops_api.RuleFile]] = {}
    async with connections(home) as services:
        for service in [options.service] if options.service else SERVICES:
            stub = services.stub(service, ops_api.OpsServiceStub, staff(options.role, RULE_READERS[options.role]))
            found[service] = (await stub.list_rules(ops_api.ListRulesRequest())).rules
        approved = await _approved(services)
    facts = {service: [each.to_dict() for each in files] for service, files in found.items()}
    rows = [
        [service, each.name, ", ".join(each.versions), each.sha256.hex()[:12], _from(each, approved)]
        for service, files in found.items()
        for each in files
    ]
    print_rows(options, facts, ["service", "rules", "versions", "sha256", "from"], rows)
    if options.values and not options.json:
        for service, files in found.items():
            for each in files:
                if each.text:
                    print(f"\n--- {service} {each.name} ---\n{each.text}")
    unapproved = any(_from(each, approved) == UNAPPROVED for files in found.values() for each in files)
    return 1 if unapproved else 0


async def _approved(services: Connections) -> set[bytes]:
    """Hashes of the bodies of all approved proposals."""
    stub = services.stub("case", case_api.ApprovalServiceStub, staff("AUDITOR", "AUDIT"))

    async def page(token: str) -> tuple[list[case_api.Proposal], str]:
        answer = await stub.list_proposals(case_api.ListProposalsRequest(page_size=PAGE, page_token=token))
        return answer.proposals, answer.next_page_token

    return {each.body_sha256 for each in await everything(page) if each.state == "APPROVED"}


def _from(rules: ops_api.RuleFile, approved: set[bytes]) -> str:
    if rules.shipped:
        return "the release"
    return "two people" if rules.sha256 in approved else UNAPPROVED
