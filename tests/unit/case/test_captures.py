"""How captures are fetched from the detector: together where they are asked for together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from misuse.common.v1.access_pb2 import PURPOSE_CASE_HANDLING
from misuse.detector.v1.signal_service_pb2 import Capture, GetCaptureRequest, GetCaptureResponse
from misuse.detector.v1.signal_service_pb2_grpc import (
    SignalServiceServicer,
    SignalServiceStub,
    add_SignalServiceServicer_to_server,
)
from services.case.adapters.captures import DetectorCaptures
from services.chassis.errors import NotFound, ServiceError, Unavailable
from services.chassis.server import to_status


class Detector(SignalServiceServicer):
    """Hands out captures as the detector does; one of the release before reads the first id alone."""

    def __init__(self, *kept: str, knows_further: bool = True) -> None:
        self.kept = kept
        self.knows_further = knows_further
        self.away = False
        self.calls: list[int] = []

    async def GetCapture(self, request: GetCaptureRequest, context: Any) -> GetCaptureResponse:
        further = request.further_decision_ids if self.knows_further else ()
        self.calls.append(1 + len(further))
        if self.away:
            await context.abort_with_status(to_status(Unavailable("AWAY", "The detector is away."), "detector"))
        if request.decision_id not in self.kept and not further:
            await context.abort_with_status(to_status(NotFound("NO_SUCH_CAPTURE", "It is gone."), "detector"))
        left = [Capture(decision_id=each) for each in further if each in self.kept]
        answer = GetCaptureResponse(further_captures=left)
        if request.decision_id in self.kept:
            answer.capture.decision_id = request.decision_id
        return answer


@asynccontextmanager
async def fetching(detector: Detector) -> AsyncIterator[DetectorCaptures]:
    """Captures of a detector that serves on loopback."""
    server = grpc.aio.server()
    add_SignalServiceServicer_to_server(detector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = SignalServiceStub(channel)
        yield DetectorCaptures(lambda _: stub)
    await server.stop(None)


async def fetched(captures: DetectorCaptures, *decision_ids: str) -> list[str | None]:
    """Whose captures came, fetched at the same time."""
    found = await asyncio.gather(*(captures.fetch(each, PURPOSE_CASE_HANDLING) for each in decision_ids))
    return [None if each is None else Capture.FromString(each).decision_id for each in found]


async def test_what_is_fetched_at_the_same_time_shares_calls():
    names = [f"d{number}" for number in range(60)]
    detector = Detector(*names)
    async with fetching(detector) as captures:
        assert names == await fetched(captures, *names)
    assert 60 == sum(detector.calls) and len(detector.calls) <= 3


async def test_what_is_gone_is_absent_and_the_others_come():
    async with fetching(Detector("a", "c", "d")) as captures:
        assert ["a", None, "c", "d", None] == await fetched(captures, "a", "b", "c", "d", "e")
        assert [None] == await fetched(captures, "b")


async def test_of_a_detector_of_the_release_before_nothing_is_taken_for_gone():
    detector = Detector("a", "b", "c", knows_further=False)
    async with fetching(detector) as captures:
        assert ["a", "b", "c", None] == await fetched(captures, "a", "b", "c", "d")


async def test_while_the_detector_is_away_nothing_is_taken_for_gone():
    detector = Detector("a", "b", "c")
    detector.away = True
    async with fetching(detector) as captures:
        with pytest.raises(ServiceError):
            await fetched(captures, "a", "b", "c")
