"""Did personal data that was fed to a system come to lie anywhere in the clear?

Every canary is looked for in every form in which a program might write it down, in everything that a system leaves:
files, broker, tables, metrics, spans.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hyperscan
import nats

from services.console.embedded import Nats, Postgres
from services.console.home import SERVICES, Home

LEAST_BYTES = 7
"""Shorter patterns would be found by chance."""
WINDOW, STRIDE = 24, 12
"""Of binary canaries every run of WINDOW bytes at each STRIDE is looked for: a part of a picture counts too."""
CHUNK, OVERLAP = 32 * 1024 * 1024, 8 * 1024


@dataclass(frozen=True)
class Canary:
    """Something distinctive that was fed in; text, or bytes of a picture."""

    name: str
    value: str | bytes = field(repr=False)

    def forms(self) -> set[bytes]:
        """Every pattern that betrays it."""
        found = _text_forms(self.value) if isinstance(self.value, str) else _byte_forms(self.value)
        return {form for form in found if len(form) >= LEAST_BYTES}


@dataclass(frozen=True, order=True)
class Finding:
    """A canary in the clear: its name and where, never its value."""

    canary: str
    place: str


def _text_forms(text: str) -> Iterator[bytes]:
    for spelling in _spellings(text):
        raw = spelling.encode()
        yield raw
        for encoding in ("utf-16-le", "utf-16-be", "cp949"):
            yield spelling.encode(encoding, "ignore")
        yield from _encodings(raw)
        yield urllib.parse.quote(spelling, safe="").encode()
        yield urllib.parse.quote(spelling).encode()
        yield urllib.parse.quote_plus(spelling).encode()
        yield json.dumps(spelling)[1:-1].encode()


def _spellings(text: str) -> Iterator[str]:
    """As written; without blanks; and a number of nine digits or more as its digits alone, also as abroad."""
    yield text
    yield re.sub(r"\s", "", text)
    digits = re.sub(r"\D", "", text)
    if len(digits) >= 9 and not re.search(r"[^\d\s().+-]", text):
        yield digits
        if digits.startswith("0"):
            yield f"82{digits[1:]}"


def _byte_forms(data: bytes) -> Iterator[bytes]:
    for start in range(0, max(1, len(data) - WINDOW + 1), STRIDE):
        part = data[start : start + WINDOW]
        yield part
        yield from _encodings(part)


def _encodings(raw: bytes) -> Iterator[bytes]:
    """Hexadecimal, and base64 wherever in a group of three bytes it begins."""
    yield raw.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # The first and the last letters also depend on what stands around.
        inner = encoded[-(-shift * 4 // 3) : len(encoded) - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


class Search:
    """All patterns of all canaries, looked for in one pass. Letters match in either case: hexadecimal has both."""

    def __init__(self, canaries: Sequence[Canary]) -> None:
        self._of = [(form, canary.name) for canary in canaries for form in sorted(canary.forms())]
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
        self._database.compile(
            expressions=[b"".join(b"\\x%02x" % byte for byte in form) for form, _ in self._of],
            ids=list(range(len(self._of))),
            flags=[flags] * len(self._of),
        )

    @property
    def patterns(self) -> int:
        """How many patterns are looked for."""
        return len(self._of)

    def names_in(self, data: bytes) -> set[str]:
        """The canaries that these bytes betray."""
        names: set[str] = set()

        def note(number: int, *_: object) -> None:
            names.add(self._of[number][1])

        self._database.scan(data, match_event_handler=note)
        return names

    def in_blocks(self, place: str, blocks: Iterable[bytes]) -> Iterator[Finding]:
        """The canaries in data that comes in parts."""
        for block in blocks:
            yield from (Finding(name, place) for name in sorted(self.names_in(block)))


@dataclass
class Searched:
    """What a search found, and how much it looked at."""

    findings: set[Finding] = field(default_factory=set)
    bytes_of: dict[str, int] = field(default_factory=dict)

    def add(self, search: Search, kind: str, place: str, blocks: Iterable[bytes]) -> None:
        """Looks through one place."""

        def counted() -> Iterator[bytes]:
            for block in blocks:
                self.bytes_of[kind] = self.bytes_of.get(kind, 0) + len(block)
                yield block

        self.findings |= set(search.in_blocks(place, counted()))


async def search_system(home: Home, search: Search, spans: bytes) -> Searched:
    """Looks through everything that the running system of this home holds."""
    postgres, searched = Postgres(home), Searched()
    for service in SERVICES:
        for table in _tables(postgres, service):
            rows = postgres.sql(f"COPY {table} TO STDOUT;", service).encode()
            searched.add(search, "tables", f"{service}.{table}", [rows])
    postgres.sql("CHECKPOINT;")
    async for subject, message in _messages(Nats(home).url("ops")):
        searched.add(search, "messages", subject, [message])
    for service in SERVICES:
        searched.add(search, "metrics", f"{service} metrics", [metrics_page(home, service)])
    searched.add(search, "spans", "spans", [spans])
    for folder in {home.path, postgres.place()}:
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            searched.add(search, _kind(file.relative_to(folder)), str(file.relative_to(folder)), _blocks(file))
    return searched


def _kind(file: Path) -> str:
    if "pg_wal" in file.parts:
        return "pg_wal"
    return {"logs": "logs", "nats": "nats files", "postgres": "postgres files", "data": "postgres files"}.get(
        file.parts[0], "other files"
    )


def _tables(postgres: Postgres, service: str) -> list[str]:
    query = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;"
    return postgres.sql(query, service).split()


async def _messages(url: str) -> AsyncIterator[tuple[str, bytes]]:
    """(subject, subject with headers and payload) of every message of every stream."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream(timeout=10)
    for stream in await jetstream.streams_info():
        name, state = str(stream.config.name), stream.state
        for number in range(state.first_seq, state.last_seq + 1):
            message = await jetstream.get_msg(name, number)
            headers = json.dumps(dict(message.headers or {}), ensure_ascii=False)
            whole = b"\n".join([str(message.subject).encode(), headers.encode(), message.data or b""])
            yield f"stream {name}", whole
    await connection.close()


def metrics_page(home: Home, service: str) -> bytes:
    """The page of metrics of a running service."""
    url = f"http://127.0.0.1:{home.ports()[f'{service}-metrics']}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return bytes(answer.read())


def _blocks(file: Path) -> Iterator[bytes]:
    """A file in overlapping parts; one that went away meanwhile has none."""
    try:
        with file.open("rb") as handle:
            block = handle.read(CHUNK)
            while block:
                yield block
                more = handle.read(CHUNK)
                block = block[-OVERLAP:] + more if more else b""
    except FileNotFoundError:
        return
