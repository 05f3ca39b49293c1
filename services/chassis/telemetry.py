"""What does this process tell about itself, and how does it keep quiet about people?

Traces go out by OTLP when an endpoint is set; the `traceparent` travels in any case, over gRPC and over the
bus. Metrics lie on a Prometheus page. Logs are one JSON object a line on standard error.

Nothing here prints text that somebody else wrote: exceptions are shown by type and frames, libraries' log
lines by where they were written, and a string value passes only when it looks like an id, a code or a number
that is no personal one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import TracebackType
from typing import Literal

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from prometheus_client import start_http_server

from services.chassis.config import Config
from services.chassis.errors import ServiceError

Scalar = bool | int | float | str | None

STAGE_EDGES_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
"""Histogram edges in seconds. 300 is an edge because a release gate asks for the share within five minutes.
"""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/\[\]+-]{0,160}")
_OPAQUE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|[0-9a-f]{32,128}"  # a hash or a trace id
    r"|\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"  # a time
)
_PERSONAL = re.compile(
    r"(?<!\d)\d{6}[-.]?\d{7}(?!\d)"  # a resident number
    r"|(?<!\d)(\+?82[-.]?)?0?1[016789][-.]?\d{3,4}[-.]?\d{4}(?!\d)"  # a mobile number
    r"|(?<!\d)0\d{1,2}[-.]\d{3,4}[-.]\d{4}(?!\d)"  # a landline
    r"|(?<!\d)(\d{4}[-.]?){3}\d{1,7}(?!\d)"  # a card
    r"|://"
)


# --- traces ---


@dataclass(frozen=True)
class Telemetry:
    """The running exporters of this process."""

    tracing: bool
    """Whether spans are recorded and exported."""
    _tracer_provider: TracerProvider
    _meter_provider: MeterProvider | None

    @classmethod
    def start(cls, config: Config, *, span_exporter: SpanExporter | None = None) -> Telemetry:
        """Starts logs, traces and metrics for the process; once, at start. `span_exporter` replaces OTLP in
        tests.
        """
        start_logging(config.service)
        resource = Resource.create({"service.name": config.service, "service.namespace": "misuse"})
        exporter = span_exporter or _otlp(config.otlp_endpoint)
        provider = TracerProvider(
            resource=resource, sampler=ParentBased(ALWAYS_ON) if exporter else ALWAYS_OFF
        )
        if exporter:
            provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        trace.set_tracer_provider(provider)
        meters = _serve_metrics(config, resource) if config.metrics_port else None
        return cls(exporter is not None, provider, meters)

    def stop(self) -> None:
        """Sends what is left and stops the exporters; blocks for a few seconds at most."""
        self._tracer_provider.shutdown()
        if self._meter_provider is not None:
            self._meter_provider.shutdown()


@cache
def tracer() -> trace.Tracer:
    """The tracer of this process; nothing is recorded until `Telemetry.start` finds an endpoint."""
    return trace.get_tracer("services")


@cache
def meter() -> metrics.Meter:
    """The meter of this process. Labels hold codes and names only, never ids or input."""
    return metrics.get_meter("services")


def inject_traceparent() -> str:
    """The current span as a W3C `traceparent`; empty outside of a trace."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@contextmanager
def span_from(
    traceparent: str,
    name: str,
    attributes: Mapping[str, Scalar] | None = None,
    kind: SpanKind = SpanKind.CONSUMER,
) -> Iterator[Span]:
    """A span whose parent came with a message or a call; a garbled or empty `traceparent` starts a new trace.

    Attributes are cleaned like log values. An exception marks the span with its type; its words are not
    recorded.
    """
    parent = trace.set_span_in_context(NonRecordingSpan(_parse_traceparent(traceparent)))
    clean = {
        key: value for key, item in (attributes or {}).items() if (value := clean_value(item)) is not None
    }
    with tracer().start_as_current_span(
        name, parent, kind, clean, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", _error_name(error))
            raise


def _parse_traceparent(text: str) -> SpanContext:
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return trace.INVALID_SPAN_CONTEXT
    flags = TraceFlags(int(match[3], 16))
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)


def _otlp(endpoint: str) -> SpanExporter | None:
    if not endpoint:
        return None
    return OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=5)


