"""How are captures fetched from the detector?"""

from __future__ import annotations

from collections.abc import Callable, Collection

import grpc.aio

from misuse.common.v1.access_pb2 import Purpose
from misuse.detector.v1.signal_service_pb2 import GetCaptureRequest, ReleaseCaptureRequest
from misuse.detector.v1.signal_service_pb2_grpc import SignalServiceStub
from services.chassis.errors import NotFound
from services.chassis.rpc import unwrap

_RELEASED_AT_ONCE = 200


class DetectorCaptures:
    """The `Captures` over the detector's RPC. `stub` gives a stub for a purpose."""

    def __init__(self, stub: Callable[[Purpose.ValueType], SignalServiceStub]) -> None:
        self._stub = stub

    async def fetch(self, decision_id: str, purpose: Purpose.ValueType) -> bytes | None:
        """See `Captures`. Raises the ServiceError of the detector."""
        try:
            request = GetCaptureRequest(decision_id=decision_id)
            # Our generated stubs carry synchronous types; the channel is grpc.aio's.
            answer = await self._stub(purpose).GetCapture(request)  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            known = unwrap(error)
            if isinstance(known, NotFound):
                return None
            raise known from None
        content: bytes = answer.capture.SerializeToString(deterministic=True)
        return content

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
