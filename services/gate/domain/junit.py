"""What does a JUnit file say in counts?

Read as a stream, without a tree: document types and entities are refused, depth and size are bounded, and no text
of the file is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat

from services.chassis.errors import InvalidInput

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
_MARKS = {"failure": "failed", "error": "failed", "skipped": "skipped"}


@dataclass
class Counts:
    """Test cases by result."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


class _Reader:
    """Counts test cases as they end."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._path: list[str] = []
        self._result = "passed"

    def start(self, name: str, _attributes: object) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise _refusal("JUNIT_TOO_DEEP")
        if not self._path and name not in {"testsuites", "testsuite"}:
            raise _refusal("JUNIT_UNREADABLE")
        if name == "testcase":
            self._result = "passed"
        elif name in _MARKS and self._path[-1] == "testcase" and self._result != "failed":
            # A case that both skipped and failed has failed.
            self._result = _MARKS[name]
        self._path.append(name)

    def end(self, name: str) -> None:
        self._path.pop()
        if name == "testcase":
            setattr(self.counts, self._result, getattr(self.counts, self._result) + 1)


def read_junit(document: bytes) -> Counts:
    """The counts of a JUnit XML document. Raises InvalidInput: JUNIT_TOO_LARGE, JUNIT_TOO_DEEP,
    JUNIT_DOCTYPE_REFUSED, JUNIT_UNREADABLE.
    """
    if len(document) > MAX_BYTES:
        raise _refusal("JUNIT_TOO_LARGE")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        raise _refusal("JUNIT_UNREADABLE") from None
    return reader.counts


def _refuse_doctype(*_declaration: object) -> None:
    raise _refusal("JUNIT_DOCTYPE_REFUSED")


def _refusal(reason: str) -> InvalidInput:
    return InvalidInput(reason, "The JUnit document cannot be taken.", violations=[("junit", reason)])
