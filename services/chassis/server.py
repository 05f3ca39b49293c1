"""How does a service answer calls, and how does it stop?

One interceptor stands before every method but health. It reads the message, proves the actor, judges the
access rule, bounds the time, runs the handler inside a span, and turns what goes wrong into a
`google.rpc.Status` that never carries an exception's words. Handlers are coroutines (or async generators);
they raise `ServiceError` and never abort.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio
import uvloop
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped] # no stubs
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from sqlalchemy.exc import DBAPIError

from misuse.common.v1.access_pb2 import AccessRule
from services.chassis import errors
from services.chassis.access import authorise, is_exempt, rule_of
from services.chassis.config import Config, ConfigError
from services.chassis.database import is_transient
from services.chassis.errors import ServiceError
from services.chassis.metrics import histogram
from services.chassis.reads import Readings, Watch, is_noted
from services.chassis.tasks import end
from services.chassis.telemetry import Telemetry, logger, span_from
from services.chassis.tls import add_port, until_renewed
from services.chassis.tokens import Actor, Verifier, acting

log = logger(__name__)

RPC_SECONDS = histogram(
    "jikimi_rpc_server_seconds",
    "How many calls come, how do they end, how long do they take from the first byte to the status?",
    "method",
    "code",
)

UNARY_SECONDS_AT_MOST = 300.0
"""Longest answer to a single call whatever the caller's deadline."""
NOTICE_SECONDS = 0.5
"""Between the word that the server ends and its closed door: clients that watch its health turn to other instances."""
STREAM_GRACE_S = 1.0
"""How long open streams may go on once the server drains."""

Background = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""A loop beside the server (relay, consumer, due rows): runs until the event is set, then ends by itself."""
Register = Callable[[grpc.aio.Server], None]
"""Adds the service's servicers: `lambda server: add_XServicer_to_server(servicer, server)`."""
# grpc's handler and context types are generic over messages that an interceptor never knows.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Decode = Callable[[bytes], Message]
_Encode = Callable[[Message], bytes]
_Work = Callable[[Actor], Awaitable[Any]]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a service's `main()` on uvloop. Ends the process with 1 and a clean line when it fails."""
    try:
        uvloop.run(main)
    except ConfigError as error:
        raise SystemExit(f"configuration: {error}") from None
    except Exception as error:
        log.error("service_failed", error=error)
        raise SystemExit(1) from None


