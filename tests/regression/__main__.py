"""Does this release decide as the last one did?

    python -m tests.regression [--against REF] [--record RELEASE] [--out var/regression]

The same pictures and posts go through a whole system of the last release (the newest tag, else the newest ancestor with
other revisions) and one of this tree, each on a fresh home. Every signal whose refusal, decisions, person or case
differ is reported; a difference passes where `accepted.yaml` gives it a reason. Exit status 0: none without, 1: some,
2: could not be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.console import commands
from services.console.client import Connections, connections
from services.console.demo.corpus import Corpus, Person, own
from services.console.demo.feed import Feed
from services.console.demo.truth import Truth
from services.console.embedded import Postgres
from services.console.home import Home
from services.console.provider import TestProvider
from tests.regression import corpus
from tests.regression.outcomes import Change, Outcome, accepted_changes, changes, junit, outcomes
from tests.rollback.releases import Release, lay_out, record, remove, run, today
from tests.scenario.system import ROOT

PORTRAITS = ROOT / ".cache" / "pictures"
PAUSE = 0.05
"""Seconds between signals; how fast they come must not decide anything."""
SETTLE_SECONDS = 300.0


class NotCompared(Exception):
    """A release did not serve, or did not come to rest."""


def decided_by(release: Release, chosen: Corpus, settings: Mapping[str, str] | None = None) -> dict[str, Outcome]:
    """What a release decides, on a fresh home. `settings`: further variables of its programs. Raises NotCompared."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-regression-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JIKIMI_")}
    own_settings = {"JIKIMI_HOME": str(home.path), "JIKIMI_PROFILE": "test", "JIKIMI_OWNER_PID": str(os.getpid())}
    environment = {**inherited, **own_settings, **(settings or {})}
    try:
        if wrong := run(release, environment, "services.console.supervisor", "up"):
            raise NotCompared(f"{release.name} did not start: {wrong}")
        return asyncio.run(_decided(home, chosen))
    finally:
        run(release, environment, "services.console.supervisor", "down")
        Postgres(home).destroy()
        shutil.rmtree(folder, ignore_errors=True)


async def _decided(home: Home, chosen: Corpus) -> dict[str, Outcome]:
    async with connections(home) as services:
        subscribers = {person.key: await _enrolled(services, home, person) for person in chosen.people}
        truth, feed = Truth(services, subscribers), Feed(services)
        await feed.send(chosen.items, PAUSE)
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
        while not truth.all_held(feed.fed, seen := await truth.look(feed.fed, closely=True)):
            if asyncio.get_running_loop().time() > deadline:
                raise NotCompared("not every match came to a case")
            await asyncio.sleep(1.0)
        names = corpus.names([row.item.what for row in feed.fed])
        return outcomes(feed.fed, seen, names, {subscriber: key for key, subscriber in subscribers.items()})


async def _enrolled(services: Connections, home: Home, person: Person) -> str:
    provider, tag = TestProvider(home), f"regression-{person.key}"
    subscriber_id = await commands.register(services, person.name, f"{tag}@example.com", person.language, tag)
    if person.pictures:
        await commands.enrol(services, provider, subscriber_id, person.pictures, tag)
    for kind, value in person.identifiers:
        await commands.watch(services, provider, subscriber_id, commands.KINDS[kind], value, f"{tag}-{kind}")
    return subscriber_id


def made(share: float = 1.0) -> Corpus:
    """The corpus, ready to be fed."""
    with tempfile.TemporaryDirectory(prefix="jikimi-corpus-") as folder:
        images, posts = corpus.write(Path(folder), PORTRAITS, share)
        return own(images, posts, "regression")


def show(found: Sequence[Change], before: Release, size: int) -> None:
    """Every difference, for people."""
    say = Console()
    say.print(f"{size} signals, compared with {before.name} ({before.commit[:10]}): {len(found)} decided differently.")
    table = Table("item", "before", "now", "reason")
    for change in found:
        table.add_row(change.item, change.before, change.now, change.reason or "none given")
    if found:
        say.print(table)


def main(words: Sequence[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.regression", description=__doc__)
    parser.add_argument("--against", default="", metavar="REF", help="another release to compare with")
    parser.add_argument("--out", default="var/regression")
    parser.add_argument("--record", default="", metavar="RELEASE", help="tell the gate of the system of JIKIMI_HOME")
    options = parser.parse_args(words)
    chosen, this = made(), today()
    before = lay_out(ROOT / "var" / "regression" / "before", options.against)
    try:
        print(f"{before.name} decides …", flush=True)
        was = decided_by(before, chosen)
        print("this tree decides …", flush=True)
        now = decided_by(this, chosen)
    except NotCompared as problem:
        print(f"Not compared: {problem}", file=sys.stderr)
        return 2
    finally:
        remove(before)
    found = changes(was, now, accepted_changes())
    show(found, before, len(now))
    document = junit(list(now), found)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "junit.xml").write_bytes(document)
    written = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "before": {"what": before.name, "commit": before.commit},
        "now": {"commit": this.commit},
        "signals": len(now),
        "changes": [asdict(change) for change in found],
    }
    (out / "changes.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out / 'junit.xml'}, {out / 'changes.json'}")
    if options.record:
        asyncio.run(record("REGRESSION", options.record, this.commit, document))
    return 1 if any(not change.reason for change in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
