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
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import start_http_server

from services.chassis.config import Config
from services.chassis.metrics import STAGE_EDGES_S, observe_stage, stage
from services.chassis.shown import clean_value, error_name
from services.chassis.tls import channel_credentials
from services.chassis.tracing import inject_traceparent, span_from, start_tracing

# The door: who measures, traces and logs imports from here; how each is done stands in a file of its own.
__all__ = [
    "STAGE_EDGES_S",
    "JsonLine",
    "Logger",
    "Telemetry",
    "clean_value",
    "inject_traceparent",
    "logger",
    "observe_stage",
    "span_from",
    "stage",
    "start_logging",
]


@dataclass(frozen=True)
class Telemetry:
    """The running exporters of this process."""

    tracing: bool
    """Whether spans are recorded and exported."""
    _tracer_provider: TracerProvider

    @classmethod
    def start(cls, config: Config, *, span_exporter: SpanExporter | None = None) -> Telemetry:
        """Starts logs, traces and metrics for the process; once, at start. `span_exporter` replaces OTLP in
        tests.
        """
        start_logging(config.service)
        exporter = span_exporter or spans_to(config.otlp_endpoint, config.tls_dir)
        provider = start_tracing(config.service, exporter)
        if config.metrics_port:
            start_http_server(config.metrics_port, addr=config.metrics_host)
        return cls(exporter is not None, provider)

    def stop(self) -> None:
        """Sends what is left and stops the exporters; blocks for a few seconds at most."""
        self._tracer_provider.shutdown()


def spans_to(endpoint: str, folder: Path | None) -> SpanExporter | None:
    """What sends spans: an https address is shown this process' own certificate, where it has one. None without an
    endpoint. Raises OSError for certificates that cannot be read."""
    if not endpoint:
        return None
    # Imported where it is used: it takes a tenth of a service's start, and most processes send no spans.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    if not endpoint.startswith("https://"):
        return OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=5)
    return OTLPSpanExporter(endpoint=endpoint, credentials=channel_credentials(folder) if folder else None, timeout=5)


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


def _fields(key: str, value: object) -> dict[str, object]:
    if not isinstance(value, BaseException):
        return {key: clean_value(value)}
    return {key: error_name(value), f"{key}_frames": _frames(value)}


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, the innermost last, without source lines and without words."""
    stack = traceback.extract_tb(error.__traceback__)[-12:]
    cause = error.__cause__ or error.__context__
    own = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in stack]
    return own if cause is None else [*own, f"from {error_name(cause)}", *_frames_once(cause)]


def _frames_once(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}:{frame.name}" for frame in stack]
