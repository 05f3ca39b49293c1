"""The code keeps the layers of the design: services know the chassis and not each other; the domain knows no
technology."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("detector", "case", "removal", "notify", "gate")
TECHNOLOGY = ("grpc", "sqlalchemy", "asyncpg", "nats", "misuse", "jikimi_client", "alembic")
# layer → the layers of the same service that it may import. What stands in no list is free.
MAY_IMPORT = {
    "domain": {"domain"},
    "ports": {"domain", "ports"},
    "handlers": {"domain", "ports", "handlers"},
    "adapters": {"domain", "ports", "adapters", "migrations"},
    "servicer": {"domain", "ports", "handlers", "servicer"},
    "consumer": {"domain", "ports", "handlers", "consumer"},
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / "services" / folder).rglob("*.py"))


@cache
def imports(path: Path) -> Sequence[str]:
    """Every module that a file imports, inside functions too, relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return found


def layer(module: str, service: str) -> str | None:
    """Which layer of a service a dotted module name belongs to."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["services", service] and len(parts) > 2 else None


def crossings(service: str) -> list[str]:
    found = []
    for path in modules(service):
        own = layer(".".join(path.relative_to(ROOT).with_suffix("").parts), service)
        allowed = MAY_IMPORT.get(own or "")
        for target in imports(path):
            reached = layer(target, service)
            if allowed is not None and reached in {*MAY_IMPORT, "__main__"} and reached not in allowed:
                found.append(f"{path.relative_to(ROOT)} imports {target}")
    return found


def foreign(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {target}"
        for path in modules(folder)
        for target in imports(path)
        if any(target == name or target.startswith(f"{name}.") for name in forbidden)
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = tuple(f"services.{other}" for other in (*SERVICES, "console") if other != service)

    assert [] == foreign(service, others)


def test_the_chassis_imports_no_service() -> None:
    assert [] == foreign("chassis", tuple(f"services.{service}" for service in (*SERVICES, "console")))


@pytest.mark.parametrize("service", SERVICES)
def test_layers_point_inwards(service: str) -> None:
    assert [] == crossings(service)


@pytest.mark.parametrize("service", SERVICES)
def test_the_domain_knows_no_technology(service: str) -> None:
    files = [path for path in modules(service) if "domain" in (path.stem, *path.relative_to(ROOT).parts[2:3])]

    assert [] == [
        f"{path.relative_to(ROOT)} imports {target}"
        for path in files
        for target in imports(path)
        if target.split(".")[0] in TECHNOLOGY
    ]


def test_the_chassis_speaks_of_no_business() -> None:
    """Design section 4: what mentions a face, a phone or a removal belongs into a service."""
    names = [path.stem for path in modules("chassis")]

    assert [] == [name for name in names if name in {"face", "phone", "removal", "subscriber", "evidence"}]