# --- metrics ---


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measures one stage of the work, failures included, into the histogram `jikimi_stage_seconds`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        observe_stage(name, time.perf_counter() - start)


def observe_stage(name: str, seconds: float) -> None:
    """Adds one duration that was measured elsewhere, for example between two stored times."""
    _stage_histogram().record(seconds, {"stage": name})


@cache
def _stage_histogram() -> metrics.Histogram:
    return meter().create_histogram(
        "jikimi_stage_seconds",
        unit="s",
        description="Time of one stage of the work.",
        explicit_bucket_boundaries_advisory=STAGE_EDGES_S,
    )


def _serve_metrics(config: Config, resource: Resource) -> MeterProvider:
    provider = MeterProvider(metric_readers=[PrometheusMetricReader()], resource=resource)
    metrics.set_meter_provider(provider)
    start_http_server(config.metrics_port, addr=config.metrics_host)
    return provider


# --- logs ---


class Logger:
    """Writes events with values, one JSON object a line."""

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)

    def debug(self, event: str, **values: object) -> None:
        """For one who looks for a bug."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Something happened as it should."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Something went wrong and was dealt with."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Something went wrong and somebody should look. `error=exception` shows its type and frames."""
        self._write(logging.ERROR, event, values)

    def _write(self, level: int, event: str, values: Mapping[str, object]) -> None:
        if self._log.isEnabledFor(level):
            self._log.log(level, event, extra={"jikimi": values})


def logger(name: str) -> Logger:
    """A logger for a module: `log = logger(__name__)`, `log.info("case_opened", case_id=case_id)`."""
    return Logger(name)


def start_logging(service: str, level: Literal["DEBUG", "INFO"] = "INFO") -> None:
    """Sends every log line of the process, libraries' included, to standard error as clean JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine(service))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("services").setLevel(level)
    logging.captureWarnings(True)
    _quiet_hooks()


def _quiet_hooks() -> None:
    """What nobody caught is shown like everything else: python's own hooks print the exception's words."""
    log = logger("services")

    def uncaught(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
        log.error("uncaught", error=error)

    sys.excepthook = uncaught
    threading.excepthook = lambda args: log.error("thread_failed", error=args.exc_value)
    sys.unraisablehook = lambda args: log.error("unraisable", error=args.exc_value)


class JsonLine(logging.Formatter):
    """One clean JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record without any text that may quote input."""
        values: Mapping[str, object] | None = getattr(record, "jikimi", None)
        line: dict[str, object] = {
            "time":
            f"{datetime.fromtimestamp(record.created).astimezone().isoformat(timespec='milliseconds')}",
            "level": record.levelname, "service": self._service, "logger": record.name,
            # A library's message may quote input: its place in the source says as much to one who looks.
            "event": record.msg
            if values is not None
            else f"{record.module}.{record.funcName}:{record.lineno}",
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
        for key, value in (values or {}).items():
            line.update(_fields(key, value))
        if record.exc_info and record.exc_info[1] is not None:
            line.update(_fields("error", record.exc_info[1]))
        return json.dumps(line, ensure_ascii=True)


def clean_value(value: object) -> Scalar:
    """The value if it is safe to show, else a note of what it was: `<str 14>`, `<dict>`."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value if _is_safe(value) else f"<str {len(value)}>"
    return f"<{type(value).__name__}>"


def _is_safe(text: str) -> bool:
    return bool(_OPAQUE.fullmatch(text)) or bool(_PLAIN.fullmatch(text) and not _PERSONAL.search(text))


def _fields(key: str, value: object) -> dict[str, object]:
    if not isinstance(value, BaseException):
        return {key: clean_value(value)}
    return {key: _error_name(value), f"{key}_frames": _frames(value)}


def _error_name(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{name}({error.reason})" if isinstance(error, ServiceError) else name


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, the innermost last, without source lines and without words."""
    stack = traceback.extract_tb(error.__traceback__)[-12:]
    cause = error.__cause__ or error.__context__
    own = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in stack]
    return own if cause is None else [*own, f"from {_error_name(cause)}", *_frames_once(cause)]


def _frames_once(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in stack]
