"""Is the core of the scan compiled once, never loaded unless it is whole and current, and is its absence told?"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.detector.adapters import pii_core

ROOT = Path(__file__).parents[4]
PACKAGE = Path("services/detector/adapters/pii_core")
ALPHABET = "services/detector/adapters/pii_alphabet.py"
FILE = PACKAGE / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
BUILD = "services.detector.adapters.pii_core.build"
LOAD = """
from services.detector.adapters.pii_core import NotBuilt, load
try:
    print(load().FINGERPRINT)
except NotBuilt as problem:
    print(problem.reason, problem)
"""
SMALL_CORE = """
#include <Python.h>
#include "rules.h"
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_core", .m_size = -1};
PyMODINIT_FUNC PyInit__core(void) {
    PyObject *core = PyModule_Create(&module);
    if (core)
        PyModule_AddStringConstant(core, "FINGERPRINT", FINGERPRINT);
    return core;
}
"""
SMALL_GENERATOR = """
def source():
    return "/* nothing */"
"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") and Path(sysconfig.get_path("include"), "Python.h").exists()),
    reason="no C compiler or no Python.h: apt install gcc libc6-dev python3-dev",
)


class Tree:
    """A copy of the sources with a core that compiles at once; every command is a process of its own in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = root / FILE

    def start(
        self, *arguments: str, limit: int = resource.RLIM_INFINITY, told: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        # Without what is installed beside (-S): a compiler may be there.
        return subprocess.Popen(
            [sys.executable, "-S", *arguments],
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.root), **(told or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )

    def build(
        self, *arguments: str, limit: int = resource.RLIM_INFINITY, told: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """(exit status, what was said on standard error)."""
        process = self.start("-m", BUILD, *arguments, limit=limit, told=told)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    def load(self) -> str:
        """The fingerprint of what was loaded, or why it was not."""
        out, said = self.start("-c", LOAD).communicate(timeout=60)
        return out.strip() or said

    def left_over(self) -> list[str]:
        """What lies there and is neither a source nor the library."""
        names = {file.name for file in (self.root / PACKAGE).iterdir()} - {"__pycache__", FILE.name}
        return sorted(name for name in names if not name.endswith((".py", ".pyi", ".c", ".h")))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = Tree(tmp_path_factory.mktemp("built"))
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for part in ("services/chassis", "services/detector/domain", str(PACKAGE)):
        shutil.copytree(ROOT / part, tree.root / part, ignore=ignore)
    packages = ("services", "services/detector", "services/detector/adapters")
    for part in (*(f"{each}/__init__.py" for each in packages), ALPHABET):
        shutil.copy(ROOT / part, tree.root / part)
    (tree.root / PACKAGE / "core.c").write_text(SMALL_CORE, encoding="ascii")
    (tree.root / PACKAGE / "generate.py").write_text(SMALL_GENERATOR, encoding="ascii")
    assert tree.load().startswith("NOT_BUILT ")
    assert (0, "") == tree.build()
    return tree


@pytest.fixture
def tree(built: Tree, tmp_path: Path) -> Tree:
    shutil.copytree(built.root, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    return Tree(tmp_path / "tree")


def change(tree: Tree, place: str = "services/detector/domain/pii/checks.py") -> None:
    with (tree.root / place).open("a", encoding="utf-8") as source:
        source.write("\n")


def test_what_is_current_is_left_alone(tree: Tree) -> None:
    before = tree.library.stat()
    assert 64 == len(tree.load())
    assert (0, "") == tree.build("--required")
    after = tree.library.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert 0o644 == before.st_mode & 0o777


@pytest.mark.parametrize(
    "place", ["services/detector/domain/pii/checks.py", ALPHABET, f"{PACKAGE}/core.c", f"{PACKAGE}/generate.py"]
)
def test_one_of_other_sources_is_refused_until_it_is_built_anew(tree: Tree, place: str) -> None:
    old = tree.load()
    change(tree, place)
    assert "OTHER_SOURCES the compiled core of the scan was built from other sources: make setup" == tree.load()
    assert (0, "") == tree.build()
    assert 64 == len(tree.load())
    assert old != tree.load()


@pytest.mark.parametrize("spoilt", ["", "cut", "garbage", "turned"])
def test_a_broken_one_is_never_loaded(tree: Tree, spoilt: str) -> None:
    whole = tree.library.read_bytes()
    middle = len(whole) // 2
    turned = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    tree.library.write_bytes({"cut": whole[:middle], "garbage": b"no library", "turned": turned}.get(spoilt, b""))
    assert "BROKEN the compiled core of the scan is broken: make setup" == tree.load()
    assert (0, "") == tree.build()
    assert 64 == len(tree.load())


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PATH", "/nowhere", "no C compiler; Debian and Ubuntu: apt install gcc libc6-dev"),
        ("CC", "/nowhere/cc -m64", "there is no program /nowhere/cc"),
        ("CC", "false", "false: exit status 1"),
    ],
)
def test_without_a_compiler_a_line_says_so_and_set_up_goes_on(tree: Tree, variable: str, value: str, said: str) -> None:
    change(tree)
    line = f"The core of the scan is not compiled ({said}): the reference engine finds the same, slower.\n"
    assert (0, line) == tree.build(told={variable: value})
    assert (1, line) == tree.build("--required", told={variable: value})
    assert tree.load().startswith("OTHER_SOURCES ")
    assert [] == tree.left_over()


def test_an_error_of_the_compiler_is_named_and_what_was_there_stays(tree: Tree) -> None:
    before = tree.library.read_bytes()
    (tree.root / PACKAGE / "core.c").write_text("#error broken here\n", encoding="ascii")
    status, said = tree.build()
    assert (0, True, 1) == (status, "#error broken here" in said, said.count("\n"))
    assert before == tree.library.read_bytes()


def test_one_that_compiles_and_does_not_load_is_not_kept(tree: Tree) -> None:
    (tree.root / PACKAGE / "core.c").write_text(
        SMALL_CORE.replace("static struct", "void nowhere(void);\nstatic struct").replace(
            "(void) {", "(void) { nowhere();"
        ),
        encoding="ascii",
    )
    status, said = tree.build("--required")
    assert (1, True) == (status, "does not load on this machine" in said)
    assert tree.load().startswith("NOT_BUILT ")


def test_many_builds_at_once_leave_one_whole_library(tree: Tree) -> None:
    change(tree)
    processes = [tree.start("-m", BUILD, "--required") for _ in range(3)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [("", ""), ("", ""), ("pii_core: compiling\n", "")] == sorted(said)
    assert {0} == {process.returncode for process in processes}
    assert 64 == len(tree.load())
    assert [] == tree.left_over()


def test_a_full_disk_spoils_nothing(tree: Tree) -> None:
    """A bound on the size of files stands for it: what was compiled fits, and with its seal it does not."""
    before = tree.library.read_bytes()
    change(tree)
    status, said = tree.build(limit=len(before) - 1)
    assert (0, True) == (status, "File too large" in said)
    assert before == tree.library.read_bytes()
    assert [] == tree.left_over()


def test_an_interruption_spoils_nothing(tree: Tree, tmp_path: Path) -> None:
    before = tree.library.read_bytes()
    change(tree)
    started = tmp_path / "started"
    slow = tmp_path / "slow-cc"
    slow.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 60\n", encoding="ascii")
    slow.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = tree.start("-m", BUILD, told={"CC": str(slow), "TMPDIR": str(scratch)})
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert 0 != process.returncode
    assert (before, [], []) == (tree.library.read_bytes(), tree.left_over(), list(scratch.iterdir()))


def test_set_up_has_compiled_the_core_of_these_sources() -> None:
    assert pii_core.fingerprint() == pii_core.load().FINGERPRINT
