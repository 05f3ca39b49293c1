"""What does each command of `jikimi review` do?"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from jikimi_client.misuse.case import v1 as case_api
from services.console.client import Connections, connections, staff
from services.console.home import Home
from services.console.output import PAGE, CannotDo, Row, everything, present, print_rows, time_of

LABELS = {
    "match": case_api.Label.from_string("MATCH"),
    "no-match": case_api.Label.from_string("NO_MATCH"),
    "unsure": case_api.Label.from_string("UNSURE"),
}
HEADINGS = ["id", "what", "came in", "leased until"]


def _stub(services: Connections, options: argparse.Namespace) -> case_api.ReviewServiceStub:
    return services.stub("case", case_api.ReviewServiceStub, staff("REVIEWER", "REVIEW", options.who))


async def review_lease(home: Home, options: argparse.Namespace) -> int:
    """Leases items to a reviewer."""
    async with connections(home) as services:
        request = case_api.LeaseReviewItemsRequest(max_items=options.most)
        items = (await _stub(services, options).lease_review_items(request)).items
    print_rows(options, [_facts(item) for item in items], HEADINGS, [_row(item) for item in items])
    return 0


async def review_show(home: Home, options: argparse.Namespace) -> int:
    """Saves what there is to see of an item, candidate and reference beside each other, and prints the text."""
    async with connections(home) as services:
        request = case_api.GetReviewItemRequest(review_item_id=options.item)
        item = present((await _stub(services, options).get_review_item(request)).item)
    files = _save(item, Path(options.out or f"review-{item.review_item_id}"))
    facts = {**_facts(item), "masked_text": item.masked_text, "files": [str(file) for file in files]}
    rows: list[Row] = [[name, value] for name, value in facts.items() if value not in ("", []) and name != "files"]
    rows += [["file", file] for file in files]
    print_rows(options, facts, ["", "what there is to see"], rows)
    return 0


def _save(item: case_api.ReviewItem, folder: Path) -> list[Path]:
    pictures = {
        "candidate.jpg": item.candidate_crop,
        "reference.jpg": item.template_crop,
        "thumbnail.jpg": item.redacted_thumbnail,
    }
    there = {name: content for name, content in pictures.items() if content}
    try:
        if there:
            # Faces of people: for nobody else on this machine.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in there.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise CannotDo(f"{folder} cannot be written ({type(error).__name__}).") from None
    return [folder / name for name in there]


async def review_label(home: Home, options: argparse.Namespace) -> int:
    """Gives a blind label."""
    async with connections(home) as services:
        request = case_api.SubmitLabelRequest(
            review_item_id=options.item, request_id=secrets.token_hex(16), label=LABELS[options.label]
        )
        answer = await _stub(services, options).submit_label(request)
    return _said(options, answer.case_id)


async def review_disagreements(home: Home, options: argparse.Namespace) -> int:
    """Lists what waits for a third person, who may be the caller."""
    async with connections(home) as services:
        stub = _stub(services, options)

        async def page(token: str) -> tuple[list[case_api.ReviewItem], str]:
            answer = await stub.list_disagreements(
                case_api.ListDisagreementsRequest(page_size=PAGE, page_token=token)
            )
            return answer.items, answer.next_page_token

        items = await everything(page)
    rows = [[item.review_item_id, time_of(item.create_time)] for item in items]
    print_rows(options, [_facts(item) for item in items], ["id", "came in"], rows)
    return 0


async def review_queue(home: Home, options: argparse.Namespace) -> int:
    """Shows what waits for people, and for how long. Exit 1 where something is overdue."""
    async with connections(home) as services:
        stub = services.stub("case", case_api.ReviewServiceStub, staff("OPERATOR", "REVIEW"))
        queues = (await stub.get_review_queue(case_api.GetReviewQueueRequest())).queues
    rows = [
        [q.name, q.waiting, q.leased, q.disputed, q.overdue, time_of(q.first_due_time), q.most_escalations]
        for q in queues
    ]
    headings = ["queue", "waiting", "leased", "disputed", "overdue", "first due", "most escalations"]
    print_rows(options, [queue.to_dict() for queue in queues], headings, rows)
    return 1 if any(queue.overdue for queue in queues) else 0


async def review_adjudicate(home: Home, options: argparse.Namespace) -> int:
    """Decides as a third person."""
    async with connections(home) as services:
        request = case_api.AdjudicateLabelRequest(
            review_item_id=options.item, request_id=secrets.token_hex(16), label=LABELS[options.label]
        )
        answer = await _stub(services, options).adjudicate_label(request)
    return _said(options, answer.case_id)


def _said(options: argparse.Namespace, case_id: str) -> int:
    facts = {"id": options.item, "label": options.label, "case": case_id}
    print_rows(options, facts, list(facts), [list(facts.values())])
    return 0


def _facts(item: case_api.ReviewItem) -> dict[str, object]:
    """An item for programs, without its pictures."""
    return {
        "review_item_id": item.review_item_id,
        "decision_id": item.decision_id,
        "what": _what(item),
        "create_time": item.create_time.isoformat() if item.create_time else "",
        "lease_expire_time": item.lease_expire_time.isoformat() if item.lease_expire_time else "",
        "policy_version": item.policy_version,
    }


def _row(item: case_api.ReviewItem) -> Row:
    return [item.review_item_id, _what(item), time_of(item.create_time), time_of(item.lease_expire_time)]


def _what(item: case_api.ReviewItem) -> str:
    """What there is to see."""
    there = {
        "face": item.candidate_crop or item.template_crop,
        "picture": item.redacted_thumbnail,
        "text": item.masked_text,
    }
    return ", ".join(name for name, content in there.items() if content)
