"""Can the release before go on running on today's schema, and can every revision be taken back?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from services.chassis.migration import migrate, revision_of, roll_back
from services.console.home import SERVICES
from tests.scenario.system import ROOT

COLUMNS = """
    SELECT table_name || '.' || column_name, data_type, is_nullable = 'YES',
           column_default IS NOT NULL OR is_identity = 'YES'
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
Schema = Mapping[str, tuple[str, bool, bool]]
"""table.column → (type, may be NULL, has a default)."""


def breaks(before: Schema, after: Schema) -> list[str]:
    """What a release that knows `before` cannot live with in `after`."""
    tables = {name.split(".")[0] for name in before}
    found = [f"{name} is gone" for name in before if name not in after]
    for name, (kind, nullable, _) in before.items():
        if name in after and after[name][0] != kind:
            found.append(f"{name} has another type")
        if name in after and nullable and not after[name][1]:
            found.append(f"{name} must not be NULL any more")
    for name, (_, nullable, default) in after.items():
        if name not in before and name.split(".")[0] in tables and not nullable and not default:
            found.append(f"{name} is required, and the release before does not fill it")
    return sorted(found)


OLD: Schema = {"case.id": ("text", False, False), "case.note": ("text", True, False)}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (OLD, []),
        ({**OLD, "case.more": ("text", True, False), "case.count": ("integer", False, True)}, []),
        ({**OLD, "other.id": ("text", False, False)}, []),
        ({"case.id": ("text", False, False)}, ["case.note is gone"]),
        ({**OLD, "case.id": ("uuid", False, False)}, ["case.id has another type"]),
        ({**OLD, "case.note": ("text", False, True)}, ["case.note must not be NULL any more"]),
        (
            {**OLD, "case.more": ("text", False, False)},
            ["case.more is required, and the release before does not fill it"],
        ),
    ],
)
def test_rule_tells_what_the_release_before_cannot_live_with(after: Schema, expected: list[str]) -> None:
    assert expected == breaks(OLD, after)


def _migrations(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


def _revisions(service: str) -> list[str]:
    return [file.name[:4] for file in sorted((_migrations(service) / "versions").glob("[0-9]*.py"))]


async def _schema(url: str) -> Schema:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        rows = (await connection.execute(text(COLUMNS))).all()
    await engine.dispose()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_every_revision_expands_only_and_can_be_taken_back(
    service: str, database_url: Callable[[str], str]
) -> None:
    async def walk() -> list[str]:
        url, found = database_url(service), list[str]()
        await migrate(url, _migrations(service))
        after = head = await _schema(url)
        for revision in reversed(_revisions(service)[:-1]):
            await roll_back(url, _migrations(service), revision)
            assert revision == await revision_of(url)
            before = await _schema(url)
            found += [f"after {revision}: {each}" for each in breaks(before, after)]
            after = before
        await migrate(url, _migrations(service))
        assert head == await _schema(url)
        return found

    assert [] == asyncio.run(walk())


@pytest.mark.slow
def test_code_of_the_release_before_leaves_a_newer_schema_alone(
    tmp_path: Path, database_url: Callable[[str], str]
) -> None:
    before = tmp_path / "migrations"
    (before / "versions").mkdir(parents=True)
    (before / "env.py").write_bytes((_migrations("case") / "env.py").read_bytes())
    for revision in sorted((_migrations("case") / "versions").glob("[0-9]*.py"))[:-1]:
        (before / "versions" / revision.name).write_bytes(revision.read_bytes())

    async def start_old_after_new() -> tuple[Schema, Schema]:
        url = database_url("case")
        await migrate(url, _migrations("case"))
        newer = await _schema(url)
        await migrate(url, before)
        return newer, await _schema(url)

    newer, left = asyncio.run(start_old_after_new())
    assert newer == left
