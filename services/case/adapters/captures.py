"""How are captures fetched from the detector?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import grpc.aio

from misuse.common.v1.access_pb2 import Purpose
from misuse.detector.v1.signal_service_pb2 import GetCaptureRequest, ReleaseCaptureRequest
from misuse.detector.v1.signal_service_pb2_grpc import SignalServiceStub
from services.chassis.errors import NotFound
from services.chassis.rpc import unwrap
from services.chassis.together import Piece, Together

_FETCHED_AT_ONCE, _RELEASED_AT_ONCE = 32, 200


class DetectorCaptures:
    """The `Captures` over the detector's RPC. `stub` gives a stub for a purpose."""

    def __init__(self, stub: Callable[[Purpose.ValueType], SignalServiceStub]) -> None:
        self._stub = stub
        # What is fetched at the same time for one purpose shares calls.
        self._asked: dict[Purpose.ValueType, Together[str]] = defaultdict(lambda: Together(most=_FETCHED_AT_ONCE))

    async def fetch(self, decision_id: str, purpose: Purpose.ValueType) -> bytes | None:
        """See `Captures`. Raises the ServiceError of the detector."""

        async def fetch_all(pieces: Sequence[Piece[str]], _: bool) -> list[bytes | None]:
            return await self._fetch([piece.item for piece in pieces], purpose)

        return await self._asked[purpose](decision_id, fetch_all)

    async def _fetch(self, decision_ids: Sequence[str], purpose: Purpose.ValueType) -> list[bytes | None]:
        found = await self._call(decision_ids, purpose)
        if len(decision_ids) > 1:
            # What is gone is asked for alone: a detector of the release before knows nothing of further ones.
            for missing in set(decision_ids) - found.keys():
                found |= await self._call([missing], purpose)
        return [found.get(decision_id) for decision_id in decision_ids]

    async def _call(self, decision_ids: Sequence[str], purpose: Purpose.ValueType) -> dict[str, bytes]:
        first, *further = dict.fromkeys(decision_ids)
        try:
            request = GetCaptureRequest(decision_id=first, further_decision_ids=further)
            # Our generated stubs carry synchronous types; the channel is grpc.aio's.
            answer = await self._stub(purpose).GetCapture(request)  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            known = unwrap(error)
            if isinstance(known, NotFound):
                return {}
            raise known from None
        captures = [*([answer.capture] if answer.HasField("capture") else []), *answer.further_captures]
        return {capture.decision_id: capture.SerializeToString(deterministic=True) for capture in captures}

    async def release(self, decision_ids: Collection[str], purpose: Purpose.ValueType) -> None:
        """See `Captures`. A copy that is gone already is as good."""
        ids = sorted(decision_ids)
        for start in range(0, len(ids), _RELEASED_AT_ONCE):
            first, *further = ids[start : start + _RELEASED_AT_ONCE]
            try:
                request = ReleaseCaptureRequest(decision_id=first, further_decision_ids=further)
                await self._stub(purpose).ReleaseCapture(request)  # type: ignore[misc] # see fetch
            except grpc.aio.AioRpcError as error:
                known = unwrap(error)
                if not isinstance(known, NotFound):
                    raise known from None
