"""How do tests talk to the detector's real door? Plain gRPC, so that also what no client would send can be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc

from misuse.common.v1.signal_pb2 import COLLECTION_BASIS_PUBLIC_ACCESS, SOURCE_TYPE_SNS
from misuse.detector.v1 import signal_service_pb2 as api
from services.console.client import Caller, staff
from tests.scenario.system import System, reason_of

SERVICE = "/misuse.detector.v1.SignalService"
COLLECTOR = staff("COLLECTOR", "COLLECTION")
OPERATOR = staff("OPERATOR", "CASE_HANDLING")
Call = Callable[..., Any]
"""A method by its name, without generated code: raw bytes in and out."""


def signal(signal_id: str, *, text: str = "", image: bytes = b"", **changes: Any) -> api.Signal:
    """A signal that the door takes, with changes that perhaps make it one that it does not."""
    made = api.Signal(
        signal_id=signal_id,
        channel="community",
        source_type=SOURCE_TYPE_SNS,
        source_url=f"https://community.example/post/{signal_id}",
        collection_basis=COLLECTION_BASIS_PUBLIC_ACCESS,
        policy_rule_id="test",
    )
    made.discover_time.FromDatetime(datetime.now(UTC))
    if text:
        made.parts.add(text=text)
    if image:
        made.parts.add(image=image)
    for name, value in changes.items():
        if value is None:
            made.ClearField(name)  # type: ignore[arg-type] # names come from the tests
        else:
            setattr(made, name, value)
    return made


@dataclass(frozen=True)
class Door:
    """SignalService, as bytes in and bytes out."""

    system: System

    def submit(self, sent: api.Signal) -> str:
        """The state of an accepted signal by name, or the reason of its refusal."""
        return self.submit_bytes(api.SubmitSignalRequest(signal=sent).SerializeToString())

    def submit_bytes(self, body: bytes, metadata: list[tuple[str, str]] | None = None) -> str:
        """The same for a message as it is on the wire, and for other credentials."""
        call: Call = self.system.channel("detector").unary_unary(f"{SERVICE}/SubmitSignal")
        credentials = self.credentials() if metadata is None else metadata
        try:
            answer = api.SubmitSignalResponse.FromString(call(body, timeout=30, metadata=credentials))
        except grpc.RpcError as error:
            return reason_of(error)
        return api.SignalState.Name(answer.state).removeprefix("SIGNAL_STATE_")

    def stream(self, bodies: Iterable[bytes]) -> list[api.SubmitSignalsResponse]:
        """What a stream of messages is answered."""
        call: Call = self.system.channel("detector").stream_stream(f"{SERVICE}/SubmitSignals")
        answers = call(iter(bodies), timeout=60, metadata=self.credentials())
        return [api.SubmitSignalsResponse.FromString(answer) for answer in answers]

    def status(self, signal_id: str) -> api.GetSignalStatusResponse:
        """How far a signal is."""
        call: Call = self.system.channel("detector").unary_unary(f"{SERVICE}/GetSignalStatus")
        body = api.GetSignalStatusRequest(signal_id=signal_id).SerializeToString()
        return api.GetSignalStatusResponse.FromString(call(body, timeout=30, metadata=self.credentials(OPERATOR)))

    def credentials(self, caller: Caller = COLLECTOR, audience: str = "detector") -> list[tuple[str, str]]:
        """Metadata with a token."""
        return [("authorization", f"Bearer {self.system.token(caller, audience)}")]
