"""Where do the spans of one machine go, and how are they found again?

A small OTLP receiver on loopback keeps the newest spans in one SQLite file that only its owner may read. It is there
for `make observe`; a real installation has a collector and a trace store instead. It takes spans from whoever can reach
the port, so it keeps what the services' own allow-list names and cleans it once more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
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
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from services.chassis.shown import Scalar, clean_value
from services.chassis.tracing import ATTRIBUTES
from services.console.home import Home

MOST_SPANS = 200_000
"""Newer ones push out older ones; about 300 bytes each."""
MOST_LINKS = 8
MESSAGE_BYTES = 4 * 1024 * 1024
TRACES_OF_ONE = 50
SPANS_OF_ONE = 5_000
"""Spans of one trace that are read."""
_NAME = re.compile(r"[A-Za-z0-9_.:/ -]{1,160}")
_ERROR = re.compile(r"[A-Za-z0-9_.]{1,160}(\([A-Z0-9_]{1,64}\))?")
_HEX = re.compile(r"[0-9a-f]{32}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS span (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL,
    service TEXT NOT NULL, name TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    failed INTEGER NOT NULL, attributes TEXT NOT NULL, links TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS span_once ON span (trace_id, span_id);
CREATE TABLE IF NOT EXISTS about (
    entity TEXT NOT NULL, trace_id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (entity, trace_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS about_seq ON about (seq);
CREATE TABLE IF NOT EXISTS link (
    trace_id TEXT NOT NULL, earlier TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (earlier, trace_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS link_seq ON link (seq);
"""
_KEEP = (
    "INSERT INTO span (trace_id, span_id, parent_id, service, name, start_ns, end_ns, failed, attributes, links)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING seq"
)
_TIDY = ("DELETE FROM span WHERE seq <= ?", "DELETE FROM about WHERE seq <= ?", "DELETE FROM link WHERE seq <= ?")


@dataclass(frozen=True)
class Span:
    """A span as it is kept."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the first of a trace."""
    service: str
    name: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    """Ids of earlier traces that this one goes on from."""

    @property
    def seconds(self) -> float:
        """How long it took, waiting included."""
        return max(0.0, (self.end_ns - self.start_ns) / 1e9)

    @property
    def waited(self) -> float:
        """Seconds of it during which nobody had taken it up."""
        return min(self.seconds, max(0.0, float(self.attributes.get("wait_ms", 0)) / 1000))


class SpanStore:
    """The newest spans of one machine."""

    def __init__(self, file: Path, most: int = MOST_SPANS) -> None:
        """Opens the file, which only its owner may read; makes it where it is missing."""
        self._most = most
        self._lock = threading.Lock()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        file.chmod(0o600)
        self._database = sqlite3.connect(file, check_same_thread=False, timeout=10.0)
        # A power loss may take the last spans along; what is read meanwhile waits for nobody.
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)

    def add(self, spans: Iterable[Span]) -> None:
        """Keeps spans, each once; drops the oldest beyond the bound."""
        with self._lock, self._database:
            for span in spans:
                self._keep(span)
            (newest,) = self._database.execute("SELECT coalesce(max(seq), 0) FROM span").fetchone()
            for statement in _TIDY:
                self._database.execute(statement, (newest - self._most,))

    def _keep(self, span: Span) -> None:
        row = self._database.execute(
            _KEEP,
            (
                span.trace_id,
                span.span_id,
                span.parent_id,
                span.service,
                span.name,
                span.start_ns,
                span.end_ns,
                span.failed,
                json.dumps(span.attributes),
                json.dumps(span.links),
            ),
        ).fetchone()
        if row is None:
            return
        entities = {span.attributes[key] for key in ("case_id", "entity_id") if span.attributes.get(key)}
        about = "INSERT INTO about VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq"
        self._database.executemany(about, [(entity, span.trace_id, row[0]) for entity in entities])
        linked = "INSERT INTO link VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._database.executemany(linked, [(span.trace_id, earlier, row[0]) for earlier in span.links])

    def traces_of(self, wanted: str) -> list[str]:
        """Traces of a case or another entity, or the trace of that id, with those that they are linked to; the oldest
        first."""
        with self._lock:
            query = "SELECT trace_id FROM about WHERE entity = ? ORDER BY seq LIMIT ?"
            found = [row[0] for row in self._database.execute(query, (wanted, TRACES_OF_ONE))]
            if _HEX.fullmatch(wanted):
                found.append(wanted)
            for trace_id in found:
                if len(found) < TRACES_OF_ONE:
                    found += [other for other in self._neighbours(trace_id) if other not in found]
            begun = {each: self._begun(each) for each in dict.fromkeys(found)}
        return [each for each in sorted(begun, key=lambda each: begun[each] or 0) if begun[each] is not None]

    def _neighbours(self, trace_id: str) -> list[str]:
        query = "SELECT earlier FROM link WHERE trace_id = ? UNION SELECT trace_id FROM link WHERE earlier = ?"
        return [row[0] for row in self._database.execute(query, (trace_id, trace_id))][:TRACES_OF_ONE]

    def _begun(self, trace_id: str) -> int | None:
        query = "SELECT min(start_ns) FROM span WHERE trace_id = ?"
        found: int | None = self._database.execute(query, (trace_id,)).fetchone()[0]
        return found

    def spans(self, trace_id: str) -> list[Span]:
        """The spans of a trace, in the order in which they began."""
        query = (
            "SELECT trace_id, span_id, parent_id, service, name, start_ns, end_ns, failed, attributes, links"
            " FROM span WHERE trace_id = ? ORDER BY start_ns, end_ns DESC LIMIT ?"
        )
        with self._lock:
            rows = self._database.execute(query, (trace_id, SPANS_OF_ONE)).fetchall()
        return [_read(*row) for row in rows]

    def slowest(self, most: int = 20, among: int = 20_000) -> list[tuple[str, float, bool]]:
        """(trace, seconds from its first to its last moment, whether something failed) of the slowest among the newest
        spans."""
        query = (
            "SELECT trace_id, (max(end_ns) - min(start_ns)) / 1e9 AS seconds, max(failed) FROM span"
            " WHERE seq > (SELECT coalesce(max(seq), 0) FROM span) - ?"
            " GROUP BY trace_id ORDER BY seconds DESC LIMIT ?"
        )
        with self._lock:
            return [(row[0], row[1], bool(row[2])) for row in self._database.execute(query, (among, most))]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()


