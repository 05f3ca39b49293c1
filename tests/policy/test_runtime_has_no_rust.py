"""No package in a service's runtime closure holds compiled Rust."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LOCK = Path(__file__).parents[2] / "requirements" / "runtime.txt"
EXTRAS = (LOCK.with_name("ocr.txt"),)
"""What some machines install besides; looked at where it is installed."""
MARKS = (b"/rustc/", b".cargo/registry")
PIECE, OVERLAP = 1 << 22, 64


def locked_names() -> list[str]:
    installed = {found.name for found in importlib.metadata.distributions()}
    return _names(LOCK) + [name for extra in EXTRAS for name in _names(extra) if name in installed]


def _names(lock: Path) -> list[str]:
    return re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)


def installed_files(name: str) -> Iterator[Path]:
    for file in importlib.metadata.distribution(name).files or ():
        path = Path(str(file.locate()))
        if path.is_file():
            yield path


def holds_rust(path: Path) -> bool:
    """Whether an ELF file carries the paths that rustc leaves in it. Read in overlapping pieces."""
    with path.open("rb") as handle:
        if handle.read(4) != b"\x7fELF":
            return False
        tail = b""
        while piece := handle.read(PIECE):
            if any(mark in tail + piece for mark in MARKS):
                return True
            tail = piece[-OVERLAP:]
    return False


@pytest.mark.slow
def test_no_runtime_package_holds_compiled_rust() -> None:
    guilty = {
        name: [path.name for path in installed_files(name) if holds_rust(path)] for name in locked_names()
    }

    assert {} == {name: files for name, files in guilty.items() if files}


def test_the_lock_names_everything_that_the_runtime_pulls_in() -> None:
    """Otherwise the scan above would look past a package."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    known = {normal(name) for name in locked_names()}
    needed = {
        normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
        for name in locked_names()
        for requirement in importlib.metadata.requires(name) or ()
        if ";" not in requirement
    }

    assert set() == needed - known


def test_the_scan_sees_rust(tmp_path: Path) -> None:
    binary = tmp_path / "native.so"
    binary.write_bytes(b"\x7fELF" + b"\0" * (PIECE - 6) + b"/rustc/0123/library/core/src/panicking.rs")
    script = tmp_path / "script.py"
    script.write_bytes(b"'/rustc/'")

    assert holds_rust(binary)
    assert not holds_rust(script)
