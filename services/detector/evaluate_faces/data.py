"""Which pictures an evaluation looks at, and whom they show: manifest.csv and pairs.csv."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

MANIFEST = "manifest.csv"
MOST_ROWS = 200_000
MOST_BYTES = 128 * 1024 * 1024
MOST_CHARACTERS = 2_000
"""Of one field."""


class BadData(Exception):
    """A line that cannot be used. Says file name, line number (1 is the header, 0 the file itself) and a reason; never
    what the line holds."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}" if line else f"{file}: {reason}")
        self.file, self.line, self.reason = file, line, reason


class Role(StrEnum):
    """What a picture is for: a template, a later picture of somebody with a template, or somebody without one."""

    ENROL = "enrol"
    PROBE = "probe"
    DISTRACTOR = "distractor"


@dataclass(frozen=True)
class Listed:
    """One picture of the data. `role` is None for a picture that only pairs name."""

    file: Path
    line: int
    identity: str
    role: Role | None
    corpus: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""
    sha256: str = ""
    """As the manifest says; empty when it does not."""

    def read(self) -> bytes:
        """The file. Raises BadData when it is gone or is not the one that the manifest names."""
        try:
            content = self.file.read_bytes()
        except OSError:
            raise BadData(MANIFEST, self.line, "FILE_UNREADABLE") from None
        if self.sha256 and hashlib.sha256(content).hexdigest() != self.sha256:
            raise BadData(MANIFEST, self.line, "HASH_DIFFERS")
        return content


@dataclass(frozen=True)
class Pair:
    """Two pictures, by their place in `Data.listed`, and whether they show one person."""

    a: int
    b: int
    same: bool
    set: str


@dataclass(frozen=True)
class Data:
    """What there is to measure on; `digest` is the sha256 of the lists, files by their hash."""

    name: str
    digest: str
    listed: tuple[Listed, ...]
    pairs: tuple[Pair, ...]


def read_data(folder: Path, pairs: Path | None = None) -> Data:
    """The manifest in `folder` (or in its `faces`), and the pairs when asked for.

    Columns: file, identity, role, and if at hand corpus, tags (divided by spaces or semicolons), source, licence,
    sha256; pairs: a, b, same (0 or 1), set. Files are named from the manifest's folder or the one above. Without a
    manifest the pairs alone are read. Raises BadData.
    """
    manifest = next((f for f in (folder / MANIFEST, folder / "faces" / MANIFEST) if f.is_file()), None)
    if manifest is None and pairs is None:
        raise BadData(MANIFEST, 0, "FILE_MISSING")
    home = manifest.parent if manifest else folder
    content = _read(manifest) if manifest else b""
    listed = list(_listed(content, home)) if manifest else []
    digest = hashlib.sha256(content)
    found: tuple[Pair, ...] = ()
    if pairs is not None:
        pairs_file = pairs if pairs.is_file() else home / pairs
        content = _read(pairs_file)
        digest.update(content)
        found = tuple(_pairs(content, pairs_file.name, home, listed))
    return Data(home.resolve().name, digest.hexdigest(), tuple(listed), found)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError:
        raise BadData(file.name, 0, "FILE_MISSING") from None
    if len(content) > MOST_BYTES:
        raise BadData(file.name, 0, "FILE_TOO_LARGE")
    return content


def _rows(content: bytes, name: str, columns: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and fields of every row; all of `columns` are there and filled."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadData(name, content[: problem.start].count(b"\n") + 1, "NOT_UTF8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        if not set(columns) <= set(reader.fieldnames or ()):
            raise BadData(name, 1, "COLUMN_MISSING")
        for count, row in enumerate(reader, 1):
            _check(row, name, reader.line_num, count, columns)
            yield reader.line_num, row
    except csv.Error:
        raise BadData(name, reader.line_num, "NOT_CSV") from None


def _check(row: Mapping[str, str], name: str, line: int, count: int, columns: tuple[str, ...]) -> None:
    if count > MOST_ROWS:
        raise BadData(name, line, "TOO_MANY_ROWS")
    if "" in row:
        raise BadData(name, line, "TOO_MANY_FIELDS")
    if any(len(value) > MOST_CHARACTERS for value in row.values()):
        raise BadData(name, line, "FIELD_TOO_LONG")
    if not all(row[column].strip() for column in columns):
        raise BadData(name, line, "FIELD_EMPTY")


def _listed(content: bytes, home: Path) -> Iterator[Listed]:
    known: set[Path] = set()
    for line, row in _rows(content, MANIFEST, ("file", "identity", "role")):
        file = _file(row["file"], home, MANIFEST, line)
        if file in known:
            raise BadData(MANIFEST, line, "FILE_LISTED_TWICE")
        known.add(file)
        if row["role"] not in set(Role):
            raise BadData(MANIFEST, line, "UNKNOWN_ROLE")
        yield Listed(
            file=file,
            line=line,
            identity=row["identity"],
            role=Role(row["role"]),
            corpus=row.get("corpus", ""),
            tags=tuple(row.get("tags", "").replace(";", " ").split()),
            source=row.get("source", ""),
            licence=row.get("licence", ""),
            sha256=row.get("sha256", "").strip().lower(),
        )


def _pairs(content: bytes, name: str, home: Path, listed: list[Listed]) -> Iterator[Pair]:
    """The pairs; a picture that the manifest does not name is added to `listed`, without role or known identity."""
    places = {each.file: at for at, each in enumerate(listed)}

    def place(text: str, line: int) -> int:
        file = _file(text, home, name, line)
        if file not in places:
            places[file] = len(listed)
            listed.append(Listed(file, line, identity=f"unlisted {len(listed)}", role=None))
        return places[file]

    for line, row in _rows(content, name, ("a", "b", "same", "set")):
        if row["same"] not in ("0", "1"):
            raise BadData(name, line, "SAME_NEITHER_0_NOR_1")
        yield Pair(place(row["a"], line), place(row["b"], line), row["same"] == "1", row["set"])


def _file(text: str, home: Path, name: str, line: int) -> Path:
    path = PurePosixPath(text.strip())
    if path.is_absolute() or ".." in path.parts or "\x00" in text:
        raise BadData(name, line, "PATH_OUTSIDE")
    for base in (home.parent, home):
        if (base / path).is_file():
            return base / path
    raise BadData(name, line, "FILE_MISSING")
