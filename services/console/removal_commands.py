"""What does each command of `jikimi removal` that people decide with do?"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from jikimi_client.misuse.removal import v1 as removal_api
from services.console.client import Connections, connections, staff, subscriber
from services.console.home import Home
from services.console.output import PAGE, everything, name_of, present, print_rows, time_of

FEW = 5
"""Smaller numbers are not told to the public: with few requests a number may point at a person."""


def _stub(services: Connections, who: str = "console") -> removal_api.RemovalServiceStub:
    return services.stub("removal", removal_api.RemovalServiceStub, staff("OPERATOR", "REMOVAL", who))


async def removal_replies(home: Home, options: argparse.Namespace) -> int:
    """Lists replies of platforms that a person has to read. Personal data."""
    async with connections(home) as services:
        stub = _stub(services)

        async def page(token: str) -> tuple[list[removal_api.PlatformReply], str]:
            request = removal_api.ListPlatformRepliesRequest(page_size=PAGE, page_token=token)
            answer = await stub.list_platform_replies(request)
            return answer.replies, answer.next_page_token

        replies = await everything(page)
    rows = [[r.reply_id, r.removal_request_id, r.platform, r.outcome, time_of(r.receive_time), r.text] for r in replies]
    headings = ["id", "request", "platform", "outcome", "came", "text"]
    print_rows(options, [reply.to_dict() for reply in replies], headings, rows)
    return 0


async def removal_review(home: Home, options: argparse.Namespace) -> int:
    """Says, as one of two people, whether a request of possible public interest may be filed."""
    async with connections(home) as services:
        answer = await _stub(services, options.reviewer).review_removal_request(
            removal_api.ReviewRemovalRequestRequest(
                removal_request_id=options.request, approve=options.decision == "approve"
            )
        )
    made = present(answer.removal_request)
    facts = {"request": made.removal_request_id, "state": name_of(made.state), "approvals": answer.approvals}
    print_rows(options, facts, list(facts), [list(facts.values())])
    return 0


async def removal_hold(home: Home, options: argparse.Namespace) -> int:
    """Stops the queue of a platform."""
    async with connections(home) as services:
        request = removal_api.HoldPlatformRequest(platform=options.platform, reason=options.reason)
        answer = await _stub(services).hold_platform(request)
    print_rows(options, answer.to_dict(), ["platform", "held"], [[options.platform, answer.held]])
    return 0


async def removal_release(home: Home, options: argparse.Namespace) -> int:
    """Says, as one of two people, that the queue of a platform may go on."""
    async with connections(home) as services:
        request = removal_api.ReleasePlatformRequest(platform=options.platform)
        answer = await _stub(services, options.reviewer).release_platform(request)
    rows = [[options.platform, answer.held or "nothing", answer.approvals]]
    print_rows(options, answer.to_dict(), ["platform", "held by", "approvals"], rows)
    return 0


async def removal_package(home: Home, options: argparse.Namespace) -> int:
    """Shows what the subscriber needs to file a request by their own hand. Personal data."""
    async with connections(home) as services:
        stub = services.stub("removal", removal_api.RemovalServiceStub, subscriber(options.subscriber))
        package = await stub.get_filing_package(
            removal_api.GetFilingPackageRequest(removal_request_id=options.request)
        )
    steps = [[str(number), step] for number, step in enumerate(package.steps, 1)]
    links = [[link.title, link.url] for link in package.links]
    bodies = [[body.display_name, link.url] for body in package.fallbacks for link in body.links]
    texts = [["subject", package.subject], ["text", package.body]]
    print_rows(options, package.to_dict(), ["", "what to do"], [*steps, *links, *bodies, *texts])
    return 0


async def removal_transparency(home: Home, options: argparse.Namespace) -> int:
    """Lists what was asked of platforms and what came of it. Numbers below five are shown as such; `--json` has all."""
    last = options.last or f"{datetime.now(UTC):%Y-%m}"
    async with connections(home) as services:
        request = removal_api.ListTransparencyCountsRequest(first_month=options.first or _a_year(last), last_month=last)
        counts = (await _stub(services).list_transparency_counts(request)).counts
    rows = [[c.month, c.platform, c.what, c.reason, c.number if c.number >= FEW else f"<{FEW}"] for c in counts]
    print_rows(options, [count.to_dict() for count in counts], ["month", "platform", "what", "reason", "number"], rows)
    return 0


def _a_year(last: str) -> str:
    """The first of twelve months; a month that is malformed stays for the service to refuse."""
    year, _, month = last.partition("-")
    if not (year.isdigit() and month.isdigit()):
        return last
    number = 12 * int(year) + int(month) - 12
    return f"{number // 12:04d}-{number % 12 + 1:02d}"
