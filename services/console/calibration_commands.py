"""What does each command of `jikimi calibration` do: from labels to a threshold, by way of two people?"""

from __future__ import annotations

import argparse
import base64
import binascii
import secrets

from jikimi_client.misuse.detector import v1 as api
from services.console.approval_commands import print_proposals, propose_body
from services.console.client import Connections, connections, staff
from services.console.home import Home
from services.console.output import CannotDo, Row, everything, present, print_rows, time_of

THRESHOLD = "THRESHOLD"


async def evaluate(home: Home, options: argparse.Namespace) -> int:
    """Holds a sample's labels against the scores that were kept."""
    async with connections(home) as services:
        request = api.EvaluateThresholdsRequest(sample_id=options.sample, request_id=secrets.token_hex(16))
        answer = await _stub(services, options).evaluate_thresholds(request)
    return _print(options, [present(answer.evaluation)])


async def evaluations(home: Home, options: argparse.Namespace) -> int:
    """Lists evaluations."""
    async with connections(home) as services:
        found = await _all(services, options)
    return _print(options, found)


async def propose(home: Home, options: argparse.Namespace) -> int:
    """Proposes what an evaluation called for."""
    async with connections(home) as services:
        change = await _change(services, options)
        proposal = await propose_body(services, options, THRESHOLD, bytes(change))
    return print_proposals(options, [proposal])


async def adopt(home: Home, options: argparse.Namespace) -> int:
    """Puts an evaluation's change in force from the next start, by the grant of two people."""
    try:
        grant = base64.b64decode(options.grant, validate=True)
    except binascii.Error:
        raise CannotDo("The grant is not base64.") from None
    async with connections(home) as services:
        request = api.AdoptThresholdsRequest(
            change=await _change(services, options), grant=grant, request_id=secrets.token_hex(16)
        )
        answer = await _stub(services, options).adopt_thresholds(request)
    return _print(options, [present(answer.evaluation)])


def _stub(services: Connections, options: argparse.Namespace) -> api.CalibrationServiceStub:
    return services.stub("detector", api.CalibrationServiceStub, staff("RELEASE_MANAGER", "RELEASE", options.name))


async def _all(services: Connections, options: argparse.Namespace) -> list[api.ThresholdEvaluation]:
    stub = _stub(services, options)

    async def page(token: str) -> tuple[list[api.ThresholdEvaluation], str]:
        request = api.ListThresholdEvaluationsRequest(page_token=token)
        answer = await stub.list_threshold_evaluations(request)
        return answer.evaluations, answer.next_page_token

    return await everything(page)


async def _change(services: Connections, options: argparse.Namespace) -> api.ThresholdChange:
    for each in await _all(services, options):
        if each.evaluation_id == options.evaluation:
            if each.change is None:
                raise CannotDo("The evaluation proposes nothing.")
            return each.change
    raise CannotDo("There is no such evaluation.")


def _print(options: argparse.Namespace, found: list[api.ThresholdEvaluation]) -> int:
    rows: list[Row] = [
        [
            each.evaluation_id,
            each.sample_id,
            each.outcome,
            f"{each.kept_right}/{each.kept} of {each.labels}",
            f"{each.precision_milli / 1000:.3f}",
            f"{each.change.from_milli / 1000:.3f} → {each.change.to_milli / 1000:.3f}" if each.change else "",
            "yes" if each.adopted else time_of(each.expire_time),
        ]
        for each in found
    ]
    headings = ["id", "sample", "outcome", "right", "at least", "change", "adopted, or until"]
    print_rows(options, [each.to_dict() for each in found], headings, rows)
    return 0
