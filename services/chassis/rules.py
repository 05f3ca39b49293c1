"""Which rules does a service go by, and who may read their values?

Rules are versioned files. That there are some, and in which version, is no secret; their values are told to the roles
that the folder's `readers.yaml` names for a file. A file that it does not name is read by nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misuse.log.v1.record_pb2 import RuleInForce, RulesInForceLog
from services.chassis import yaml_text

READERS = "readers.yaml"
FILES_AT_MOST = 100


@dataclass(frozen=True)
class RuleFile:
    """One file of rules as a role may see it."""

    name: str
    versions: tuple[str, ...]
    """In order of appearance."""
    sha256: bytes
    shipped: bool
    """Whether it came with the code."""
    readable: bool
    text: str = field(repr=False)
    """Empty where it is not readable."""


@dataclass(frozen=True)
class RuleFolders:
    """Where a service's rules lie."""

    shipped: Sequence[Path]
    """Folders of the service itself; those that do not exist hold nothing."""
    instead: Sequence[Path] = ()
    """Folders of the operator: a file of the same name there stands in place of the shipped one, the last wins."""

    def seen_by(self, role: str) -> list[RuleFile]:
        """All rules; `role` by its name without prefix."""
        files = self._files()
        listed = files.pop(READERS, None)
        readers = yaml_text.parse(listed.read_text(encoding="utf-8")) if listed else {}
        chosen = list(files.values())[:FILES_AT_MOST]
        return [
            _seen(file, shipped=file.parent in self.shipped, readable=role in readers.get(file.stem, ()))
            for file in chosen
        ]

    def _files(self) -> dict[str, Path]:
        files = {file.name: file for folder in self.shipped for file in sorted(folder.glob("*.yaml"))}
        for folder in self.instead:
            files |= {name: folder / name for name in files if (folder / name).is_file()}
        return files

    def in_force(self) -> RulesInForceLog:
        """What a log record says of all rules."""
        return RulesInForceLog(
            rules=[
                RuleInForce(name=seen.name, versions=seen.versions, sha256=seen.sha256, shipped=seen.shipped)
                for seen in self.seen_by("")
            ]
        )


def _seen(file: Path, *, shipped: bool, readable: bool) -> RuleFile:
    content = file.read_bytes()
    versions = tuple(dict.fromkeys(_versions(yaml_text.parse(content))))
    text = content.decode("utf-8") if readable else ""
    return RuleFile(file.stem, versions, hashlib.sha256(content).digest(), shipped, readable, text)


def _versions(value: Any) -> Iterator[str]:
    """Every scalar under the name `version`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "version" and isinstance(inner, str | int):
                yield str(inner)
            else:
                yield from _versions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _versions(inner)
