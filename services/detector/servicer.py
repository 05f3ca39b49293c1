"""How the detector's contract is answered: RPC in, handler, RPC out; nothing is decided here."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import calibration_service_pb2 as calibration
from misuse.detector.v1 import calibration_service_pb2_grpc as calibration_grpc
from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import channel_service_pb2_grpc as channels_grpc
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import enrollment_service_pb2_grpc as enrolment_grpc
from misuse.detector.v1 import signal_service_pb2 as signals
from misuse.detector.v1 import signal_service_pb2_grpc as signals_grpc
from misuse.detector.v1 import upload_service_pb2 as uploads
from misuse.detector.v1 import upload_service_pb2_grpc as uploads_grpc
from services.chassis.clock import Clock
from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    ServiceError,
)
from services.chassis.ids import parse_uuid
from services.chassis.telemetry import inject_traceparent
from services.detector.domain.liveness import PASSED
from services.detector.domain.reports import NEXT_STEPS
from services.detector.domain.signals import Refused, usable_id
from services.detector.handlers.calibrating import Calibrating
from services.detector.handlers.enrolling import Enrolling
from services.detector.handlers.intake import Counter, Incoming, Outcome
from services.detector.handlers.proving import Challenging, Devices
from services.detector.handlers.scanning import Scanning
from services.detector.handlers.serving import Looking, Watching
from services.detector.handlers.sightings import Sightings
from services.detector.handlers.uploading import Checking, Linking
from services.detector.handlers.uploading_answers import Answering
from services.detector.translate import (
    challenge_message,
    channel_message,
    channel_of,
    signal_of,
    stamp,
    template_message,
    time_of,
    watch_message,
)
from services.detector.translate_uploads import account_message, audit_message, check_message

MOST_IN_FLIGHT = 256
MOST_FURTHER = 63
"""Signals that may follow the first of a message."""
MOST_RELEASED, MOST_CAPTURES = 256, 31
"""Further decisions of one call."""
MOST_BYTES_IN_FLIGHT = 64 * 1024 * 1024
LARGEST_PAGE, USUAL_PAGE = 100, 50


def incoming(message: signals.Signal, traceparent: str) -> Incoming:
    """A signal at the door."""
    return Incoming(signal_of(message), message.SerializeToString(), traceparent)


class SignalServicer(signals_grpc.SignalServiceServicer):
    """SignalService."""

    def __init__(self, counter: Counter, looking: Looking) -> None:
        self._counter = counter
        self._looking = looking

    async def SubmitSignal(self, request: signals.SubmitSignalRequest, context: Any) -> signals.SubmitSignalResponse:
        """See the contract."""
        outcome = await self._counter.submit(incoming(request.signal, inject_traceparent()))
        if outcome.refused is not None:
            raise _refusal(outcome.refused)
        return signals.SubmitSignalResponse(state=_state(outcome), duplicate=outcome.duplicate)

    async def SubmitSignals(
        self, request_iterator: AsyncIterator[signals.SubmitSignalsRequest], context: Any
    ) -> AsyncIterator[signals.SubmitSignalsResponse]:
        """See the contract. Reading and answering go on side by side, within what may be in flight."""
        flight = _Flight()
        reading = asyncio.create_task(self._read(request_iterator, flight))
        reading.add_done_callback(lambda _: flight.end())
        try:
            sequence = 0
            async for signal_ids, outcomes in flight.answers():
                yield _answer_of(sequence, signal_ids, outcomes)
                sequence += len(outcomes)
            await reading
        finally:
            reading.cancel()

    async def _read(self, requests: Any, flight: _Flight) -> None:
        source = aiter(requests)
        # All signals of a stream belong to its span.
        traceparent = inject_traceparent()
        while True:
            await flight.room()
            try:
                request = _bounded(await anext(source))
            except StopAsyncIteration:
                return
            except InvalidInput as error:
                # A message that cannot be taken is refused in its own answer; the stream goes on.
                nothing = Incoming(signal_of(signals.Signal()), b"", traceparent, error.reason)
                flight.add([""], 0, [self._counter.submit(nothing)])
                continue
            together = (request.signal, *request.further_signals)
            outcomes = [await self._submit(incoming(each, traceparent)) for each in together]
            flight.add([each.signal_id for each in together], request.ByteSize(), outcomes)

    async def _submit(self, waiting: Incoming) -> asyncio.Future[Outcome]:
        """Hands a signal over; where too much waits for all streams together, this stream waits."""
        while True:
            try:
                return self._counter.submit(waiting)
            except ResourceExhausted:
                await asyncio.sleep(0.02)

    async def GetSignalStatus(
        self, request: signals.GetSignalStatusRequest, context: Any
    ) -> signals.GetSignalStatusResponse:
        """See the contract."""
        status = await self._looking.status(request.signal_id)
        return signals.GetSignalStatusResponse(
            state=signals.SignalState.ValueType(status.state),
            decisions=[
                signals.DecisionSummary(
                    decision_id=decision_id, band=common.Band.ValueType(band), kind=common.MatchKind.ValueType(kind)
                )
                for decision_id, band, kind in status.decisions
            ],
        )

    async def GetCapture(self, request: signals.GetCaptureRequest, context: Any) -> signals.GetCaptureResponse:
        """See the contract."""
        first, *further = _decision_ids(request.decision_id, request.further_decision_ids, MOST_CAPTURES)
        found = await self._looking.captures([first, *further])
        if first not in found and not further:
            raise NotFound("NO_SUCH_CAPTURE", "There is no capture of this decision.")
        return signals.GetCaptureResponse(capture=found.pop(first, None), further_captures=found.values())

    async def ReleaseCapture(
        self, request: signals.ReleaseCaptureRequest, context: Any
    ) -> signals.ReleaseCaptureResponse:
        """See the contract."""
        await self._looking.release(
            _decision_ids(request.decision_id, request.further_decision_ids, MOST_RELEASED)
        )
        return signals.ReleaseCaptureResponse()


@dataclass(frozen=True, slots=True)
class _Message:
    """The signals of one message, between reading and answering."""

    signal_ids: Sequence[str]
    size: int
    outcomes: Sequence[asyncio.Future[Outcome]]


class _Flight:
    """The messages of one stream between reading and answering."""

    def __init__(self) -> None:
        self._waiting: deque[_Message] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._signals = 0
        self._bytes = 0

    def add(self, signal_ids: Sequence[str], size: int, outcomes: Sequence[asyncio.Future[Outcome]]) -> None:
        """Notes signals of a message that wait for their commit."""
        usable = [signal_id if usable_id(signal_id) else "" for signal_id in signal_ids]
        self._waiting.append(_Message(usable, size, outcomes))
        self._signals += len(outcomes)
        self._bytes += size
        self._changed.set()

    def end(self) -> None:
        """Notes that no more signals come."""
        self._ended = True
        self._changed.set()

    async def room(self) -> None:
        """Waits until another message may be read."""
        while self._signals >= MOST_IN_FLIGHT or self._bytes >= MOST_BYTES_IN_FLIGHT:
            self._changed.clear()
            await self._changed.wait()

    async def answers(self) -> AsyncIterator[tuple[Sequence[str], Sequence[Outcome]]]:
        """Outcomes in the order of the messages, each once its signals are committed; ends after the last one."""
        while self._waiting or not self._ended:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            first = self._waiting[0]
            yield first.signal_ids, [await outcome for outcome in first.outcomes]
            self._waiting.popleft()
            self._signals -= len(first.outcomes)
            self._bytes -= first.size
            self._changed.set()


def _decision_ids(decision_id: str, further: Sequence[str], most: int) -> list[str]:
    if len(further) > most:
        violations = [("further_decision_ids", "TOO_MANY")]
        raise InvalidInput("TOO_MANY", f"At most {most} further captures belong to one call.", violations=violations)
    asked = [("decision_id", decision_id), *(("further_decision_ids", each) for each in further)]
    return [parse_uuid(value, field) for field, value in asked]


def _bounded(request: signals.SubmitSignalsRequest) -> signals.SubmitSignalsRequest:
    if len(request.further_signals) > MOST_FURTHER:
        raise InvalidInput("TOO_MANY_SIGNALS", "At most 64 signals come in one message.")
    return request


def _answer_of(
    sequence: int, signal_ids: Sequence[str], outcomes: Sequence[Outcome]
) -> signals.SubmitSignalsResponse:
    first, *further = zip(signal_ids, outcomes, strict=True)
    return signals.SubmitSignalsResponse(
        sequence=sequence,
        signal_id=first[0],
        state=_state(first[1]),
        duplicate=first[1].duplicate,
        refusal=_refused(first[1]),
        further_answers=[
            signals.SignalAnswer(
                signal_id=signal_id, state=_state(outcome), duplicate=outcome.duplicate, refusal=_refused(outcome)
            )
            for signal_id, outcome in further
        ],
    )


def _refused(outcome: Outcome) -> signals.Refusal | None:
    refused = outcome.refused
    return signals.Refusal(reason=refused.reason, field=refused.field) if refused else None


def _state(outcome: Outcome) -> signals.SignalState.ValueType:
    return signals.SignalState.ValueType(outcome.state)


def _refusal(refused: Refused) -> ServiceError:
    violations = [(f"signal.{refused.field}" if refused.field else "signal", refused.reason)]
    if refused.reason == "SIGNAL_ID_REUSED":
        return AlreadyExists(refused.reason, "The signal id was used for other content.", violations=violations)
    if refused.reason == "SPOOL_FULL":
        return ResourceExhausted(refused.reason, "The spool is full; try later.", retry_after_ms=1000)
    return InvalidInput(refused.reason, "The signal is refused.", violations=violations)


class EnrollmentServicer(enrolment_grpc.EnrollmentServiceServicer):
    """EnrollmentService."""

    def __init__(self, enrolling: Enrolling, challenging: Challenging, devices: Devices) -> None:
        self._enrolling = enrolling
        self._challenging = challenging
        self._devices = devices

    async def EnrollFace(self, request: enrolment.EnrollFaceRequest, context: Any) -> enrolment.EnrollFaceResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        template = await self._enrolling.enrol_face(request)
        return enrolment.EnrollFaceResponse(template=template_message(template))

    async def ListFaceTemplates(
        self, request: enrolment.ListFaceTemplatesRequest, context: Any
    ) -> enrolment.ListFaceTemplatesResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        who = _subscriber(request.subscriber_id)
        found, asked = await self._enrolling.templates(who, _after(request.page_token), size)
        return enrolment.ListFaceTemplatesResponse(
            templates=[template_message(each) for each in found],
            next_page_token=_token(found[-1].template_id) if len(found) == size else "",
            needs_review_ids=asked,
        )

    async def EraseFaceTemplate(
        self, request: enrolment.EraseFaceTemplateRequest, context: Any
    ) -> enrolment.EraseFaceTemplateResponse:
        """See the contract."""
        template = await self._enrolling.erase_template(
            _subscriber(request.subscriber_id), parse_uuid(request.template_id, "template_id")
        )
        return enrolment.EraseFaceTemplateResponse(template=template_message(template))

    async def WatchIdentifier(
        self, request: enrolment.WatchIdentifierRequest, context: Any
    ) -> enrolment.WatchIdentifierResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        watch, masked = await self._enrolling.watch(request)
        return enrolment.WatchIdentifierResponse(identifier=watch_message(watch, masked))

    async def ListWatchedIdentifiers(
        self, request: enrolment.ListWatchedIdentifiersRequest, context: Any
    ) -> enrolment.ListWatchedIdentifiersResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        who = _subscriber(request.subscriber_id)
        found = await self._enrolling.watches(who, _after(request.page_token), size)
        return enrolment.ListWatchedIdentifiersResponse(
            identifiers=[watch_message(watch, masked) for watch, masked in found],
            next_page_token=_token(found[-1][0].watch_id) if len(found) == size else "",
        )

    async def UnwatchIdentifier(
        self, request: enrolment.UnwatchIdentifierRequest, context: Any
    ) -> enrolment.UnwatchIdentifierResponse:
        """See the contract."""
        watch = await self._enrolling.unwatch(
            _subscriber(request.subscriber_id), parse_uuid(request.watch_id, "watch_id")
        )
        return enrolment.UnwatchIdentifierResponse(identifier=watch_message(watch, ""))

    async def VerifyOwnership(
        self, request: enrolment.VerifyOwnershipRequest, context: Any
    ) -> enrolment.VerifyOwnershipResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        proof = await self._enrolling.verify(request)
        return enrolment.VerifyOwnershipResponse(
            state=enrolment.OwnershipState.ValueType(proof.state),
            expire_time=stamp(proof.expire_time),
            reason=proof.reason,
        )

    async def AskLivenessChallenge(
        self, request: enrolment.AskLivenessChallengeRequest, context: Any
    ) -> enrolment.AskLivenessChallengeResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        parse_uuid(request.template_id, "template_id")
        asked = await self._challenging.ask(request)
        return challenge_message(asked, self._challenging.nonce(asked))

    async def AnswerLivenessChallenge(
        self, request: enrolment.AnswerLivenessChallengeRequest, context: Any
    ) -> enrolment.AnswerLivenessChallengeResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        parse_uuid(request.challenge_id, "challenge_id")
        outcome = await self._challenging.answer(request)
        passed = outcome == PASSED
        return enrolment.AnswerLivenessChallengeResponse(passed=passed, reason="" if passed else outcome)

    async def NoteDevice(self, request: enrolment.NoteDeviceRequest, context: Any) -> enrolment.NoteDeviceResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        new, again = await self._devices.note(request)
        return enrolment.NoteDeviceResponse(new_device=new, prove_again_ids=again)

    async def ResolveDuplicateFace(
        self, request: enrolment.ResolveDuplicateFaceRequest, context: Any
    ) -> enrolment.ResolveDuplicateFaceResponse:
        """See the contract."""
        words = "The labels of the review item decide: SubmitLabel of ReviewService."
        raise FailedPrecondition("DECIDED_BY_LABELS", words, violations=[("decision_id", "DECIDED_BY_LABELS")])


class ChannelServicer(channels_grpc.ChannelServiceServicer):
    """ChannelService."""

    def __init__(self, watching: Watching, scanning: Scanning, sightings: Sightings) -> None:
        self._watching = watching
        self._scanning = scanning
        self._sightings = sightings

    async def ListChannels(self, request: channels.ListChannelsRequest, context: Any) -> channels.ListChannelsResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        found = await self._watching.page(_after(request.page_token), size)
        scans = await self._scanning.running([each.channel for each in found])
        return channels.ListChannelsResponse(
            channels=[channel_message(each, scans.get(each.channel)) for each in found],
            next_page_token=_token(found[-1].channel) if len(found) == size else "",
        )

    async def GetChannel(self, request: channels.GetChannelRequest, context: Any) -> channels.GetChannelResponse:
        """See the contract."""
        channel = await self._watching.get(_channel_id(request.channel))
        scans = await self._scanning.running([channel.channel])
        return channels.GetChannelResponse(channel=channel_message(channel, scans.get(channel.channel)))

    async def UpsertChannel(
        self, request: channels.UpsertChannelRequest, context: Any
    ) -> channels.UpsertChannelResponse:
        """See the contract."""
        try:
            wanted = channel_of(request.channel)
        except ValueError:
            bad = [("channel.level", "UNKNOWN_ENUM")]
            raise InvalidInput("UNKNOWN_ENUM", "The level is not known.", violations=bad) from None
        stored = await self._watching.put(request, wanted, time_of(request, "require_time"))
        return channels.UpsertChannelResponse(channel=channel_message(stored))

    async def PauseChannel(self, request: channels.PauseChannelRequest, context: Any) -> channels.PauseChannelResponse:
        """See the contract."""
        stored = await self._watching.pause(_channel_id(request.channel), request.paused, request.reason)
        return channels.PauseChannelResponse(channel=channel_message(stored))

    async def ScanChannel(self, request: channels.ScanChannelRequest, context: Any) -> channels.ScanChannelResponse:
        """See the contract."""
        scan = await self._scanning.ask(request, _channel_id(request.channel))
        return channels.ScanChannelResponse(
            accepted=scan.accepted,
            refused=scan.refused,
            scan_id=scan.scan_id,
            state="ENDED" if scan.ended else "REQUESTED",
            end_time=stamp(scan.end_time),
        )

    async def ReportUserSighting(
        self, request: channels.ReportUserSightingRequest, context: Any
    ) -> channels.ReportUserSightingResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        report = await self._sightings.take(request)
        return channels.ReportUserSightingResponse(
            signal_id=report.signal_id,
            state=report.state.value,
            reason=report.reason,
            next_step=NEXT_STEPS[report.state],
        )


class CalibrationServicer(calibration_grpc.CalibrationServiceServicer):
    """CalibrationService."""

    def __init__(self, calibrating: Calibrating) -> None:
        self._calibrating = calibrating

    async def EvaluateThresholds(
        self, request: calibration.EvaluateThresholdsRequest, context: Any
    ) -> calibration.EvaluateThresholdsResponse:
        """See the contract."""
        parse_uuid(request.sample_id, "sample_id")
        return calibration.EvaluateThresholdsResponse(evaluation=await self._calibrating.evaluate(request))

    async def AdoptThresholds(
        self, request: calibration.AdoptThresholdsRequest, context: Any
    ) -> calibration.AdoptThresholdsResponse:
        """See the contract."""
        if not request.HasField("change"):
            violation = ("change", "CHANGE_MISSING")
            raise InvalidInput(violation[1], "A change is wanted.", violations=[violation])
        parse_uuid(request.change.evaluation_id, "change.evaluation_id")
        return calibration.AdoptThresholdsResponse(evaluation=await self._calibrating.adopt(request))

    async def ListThresholdEvaluations(
        self, request: calibration.ListThresholdEvaluationsRequest, context: Any
    ) -> calibration.ListThresholdEvaluationsResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        before = parse_uuid(request.page_token, "page_token") if request.page_token else ""
        found = await self._calibrating.page(before, size)
        token = found[-1].evaluation_id if len(found) == size else ""
        return calibration.ListThresholdEvaluationsResponse(evaluations=found, next_page_token=token)


class UploadServicer(uploads_grpc.UploadServiceServicer):
    """UploadService."""

    def __init__(self, linking: Linking, checking: Checking, answering: Answering, clock: Clock) -> None:
        self._linking = linking
        self._checking = checking
        self._answering = answering
        self._clock = clock

    async def LinkAccount(self, request: uploads.LinkAccountRequest, context: Any) -> uploads.LinkAccountResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        return uploads.LinkAccountResponse(account=account_message(*await self._linking.link(request)))

    async def ListLinkedAccounts(
        self, request: uploads.ListLinkedAccountsRequest, context: Any
    ) -> uploads.ListLinkedAccountsResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        who = _subscriber(request.subscriber_id)
        found = await self._linking.page(who, _after(request.page_token), size)
        return uploads.ListLinkedAccountsResponse(
            accounts=[account_message(*each) for each in found],
            next_page_token=_token(found[-1][0].account_id) if len(found) == size else "",
        )

    async def UnlinkAccount(self, request: uploads.UnlinkAccountRequest, context: Any) -> uploads.UnlinkAccountResponse:
        """See the contract."""
        who = _subscriber(request.subscriber_id)
        await self._linking.unlink(who, parse_uuid(request.account_id, "account_id"))
        return uploads.UnlinkAccountResponse()

    async def CheckUpload(self, request: uploads.CheckUploadRequest, context: Any) -> uploads.CheckUploadResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        parse_uuid(request.account_id, "account_id")
        return check_message(*await self._checking.check(request, context.time_remaining()))

    async def ResolveUpload(self, request: uploads.ResolveUploadRequest, context: Any) -> uploads.ResolveUploadResponse:
        """See the contract."""
        _subscriber(request.subscriber_id)
        parse_uuid(request.upload_check_id, "upload_check_id")
        answered = await self._answering.resolve(request)
        return uploads.ResolveUploadResponse(
            redacted_image=answered.image,
            redacted_text=answered.text,
            choice=uploads.UploadChoice.ValueType(answered.choice),
        )

    async def AuditRedaction(
        self, request: uploads.AuditRedactionRequest, context: Any
    ) -> uploads.AuditRedactionResponse:
        """See the contract."""
        checks = await self._answering.audit(request.record)
        return audit_message(request.record.upload_check_id, checks, self._clock.now())


def _channel_id(text: str) -> str:
    if not usable_id(text):
        bad = [("channel", "ID_MALFORMED")]
        raise InvalidInput("ID_MALFORMED", "This is no channel id.", violations=bad)
    return text


def _subscriber(text: str) -> str:
    return parse_uuid(text, "subscriber_id")


def _page_size(wanted: int) -> int:
    if not 0 <= wanted <= LARGEST_PAGE:
        bad = [("page_size", "OUT_OF_BOUNDS")]
        raise InvalidInput("PAGE_SIZE_OUT_OF_BOUNDS", "A page has 1 to 100 rows.", violations=bad)
    return wanted or USUAL_PAGE


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _after(token: str) -> str:
    if not token:
        return ""
    try:
        position = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        position = ""
    if not usable_id(position):
        raise InvalidInput(
            "BAD_PAGE_TOKEN", "The page token is not one of ours.", violations=[("page_token", "BAD_PAGE_TOKEN")]
        )
    return position
