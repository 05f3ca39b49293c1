"""Does the compiled core read and write only what is its own, and compute nothing that C leaves undefined?"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
DRIVER = Path(__file__).with_name("sanitized_scan.py")
BUILD = "services.detector.adapters.pii_core.build"
WRONG = {
    "heap-buffer-overflow": "volatile int four = 4; volatile char *few = malloc(four); few[four] = 1;",
    "signed integer overflow": "volatile int most = 0x7fffffff; most = most + 1;",
}
"""What the sanitizers must see, and C that does it."""
WRONG_CORE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_core", .m_size = -1};
PyMODINIT_FUNC PyInit__core(void) { %s return PyModule_Create(&module); }
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def run_time() -> str:
    """The compiler's run-time of the address sanitizer, which has to be loaded before everything else."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not shutil.which(compiler[0]):
        pytest.skip("no C compiler: apt install gcc libc6-dev")
    asked = [*compiler, "-print-file-name=libasan.so"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip("the compiler brings no libasan.so")
    return found


def built(folder: Path, root: Path = ROOT) -> None:
    done = subprocess.run(
        [sys.executable, "-m", BUILD, "--sanitize", str(folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


def ran(run_time: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python under the sanitizers. Each of its objects is an allocation of its own, with guarded borders; what it
    keeps for ever is no leak. A text that holds half a surrogate is not printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": run_time,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)


def test_hostile_texts_examples_and_posts_break_nothing(run_time: str, tmp_path: Path) -> None:
    built(tmp_path)
    done = ran(run_time, str(DRIVER), str(tmp_path))
    assert (0, "") == (done.returncode, done.stderr[-4000:])
    texts, hits = map(int, done.stdout.split())
    assert texts > 5_000
    assert hits > 5_000


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(run_time: str, tmp_path: Path, what: str) -> None:
    """Otherwise nothing said above would mean nothing."""
    shutil.copytree(ROOT / "services", tmp_path / "services", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    core = tmp_path / "services/detector/adapters/pii_core/core.c"
    core.write_text(WRONG_CORE % WRONG[what], encoding="ascii")
    (tmp_path / "made").mkdir()
    built(tmp_path / "made", tmp_path)
    done = ran(run_time, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'made')!r}); import _core")
    assert (True, True) == (done.returncode != 0, what in done.stderr), done.stderr[-2000:]
