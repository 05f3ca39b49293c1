"""What do `jikimi schema show|back` do?"""

from __future__ import annotations

import argparse
from pathlib import Path

from services.chassis.migration import revision_of, roll_back
from services.console.embedded import Postgres
from services.console.home import SERVICES, Home
from services.console.output import CannotDo, print_rows
from services.console.supervisor import ROOT, runs


def migrations_of(service: str) -> Path:
    """Where a service keeps its revisions."""
    return ROOT / "services" / service / "migrations"


def revisions_of(service: str) -> list[str]:
    """The revisions that this code knows, the oldest first."""
    return [file.name[:4] for file in sorted((migrations_of(service) / "versions").glob("[0-9]*.py"))]


async def schema_show(home: Home, options: argparse.Namespace) -> int:
    """Shows where every database stands and what this code knows. Exit status 1 where they differ."""
    postgres, facts = Postgres(home), []
    for service in SERVICES:
        stands, knows = await revision_of(postgres.url(service)), revisions_of(service)[-1]
        facts.append({"service": service, "database": stands, "code": knows})
    print_rows(options, facts, ["service", "database", "code"], [list(each.values()) for each in facts])
    return 0 if all(each["database"] == each["code"] for each in facts) else 1


async def schema_back(home: Home, options: argparse.Namespace) -> int:
    """Takes revisions of one service back, with what is stored in what they added."""
    if options.revision not in revisions_of(options.service):
        raise CannotDo(f"{options.service} has no revision {options.revision}.")
    if runs(home):
        raise CannotDo("The system runs. Stop it with `jikimi down`; this command starts the database by itself.")
    postgres = Postgres(home)
    postgres.start()
    try:
        await roll_back(postgres.url(options.service), migrations_of(options.service), options.revision)
        stands = await revision_of(postgres.url(options.service))
    finally:
        postgres.stop()
    # The next start looks for itself what has to be migrated.
    (home.path / "schema.json").unlink(missing_ok=True)
    facts = {"service": options.service, "database": stands}
    print_rows(options, facts, list(facts), [list(facts.values())])
    return 0