async def serve(
    config: Config,
    register: Register,
    *,
    telemetry: Telemetry | None = None,
    background: Sequence[Background] = (),
    ready: Callable[[], bool] | None = None,
    parts: Mapping[str, bool] | None = None,
    readings: Readings | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains: not ready → clients turn elsewhere → no new calls → finish calls →
    stop the background.

    Health answers for "" and every service name what `ready` says (default: always), and for "live" that the
    process runs; on `config.probe_listen` too, in the clear, until the drain is over.
    `parts` names what may be missing without harm to the rest, and whether it works here: health answers
    for these names too. `readings` is where readings of personal data are noted. A background loop that ends or fails
    ends the process with that error: a supervisor starts it again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    front = _Front(config, register, readings)
    await front.start()
    await front.set_parts(parts or {})
    log.info("serving", port=front.port, **{f"config_{k}": v for k, v in config.printable().items()})
    halt = asyncio.Event()
    loops = [asyncio.create_task(work(halt)) for work in background]
    renewal = asyncio.create_task(_stop_when_renewed(config, stop))
    try:
        await _watch(front, stop, loops, ready or (lambda: True))
    finally:
        await front.drain(config.drain_seconds)
        halt.set()
        await _finish(loops, config.drain_seconds)
        await end(renewal)
        await front.close()
        if telemetry is not None:
            telemetry.stop()
        log.info("stopped")


def build_server(
    config: Config, register: Register, readings: Readings | None = None
) -> tuple[grpc.aio.Server, int]:
    """The same server without signals, background and readiness, not started; for tests. Returns it with its
    port.
    """
    front = _Front(config, register, readings)
    return front.server, front.port


class _Front:
    """The gRPC server with its guard and its health."""

    def __init__(self, config: Config, register: Register, readings: Readings | None) -> None:
        self._guard = _Guard(config, Verifier(config.token_keys_dir), readings)
        self.server = grpc.aio.server(
            interceptors=[self._guard],
            maximum_concurrent_rpcs=config.max_concurrent_rpcs,
            options=[
                # Without it a second process binds the same port silently and takes half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_time_ms", 30_000),
            ],
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        self._names = _register(self.server, register)
        reflection.enable_server_reflection(
            [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server
        )
        self.port = add_port(self.server, config.listen, config.tls_dir)
        self._probed = grpc.aio.server() if config.probe_listen else None
        if self._probed is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
            self._probed.add_insecure_port(config.probe_listen)

    async def start(self) -> None:
        """Begins to answer."""
        await self.server.start()
        if self._probed is not None:
            await self._probed.start()

    async def close(self) -> None:
        """Ends what outlives the drain."""
        if self._probed is not None:
            await self._probed.stop(None)

    async def set_ready(self, ready: bool) -> None:
        """Tells the world whether to send calls here."""
        state = (
            health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, state)
        await self._health.set("live", health_pb2.HealthCheckResponse.SERVING)

    async def set_parts(self, parts: Mapping[str, bool]) -> None:
        """Tells of parts by name whether they work here; they stay as they are, and `ready` does not depend on them."""
        states = health_pb2.HealthCheckResponse
        for name, works in parts.items():
            await self._health.set(name, states.SERVING if works else states.NOT_SERVING)

    async def drain(self, seconds: float) -> None:
        """Not ready, a moment for clients to see it, no new calls; calls in flight get `seconds` to end."""
        await self.set_ready(False)
        await asyncio.sleep(NOTICE_SECONDS)
        self._guard.end_streams_soon()
        await self.server.stop(seconds)


async def _stop_when_renewed(config: Config, stop: asyncio.Event) -> None:
    """Has the process end by itself once its certificate was renewed: what starts it again reads the new one."""
    if config.tls_dir is not None:
        await until_renewed(config.tls_dir)
        log.info("certificate_renewed")
        stop.set()


def _register(server: grpc.aio.Server, register: Register) -> list[str]:
    """Runs `register` and returns the full names of the services that it added."""
    names: list[str] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return getattr(server, name)

        def add_registered_method_handlers(self, service: str, handlers: dict[str, _Handler]) -> None:
            names.append(service)
            server.add_registered_method_handlers(service, handlers)

    register(cast(grpc.aio.Server, Recorder()))
    return names


async def _watch(
    front: _Front, stop: asyncio.Event, loops: Sequence[asyncio.Task[None]], ready: Callable[[], bool]
) -> None:
    """Keeps health true to `ready` until it is time to stop. Raises what a background loop raised."""
    stopping = asyncio.create_task(stop.wait())
    shown: bool | None = None
    while not stop.is_set():
        if shown != (shown := ready()):
            await front.set_ready(shown)
        done, _ = await asyncio.wait({stopping, *loops}, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
        if ended := set(done) - {stopping}:
            stopping.cancel()
            ended.pop().result()
            raise RuntimeError("a background loop ended before the service did")


async def _finish(loops: Sequence[asyncio.Task[None]], seconds: float) -> None:
    if not loops:
        return
    _, late = await asyncio.wait(loops, timeout=seconds)
    await end(*late)
    for result in await asyncio.gather(*loops, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("background_failed", error=result)


class _Guard(grpc.aio.ServerInterceptor):
    """What stands between the wire and every handler."""

    def __init__(self, config: Config, verifier: Verifier, readings: Readings | None) -> None:
        self._readings = readings
        self._service = config.service
        self._unary_seconds = config.unary_seconds
        self._verifier = verifier
        self._guarded: dict[str, tuple[_Handler, _Handler]] = {}
        self._streams: set[asyncio.Timeout] = set()
        self._draining = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wraps the handler; an unknown method stays unknown (UNIMPLEMENTED), health stays open."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or is_exempt(method):
            return handler
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = self._guarded[method] = (handler, self._wrap(method, handler))
        return known[1]

    def end_streams_soon(self) -> None:
        """Ends open streams shortly, with an error that makes clients reconnect elsewhere."""
        self._draining = True
        end = asyncio.get_running_loop().time() + STREAM_GRACE_S
        for stream in self._streams:
            if (when := stream.when()) is None or when > end:
                stream.reschedule(end)

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        """The same method on raw bytes: grpc's own errors would quote what cannot be read or written."""
        rule = rule_of(method)
        if handler.request_streaming or handler.response_streaming:
            return self._wrap_stream(method, rule, handler)
        inner, decode, encode = _parts(handler)

        async def unary(raw: bytes, context: _Context) -> bytes:
            async def work(actor: Actor) -> bytes:
                request = _read(decode, raw)
                authorise(actor, rule, request)
                async with asyncio.timeout(_bound(context, self._unary_seconds)) as bound:
                    answer = await _answer(inner, request, context, bound)
                if (watch := self._watch(method, rule, actor, context)) is not None:
                    await watch.answered(request, answer)
                return encode(answer)

            return cast(bytes, await self._run(method, rule, context, work))

        return grpc.unary_unary_rpc_method_handler(cast(Any, unary))

    def _wrap_stream(self, method: str, rule: AccessRule | None, handler: _Handler) -> _Handler:
        inner, decode, encode = _parts(handler)

        async def stream(incoming: Any, context: _Context) -> Any:
            async def work(actor: Actor) -> Any:
                judge = partial(authorise, actor, rule)
                watch = self._watch(method, rule, actor, context)
                guarded = _StreamContext(context, incoming, decode, encode, judge, watch)
                request = guarded if handler.request_streaming else guarded.accept(incoming)
                try:
                    async with self._open(actor) as bound:
                        return await self._converse(inner, request, guarded, bound)
                finally:
                    await guarded.close()

            return await self._run(method, rule, context, work)

        make = {
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return cast("_Handler", cast(Any, make)(stream))

    def _watch(self, method: str, rule: AccessRule | None, actor: Actor, context: _Context) -> Watch | None:
        """What notes the call's readings; None where there is nothing to note."""
        if self._readings is None or rule is None or not is_noted(actor, rule):
            return None
        return Watch(self._readings, method.removeprefix("/"), rule, actor, context.peer())

    def _open(self, actor: Actor) -> _OpenStream:
        seconds = (actor.expire_time - datetime.now(UTC)).total_seconds()
        # A stream may slip in between the first word of the drain and the closed door.
        return _OpenStream(self._streams, min(seconds, STREAM_GRACE_S) if self._draining else seconds)

    async def _converse(
        self, inner: Callable[..., Any], request: Any, context: _StreamContext, bound: asyncio.Timeout
    ) -> Any:
        try:
            result = inner(request, context)
            if inspect.isasyncgen(result) or hasattr(result, "__aiter__"):
                async for answer in result:
                    await context.write(answer)
                return None
            answer = await _awaited(result)
            return None if answer is None else await context.encoded(answer)
        except asyncio.CancelledError:
            if not bound.expired():
                raise
            if self._draining:
                raise errors.Unavailable("SERVER_DRAINING", "This server stops; connect again.") from None
            raise errors.Unauthenticated("TOKEN_EXPIRED", "The token has expired.") from None

    async def _run(self, method: str, rule: AccessRule | None, context: _Context, work: _Work) -> Any:
        """Runs one call from proof to status."""
        start = time.perf_counter()
        outcome = "OK"
        token, traceparent = _credentials(context)
        span: Span = INVALID_SPAN
        try:
            with span_from(traceparent, method.removeprefix("/"), kind=SpanKind.SERVER) as span:
                actor = self._verifier.verify(token, self._service, datetime.now(UTC))
                authorise(actor, rule)
                with acting(actor):
                    return await work(actor)
        except grpc.aio.AbortError:
            outcome = "ABORTED"
            raise
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except Exception as error:
            known = _known(error, method)
            outcome = known.status
            await context.abort_with_status(to_status(known, self._service))
        finally:
            RPC_SECONDS.observe(time.perf_counter() - start, method, outcome, span=span)


class _OpenStream:
    """A bound on one stream (its token's expiry) that a drain may shorten."""

    def __init__(self, streams: set[asyncio.Timeout], seconds: float) -> None:
        self._streams = streams
        self._timeout = asyncio.timeout(max(seconds, 0.0))

    async def __aenter__(self) -> asyncio.Timeout:
        await self._timeout.__aenter__()
        self._streams.add(self._timeout)
        return self._timeout

    async def __aexit__(self, *exc: Any) -> None:
        self._streams.discard(self._timeout)
        await self._timeout.__aexit__(*exc)


class _StreamContext:
    """The context of a stream, which judges every request message and writes answers as bytes.

    It is also the handler's request iterator. A message that cannot be read or is not allowed raises from the
    iteration; who calls `anext` again after InvalidInput goes on with the next message.
    """

    def __init__(
        self,
        context: _Context,
        incoming: Any,
        decode: _Decode,
        encode: _Encode,
        judge: Callable[[Message], None],
        watch: Watch | None = None,
    ) -> None:
        self._context = context
        self._decode = decode
        self._encode = encode
        self._judge = judge
        self._watch = watch
        self._request: Message | None = None
        self._incoming = incoming
        self._reading: AsyncIterator[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def accept(self, raw: bytes) -> Message:
        """The message, if it can be read and this actor may send it."""
        request = _read(self._decode, raw)
        self._judge(request)
        self._request = request
        return request

    async def read(self) -> Any:
        """The next request message or `grpc.aio.EOF`."""
        raw = await self._context.read()
        return raw if raw is grpc.aio.EOF else self.accept(raw)

    async def write(self, answer: Message) -> None:
        """Sends one answer; waits while the client does not read."""
        await self._context.write(await self.encoded(answer))

    async def encoded(self, answer: Message) -> bytes:
        """An answer as it may leave: what it shows is noted."""
        if self._watch is not None:
            await self._watch.answered(self._request, answer)
        return self._encode(answer)

    def __aiter__(self) -> _StreamContext:
        return self

    async def __anext__(self) -> Message:
        # Begun with the first message: grpc complains about a reader that is made and never used.
        self._reading = self._reading or aiter(self._incoming)
        return self.accept(await anext(self._reading))

    async def close(self) -> None:
        """Ends the reading, unless a task of the handler still waits in it."""
        if isinstance(self._reading, AsyncGenerator):
            with suppress(RuntimeError):
                await self._reading.aclose()


def _parts(handler: _Handler) -> tuple[Callable[..., Any], _Decode, _Encode]:
    """What the servicer wrote, and how its messages are read and written."""
    kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    behaviour = next(kind for kind in kinds if kind is not None)
    decode, encode = handler.request_deserializer, handler.response_serializer
    return behaviour, cast(_Decode, decode), cast(_Encode, encode)


def _read(decode: _Decode, raw: bytes) -> Message:
    try:
        return decode(raw)
    except DecodeError:
        raise errors.InvalidInput("REQUEST_MALFORMED", "The message cannot be read.") from None


def _bound(context: _Context, seconds: float) -> float:
    """Seconds that a single call may take. grpc itself cancels at the caller's own deadline."""
    remaining = cast(float | None, context.time_remaining())
    return seconds if remaining is None else min(remaining + 1.0, UNARY_SECONDS_AT_MOST)


async def _answer(
    inner: Callable[..., Any], request: Message, context: _Context, bound: asyncio.Timeout
) -> Any:
    try:
        return await _awaited(inner(request, context))
    except asyncio.CancelledError:
        if bound.expired():
            raise errors.DeadlineExceeded("DEADLINE_EXCEEDED", "The call took longer than allowed.") from None
        raise


async def _awaited(result: Any) -> Any:
    """A handler's result. Generated bases are plain functions that raise NotImplementedError at once."""
    return await result if inspect.isawaitable(result) else result


def _credentials(context: _Context) -> tuple[str, str]:
    """The bearer token and the traceparent; empty strings where the call has none."""
    token = traceparent = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, rest = value.partition(" ")
            token = rest if scheme.lower() == "bearer" else ""
        elif key == "traceparent" and isinstance(value, str):
            traceparent = value
    return token, traceparent


def _known(error: Exception, method: str) -> ServiceError:
    """The error that the caller may see; bugs are logged here, by type and frames."""
    if isinstance(error, (errors.Unauthenticated, errors.PermissionDenied)):
        log.warning("call_refused", method=method, reason=error.reason)
        return error
    if isinstance(error, ServiceError) and not isinstance(error, errors.Internal):
        return error
    if isinstance(error, NotImplementedError):
        return errors.Unimplemented("METHOD_NOT_BUILT", "This method is not built yet.")
    if isinstance(error, DBAPIError | ConnectionError) and is_transient(error):
        log.warning("store_unreachable", method=method, error=error)
        return errors.Unavailable("STORE_UNAVAILABLE", "The store cannot be reached; try again.")
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in _PEER_TROUBLE:
        return errors.Unavailable("PEER_UNAVAILABLE", "A service behind this one does not answer.")
    log.error("call_failed", method=method, error=error)
    return errors.Internal("INTERNAL", "")


_PEER_TROUBLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def to_status(error: ServiceError, service: str) -> grpc.Status:
    """The error as a `google.rpc.Status` with ErrorInfo and, as they apply, the details of google.rpc."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=error.message)
    for detail in _details(error, service):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    answer: grpc.Status = rpc_status.to_status(status)
    return answer


def _details(error: ServiceError, service: str) -> list[Message]:
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=f"{service}.misuse", metadata=dict(error.metadata)
    )
    details: list[Message] = [info]
    if error.violations and isinstance(error, errors.FailedPrecondition):
        details.append(
            error_details_pb2.PreconditionFailure(
                violations=[{"type": v.reason, "subject": v.field} for v in error.violations]
            )
        )
    elif error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[{"field": v.field, "description": v.reason} for v in error.violations]
            )
        )
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        details.append(retry)
    return details