def _read(
    trace_id: str,
    span_id: str,
    parent_id: str,
    service: str,
    name: str,
    start_ns: int,
    end_ns: int,
    failed: int,
    attributes: str,
    links: str,
) -> Span:
    told = json.loads(attributes), tuple(json.loads(links))
    return Span(trace_id, span_id, parent_id, service, name, start_ns, end_ns, bool(failed), *told)


def store_of(home: Home) -> Path:
    """The file of a home's spans."""
    return home.path / "observe" / "spans.db"


def read_export(export: ExportTraceServiceRequest) -> Iterator[Span]:
    """The spans of an export, cleaned; those that are none of ours are left out."""
    for resource in export.resource_spans:
        facts = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        service = facts.get("service.name", "")
        for wire in (wire for scope in resource.scope_spans for wire in scope.spans):
            if _NAME.fullmatch(service) and _NAME.fullmatch(wire.name) and wire.trace_id and wire.span_id:
                yield _span(service, wire)


def _span(service: str, wire: WireSpan) -> Span:
    read = ((pair.key, _attribute(pair.key, pair.value)) for pair in wire.attributes if pair.key in ATTRIBUTES)
    return Span(
        trace_id=wire.trace_id.hex(),
        span_id=wire.span_id.hex(),
        parent_id=wire.parent_span_id.hex(),
        service=service,
        name=wire.name,
        start_ns=wire.start_time_unix_nano,
        end_ns=wire.end_time_unix_nano,
        failed=wire.status.code == Status.STATUS_CODE_ERROR,
        attributes={key: value for key, value in read if value is not None},
        links=tuple(link.trace_id.hex() for link in wire.links[:MOST_LINKS]),
    )


def _attribute(key: str, value: AnyValue) -> Scalar:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        text = value.string_value
        return text if key == "error.type" and _ERROR.fullmatch(text) else clean_value(text)
    return value.int_value if kind == "int_value" else value.double_value if kind == "double_value" else None


class Receiver(TraceServiceServicer):
    """Takes exports."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """Keeps one export."""
        self._store.add(read_export(request))
        return ExportTraceServiceResponse()


@contextmanager
def receiving(store: SpanStore, port: int) -> Iterator[int]:
    """Takes exports on 127.0.0.1:port (0: any) meanwhile; yields the port."""
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MESSAGE_BYTES)]
    server = grpc.server(ThreadPoolExecutor(2), options=options, maximum_concurrent_rpcs=64)
    add_TraceServiceServicer_to_server(Receiver(store), server)  # type: ignore[no-untyped-call] # generated code
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield bound
    finally:
        server.stop(2).wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Receives until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m services.console.spans", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with closing(SpanStore(store_of(Home.from_env()))) as store, receiving(store, options.port):
        done.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
