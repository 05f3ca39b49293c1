"""What does a service spend its processor time on? Samples it, four milliseconds of processor time apart.

Python imports this by itself where the folder stands on PYTHONPATH; it does nothing unless JIKIMI_SAMPLES names a
folder. SIGUSR2 starts anew, the end of the process writes `<service>.<pid>.json`: stacks as "file:line function", the
innermost first, with how often each was seen.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL_SECONDS = 0.004
_IDLE = frozenset({"run_forever", "run", "wait", "_worker", "get", "acquire"})

_seen: Counter[tuple[str, ...]] = Counter()


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    found = []
    while frame is not None:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(found)


def _callers() -> tuple[str, ...]:
    """Who waits for the running greenlet: SQLAlchemy runs its statements in greenlets, whose stacks begin with them."""
    # None while nobody has imported it, or somebody is just doing so.
    current = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    found: tuple[str, ...] = ()
    running = current().parent if current else None
    while running is not None:
        found += _stack(running.gr_frame)
        running = running.parent
    return found


def _sample(_number: int, frame: FrameType | None) -> None:
    """The signal's handler runs in the main thread; where that one waits, somebody else was at work."""
    stack = _stack(frame)
    if frame is not None and frame.f_code.co_name in _IDLE:
        main = threading.main_thread().ident
        others = (other for ident, other in sys._current_frames().items() if ident != main)
        stack = next((_stack(other) for other in others if other.f_code.co_name not in _IDLE), ("native threads",))
    else:
        stack += _callers()
    _seen[stack] += 1


def _start(folder: Path, service: str) -> None:
    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        stacks = [[count, *stack] for stack, count in _seen.most_common()]
        (folder / f"{service}.{os.getpid()}.json").write_text(json.dumps(stacks))

    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR2, lambda *_: _seen.clear())
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)
    atexit.register(write)


if "JIKIMI_SAMPLES" in os.environ and os.environ.get("JIKIMI_SERVICE") and "serve" in sys.argv:
    _start(Path(os.environ["JIKIMI_SAMPLES"]), os.environ["JIKIMI_SERVICE"])
