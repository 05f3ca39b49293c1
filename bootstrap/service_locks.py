"""Which packages does each service's image need? Writes requirements/services/<service>.txt from runtime.txt.

A service's lock is the part of the runtime's that its code can reach: its imports, those of what it imports, and what
those packages ask for. Versions and hashes are never resolved anew, so an image runs what the tests ran. Usage:
`.venv/bin/python bootstrap/service_locks.py [--check]`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements" / "services"
SERVICES = ("detector", "case", "removal", "notify", "gate", "console")
"""Folders of services/ that images are made of; `console` is the command line, for what runs by itself in a cluster."""
VARIANTS = {"detector-gpu": ("detector", "detector_gpu", "faiss-cpu")}
"""Variant → the service, the lock whose packages it has more, the package that they replace."""
LOADED_BY_NAME = {"sqlalchemy": ("asyncpg", "greenlet"), "alembic": ("mako",)}
"""What no import shows: SQLAlchemy loads the driver that a URL names."""
GENERATED = {"misuse": "google.protobuf", "jikimi_client": "betterproto"}
"""Generated contracts → what they import."""
HEADER = "# Made by bootstrap/service_locks.py from runtime.txt and the imports of services/{service}; do not edit.\n"


def main(arguments: list[str]) -> int:
    """Writes the locks, or with --check says which differ; 1 when any does."""
    stale = [service for service in (*SERVICES, *VARIANTS) if not _is_current(service)]
    if arguments == ["--check"]:
        for service in stale:
            print(f"requirements/services/{service}.txt is not what the service imports: make lock", file=sys.stderr)
        return 1 if stale else 0
    LOCKS.mkdir(exist_ok=True)
    for service in stale:
        (LOCKS / f"{service}.txt").write_text(lock_of(service), encoding="utf-8")
    return 0


def _is_current(service: str) -> bool:
    file = LOCKS / f"{service}.txt"
    return file.exists() and file.read_text(encoding="utf-8") == lock_of(service)


def lock_of(service: str) -> str:
    """Text of the lock of a service or a variant: entries of runtime.txt, hashes included, in its order."""
    if service in VARIANTS:
        of, more, instead_of = VARIANTS[service]
        added = _entries((ROOT / "requirements" / f"{more}.txt").read_text(encoding="utf-8"))
        kept = {name: text for name, text in _entries(lock_of(of)).items() if name not in {instead_of, *added}}
        return HEADER.format(service=of) + "".join({**kept, **added}.values())
    wanted = packages_of(service)
    entries = _entries((ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8"))
    return HEADER.format(service=service) + "".join(text for name, text in entries.items() if name in wanted)


def packages_of(service: str) -> frozenset[str]:
    """Names of the packages that a service can reach."""
    locked = _entries((ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8"))
    owners = _owners()
    wanted = {owner for name in imports_of(service) if (owner := _owner(name, owners)) in locked}
    wanted |= {more for name in tuple(wanted) for more in LOADED_BY_NAME.get(name, ())}
    waiting = sorted(wanted)
    while waiting:
        for name in _asked_for(waiting.pop()):
            if name in locked and name not in wanted:
                wanted.add(name)
                waiting.append(name)
    return frozenset(wanted)


def imports_of(service: str) -> frozenset[str]:
    """Dotted names from outside the project that a service's modules import, wherever in them."""
    found: set[str] = set()
    seen: set[Path] = set()
    waiting = sorted((ROOT / "services" / service).rglob("*.py"))
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _imports(file):
            own = list(_own_files(name))
            waiting += own
            if not own and name.partition(".")[0] not in {"services", *sys.stdlib_module_names}:
                found.add(GENERATED.get(name.partition(".")[0], name))
    return frozenset(found)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            yield from (str(word.value) for word in node.args if isinstance(word, ast.Constant))


def _own_files(name: str) -> Iterator[Path]:
    place = ROOT.joinpath(*name.split("."))
    if name.partition(".")[0] == "services":
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists())


@cache
def _owners() -> Mapping[str, str]:
    """Dotted module → package that brings it, of everything that is installed here."""
    return {
        ".".join(part for part in (*file.parts[:-1], file.name.split(".")[0]) if part != "__init__"): _plain(one.name)
        for one in distributions()
        for file in one.files or ()
        if file.suffix in {".py", ".so"} and ".." not in file.parts
    }


def _owner(name: str, owners: Mapping[str, str]) -> str:
    """The package that brings a module; the longest known part of its name decides, for namespaces have many owners."""
    parts = name.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((owners[part] for part in known if part in owners), "")


def _asked_for(name: str) -> Iterator[str]:
    extras = {"": None, **dict.fromkeys(_extras().get(name, ()))}
    for text in Distribution.from_name(name).requires or ():
        asked = Requirement(text)
        if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in extras):
            yield _plain(asked.name)


@cache
def _extras() -> Mapping[str, frozenset[str]]:
    lines = (ROOT / "requirements" / "runtime.in").read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {_plain(one.name): frozenset(one.extras) for one in asked}


def _entries(text: str) -> dict[str, str]:
    """Name → its lines in a lock, comments left out."""
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    entries: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.startswith(" "):
            name = _plain(re.split(r"[=\[ ;]", line)[0])
            entries[name] = ""
        entries[name] += f"{line}\n"
    return entries


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
