"""What does a Dockerfile say, and what comes of doing it in a folder, without a container engine?"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """An instruction of a Dockerfile with its words; `stage` is the name or number of its FROM."""

    stage: str
    verb: str
    words: str


def steps(file: Path, arguments: Mapping[str, str]) -> Iterator[Step]:
    """The instructions, arguments put in. Raises KeyError for an argument without a value."""
    stage, number, known = "", -1, dict(arguments)
    text = re.sub(r"\\\n\s*", " ", file.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        verb, _, words = line.partition(" ")
        if verb == "ARG":
            name, _, default = words.partition("=")
            known.setdefault(name, default)
        filled = re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], words)
        if verb == "FROM":
            number += 1
            stage = filled.split(" AS ")[1] if " AS " in filled else str(number)
        yield Step(stage, verb, filled)


class Rehearsal:
    """An image's steps, done under a folder in place of `/`. The base is the Python that runs this."""

    def __init__(self, file: Path, folder: Path, arguments: Mapping[str, str], context: Path = ROOT) -> None:
        """`context` is what a COPY without --from copies out of."""
        self._steps = list(steps(file, {"BASE": "base", **arguments}))
        self._folder = folder
        self._context = context
        self._last = self._steps[-1].stage

    def build(self, until: str = "") -> Path:
        """Does all steps, or those before the first that says `until`; returns the root of the image. Raises
        CalledProcessError."""
        for step in self._steps:
            if until and until in step.words:
                break
            if step.verb == "COPY":
                self._copy(step)
            elif step.verb == "RUN":
                self._run(step)
        return self.root

    @property
    def root(self) -> Path:
        """The root of the image."""
        return self._folder / self._last

    def variables(self, stage: str = "") -> dict[str, str]:
        """What ENV sets in a stage, or in the one that is shipped: places in the image, as paths of this machine."""
        stage = stage or self._last
        pairs = [step.words.partition("=") for step in self._steps if step.verb == "ENV" and step.stage == stage]
        return {name: re.sub(r"(^|:)/", rf"\1{self._folder / stage}/", value) for name, _, value in pairs}

    def command(self) -> list[str]:
        """ENTRYPOINT and CMD, as paths of this machine."""
        root = self.root
        words = [word for verb in ("ENTRYPOINT", "CMD") for word in json.loads(self.last(verb))]
        return [str(root) + word if word.startswith("/") else word for word in words]

    def last(self, verb: str) -> str:
        """Words of the last instruction of that kind in the stage that is shipped."""
        return [step.words for step in self._steps if step.verb == verb and step.stage == self._last][-1]

    def _copy(self, step: Step) -> None:
        words = step.words.split()
        source, target = words[-2:]
        begin, left_out = self._context, ["__pycache__", "README.md", "*.so"]  # as .dockerignore says
        if words[0].startswith("--from="):
            begin, left_out = self._folder / words[0].removeprefix("--from="), []
        goal = self._folder / step.stage / target.lstrip("/")
        goal.parent.mkdir(parents=True, exist_ok=True)
        if (begin / source.lstrip("/")).is_dir():
            ignore = shutil.ignore_patterns(*left_out)
            # What lies outside the tree of sources is large and written by nobody: a second name is enough.
            how = shutil.copy2 if begin == ROOT and not source.startswith("var/") else _linked
            shutil.copytree(
                begin / source.lstrip("/"), goal, ignore=ignore, dirs_exist_ok=True, symlinks=True, copy_function=how
            )
        else:
            shutil.copy(begin / source.lstrip("/"), goal)

    def _run(self, step: Step) -> None:
        root = self._folder / step.stage
        # The base's python is this one; every other absolute path lies under the folder.
        words = [sys.executable if word == "python" else word for word in shlex.split(step.words)]
        moved = [str(root) + word if word.startswith("/") and word != sys.executable else word for word in words]
        # No network may be needed: whoever asks for one finds no way.
        nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        clean = {"PATH": os.environ.get("PATH", ""), "PIP_CONFIG_FILE": "/dev/null", "HOME": str(root), **nowhere}
        clean |= self.variables(step.stage)
        subprocess.run(moved, check=True, cwd=root, env=clean, timeout=600)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
