"""What do the services' own sources say that a deployment has to know?

Read from the syntax tree, so that nothing has to be installed or started: which variables a service reads, whose
events it follows, whom it calls.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from services.console.home import SERVICES

ROOT = Path(__file__).resolve().parents[2]
PEER = "JIKIMI_PEER_"
"""Start of the variables that name other services' addresses."""
_VARIABLE = re.compile(r"JIKIMI_[A-Z0-9_]*[A-Z0-9]")
_CHASSIS_READS = ("config.py",)


@cache
def variables(service: str) -> frozenset[str]:
    """Names of the variables that a service reads, the chassis' among them; peers are told apart by PEER."""
    trees = [
        *_trees(ROOT / "services" / service),
        *(_tree(ROOT / "services/chassis" / name) for name in _CHASSIS_READS),
    ]
    found = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value)
    }
    return frozenset(found - {PEER.rstrip("_")})


@cache
def required_variables() -> frozenset[str]:
    """What no service starts without: the names that the chassis' Config insists on."""
    tree = _tree(ROOT / "services/chassis/config.py")
    return frozenset(
        str(node.args[1].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_required"
        and isinstance(node.args[1], ast.Constant)
    )


@cache
def followed(service: str) -> frozenset[str]:
    """Publishers whose events a service applies, itself perhaps among them: the first words of its `consume` calls."""
    main = _tree(ROOT / "services" / service / "__main__.py")
    names = _constants(service)
    found: set[str] = set()
    loops = {
        node.target.id: names[node.iter.id]
        for node in ast.walk(main)
        if isinstance(node, ast.For | ast.comprehension)
        and isinstance(node.target, ast.Name)
        and isinstance(node.iter, ast.Name)
        and node.iter.id in names
    }
    for call in _calls(main, "consume"):
        first = call.args[0]
        if isinstance(first, ast.Constant):
            found.add(str(first.value))
        elif isinstance(first, ast.Name) and first.id in loops:
            found.update(loops[first.id])
        else:
            raise ValueError(f"services/{service}/__main__.py:{call.lineno}: whom it follows cannot be read")
    return frozenset(found)


@cache
def called(service: str) -> frozenset[str]:
    """Services that a service calls: those it has a stub of, and those it follows, which it asks to publish again."""
    stubs = {
        str(call.args[0].value)
        for tree in _trees(ROOT / "services" / service)
        for call in _calls(tree, "stub")
        if isinstance(call.args[0], ast.Constant)
    }
    return (frozenset(stubs) | followed(service)) - {service}


@cache
def call_graph() -> frozenset[tuple[str, str]]:
    """(caller, called) of every edge between services."""
    return frozenset((service, peer) for service in SERVICES for peer in called(service))


@cache
def key_files(service: str) -> frozenset[str]:
    """Ids of the keys with which a service signs besides its own: the `KEY_ID`s of the modules that it imports."""
    known = {
        f"services.{tree_path}": value
        for tree_path, value in _key_ids()
        if tree_path.startswith((f"{service}.", "chassis."))
    }
    imported = {
        f"{node.module}"
        for tree in _trees(ROOT / "services" / service, "KEY_ID")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name.endswith("KEY_ID") for alias in node.names)
    }
    return frozenset(value for module, value in known.items() if module in imported or f".{service}." in module)


def durable(service: str, publisher: str, partition: int) -> str:
    """Name of the durable through which a service reads a partition (services/chassis/broker.py)."""
    return f"{service}_{publisher}_p{partition:02d}"


@cache
def health_names() -> frozenset[str]:
    """Names for which every service's health answers, beside those of its gRPC services."""
    tree = _tree(ROOT / "services/chassis/server.py")
    return frozenset(
        str(call.args[0].value) for call in _calls(tree, "set") if call.args and isinstance(call.args[0], ast.Constant)
    ) | {""}


@cache
def _key_ids() -> tuple[tuple[str, str], ...]:
    found = []
    for file in sorted((ROOT / "services").rglob("*.py")):
        if "console" in file.parts or "KEY_ID" not in _source(file):
            continue
        for node in _tree(file).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, node.value
                if name.endswith("KEY_ID") and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    module = ".".join(file.relative_to(ROOT / "services").with_suffix("").parts)
                    found.append((module, value.value))
    return tuple(found)


def _constants(service: str) -> Mapping[str, tuple[str, ...]]:
    """Tuples of words, and the keys of mappings, that stand at the top of the service's consumer."""
    found: dict[str, tuple[str, ...]] = {}
    for node in _tree(ROOT / "services" / service / "consumer.py").body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0] if isinstance(node, ast.Assign) else None
        )
        if not isinstance(target, ast.Name) or not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        words: list[ast.expr | None] = []
        if isinstance(node.value, ast.Tuple):
            words = list(node.value.elts)
        elif isinstance(node.value, ast.Dict):
            words = list(node.value.keys)
        if words and all(isinstance(word, ast.Constant) for word in words):
            found[target.id] = tuple(str(word.value) for word in words if isinstance(word, ast.Constant))
    return found


def _calls(tree: ast.AST, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == method
            and node.args
        ):
            yield node


def _trees(folder: Path, word: str = "") -> list[ast.Module]:
    """Every file below a folder that holds a word; most hold none, and reading their grammar takes long."""
    return [_tree(file) for file in sorted(folder.rglob("*.py")) if word in _source(file)]


@cache
def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(_source(file))
