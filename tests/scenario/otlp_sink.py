"""Where do a test system's spans go? An OTLP receiver over gRPC that keeps what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class SeenSpan:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


class OtlpSink(TraceServiceServicer):
    """Keeps every export, raw and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exports: list[ExportTraceServiceRequest] = []
        self.port = 0

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """Takes one export."""
        with self._lock:
            self._exports.append(request)
        return ExportTraceServiceResponse()

    def raw(self) -> bytes:
        """Everything that arrived, as bytes."""
        with self._lock:
            return b"\n".join(export.SerializeToString() for export in self._exports)

    def exports(self) -> list[ExportTraceServiceRequest]:
        """Everything that arrived, as it came."""
        with self._lock:
            return list(self._exports)

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """The spans of one trace."""
        with self._lock:
            return [span for export in self._exports for span in spans_of(export) if span.trace_id == trace_id]


def spans_of(export: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    """The spans of an export."""
    for resource in export.resource_spans:
        facts = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield SeenSpan(
                facts.get("service.name", ""),
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
            )


@contextmanager
def otlp_sink(tls: Path | None = None) -> Iterator[OtlpSink]:
    """A sink that listens on loopback; with a folder of certificates it asks for the sender's."""
    sink = OtlpSink()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call] # generated code
    if tls is None:
        sink.port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = ((tls / "tls.key").read_bytes(), (tls / "tls.crt").read_bytes())
        credentials = grpc.ssl_server_credentials([pair], (tls / "ca.crt").read_bytes(), require_client_auth=True)
        sink.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield sink
    finally:
        server.stop(1).wait()
