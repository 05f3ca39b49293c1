"""What does `make demo` do? Starts a system, enrols people, feeds signals, shows what happens, checks, reports."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpclib
from rich.console import Console
from rich.table import Table

from services.chassis.tasks import end
from services.console import commands, gate_commands
from services.console.client import Connections, connections, reason_of
from services.console.demo.corpus import Corpus, Person, own, shipped
from services.console.demo.devices import Phone
from services.console.demo.feed import CALIBRATION, Fed, Feed
from services.console.demo.truth import Seen, Truth
from services.console.home import Home, HomeUnusable
from services.console.output import CannotDo
from services.console.provider import TestProvider

ROOT = Path(__file__).resolve().parents[3]
SETTLE_SECONDS = 180.0
LOOK_SECONDS = 1.0
DEMO_CANNOT = 2


@dataclass
class Demo:
    """One run of the demo on one home."""

    home: Home
    out: Path
    run: str
    say: Console = field(default_factory=lambda: Console(highlight=False))

    async def play(self, corpus: Corpus) -> dict[str, Any]:
        """Everything between a running system and its summary."""
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(connections(self.home))
            subscribers = await self._enrol(services, corpus.people)
            phones = [Phone(services, subscribers[p.key], "demo-phone") for p in corpus.people]
            tasks = [asyncio.create_task(phone.run()) for phone in phones]
            try:
                truth = Truth(services, subscribers)
                await truth.look([], closely=False)
                fed, seen = await self._feed(services, corpus, truth)
                wall = time.monotonic() - started
                packs = await truth.packs(seen, self.out / "evidence", self.home.path / "tokens" / "public")
                summary = truth.summary(fed, seen, packs, wall)
                self._explain(truth, fed, seen)
                await self._judge(services)
            finally:
                await end(*tasks)
        return summary

    async def _enrol(self, services: Connections, people: Sequence[Person]) -> dict[str, str]:
        provider, subscribers = TestProvider(self.home), dict[str, str]()
        for person in people:
            tag = f"demo-{_digest(person.key.encode())}"
            subscriber_id = await commands.register(services, person.name, f"{tag}@example.com", person.language, tag)
            await commands.add_device(services, subscriber_id, "demo-phone")
            await commands.mandate(services, subscriber_id, tag)
            if person.pictures:
                request = f"{tag}-{_digest(*person.pictures)}"
                await commands.enrol(services, provider, subscriber_id, person.pictures, request)
            for kind, value in person.identifiers:
                request = f"{tag}-{_digest(kind.encode(), value.encode())}"
                await commands.watch(services, provider, subscriber_id, commands.KINDS[kind], value, request)
            what = [f"{len(person.pictures)} picture(s)"] if person.pictures else []
            what += [kind for kind, _ in person.identifiers]
            self.say.print(f"  enrolled [bold]{person.key}[/] with {', '.join(what)}")
            subscribers[person.key] = subscriber_id
        return subscribers

    async def _feed(self, services: Connections, corpus: Corpus, truth: Truth) -> tuple[list[Fed], Seen]:
        feed = Feed(services)

        async def decided(fed: Sequence[Fed]) -> None:
            while await self._patiently(truth.undecided(fed), 1):
                await asyncio.sleep(0.05)

        self.say.print(f"Feeding {len(corpus.items)} signals; the first {CALIBRATION} at full speed.")
        await feed.calibrate(corpus.items, decided)
        self.say.print(f"Capacity is about {2 * feed.rate:.1f} signals/s; going on at half of that.")
        rest = asyncio.create_task(feed.send(corpus.items[CALIBRATION:], 1 / feed.rate))
        while not rest.done():
            await asyncio.wait([rest], timeout=2.0)
            await self._show(truth, feed.fed)
        await rest
        return feed.fed, await self._settle(truth, feed.fed)

    async def _settle(self, truth: Truth, fed: Sequence[Fed]) -> Seen:
        self.say.print("All signals are in; waiting for evidence, notices and removal requests.")
        calm, deadline = 0, time.monotonic() + SETTLE_SECONDS
        seen, before = Seen(), Seen()
        while calm < 3 and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await self._show(truth, fed, closely=True) or seen
            same = (seen.sent, seen.removals, len(seen.cases)) == (before.sent, before.removals, len(before.cases))
            calm = calm + 1 if truth.settled(fed, seen) and same else 0
            before = seen
        return seen

    async def _show(self, truth: Truth, fed: Sequence[Fed], *, closely: bool = False) -> Seen | None:
        seen: Seen | None = await self._patiently(truth.look(fed, closely=closely), None)
        if seen is None:
            self.say.print("  … a service does not answer; asking again")
            return None
        answered = sum(row.answered for row in fed)
        decided = seen.states["DECIDED"] + seen.states["UNREADABLE"]
        merged = sum(case.sighting_count for case in seen.cases.values()) - len(seen.cases)
        packed = sum(case.evidence is not None for case in seen.cases.values())
        removals = ", ".join(f"{n} {state.lower()}" for state, n in sorted(seen.removals.items())) or "none"
        self.say.print(
            f"  {answered:>4} in  {decided:>4} decided  {len(seen.cases):>3} cases  {merged:>4} merged  "
            f"{packed:>3} packs  {seen.acked}/{seen.sent} acknowledged  removals: {removals}",
            soft_wrap=True,
        )
        return seen

    async def _patiently(self, call: Any, otherwise: Any) -> Any:
        """A look that fails because a service is away is made again later, not fatal."""
        try:
            return await call
        except commands.PASSING:
            await asyncio.sleep(0.5)
            return otherwise

    def _explain(self, truth: Truth, fed: Sequence[Fed], seen: Seen) -> None:
        for what, person in truth.missed(fed, seen):
            self.say.print(f"  missed: {person} in {what}")
        for case_id in truth.false_cases(fed, seen):
            self.say.print(f"  false: case {case_id}")
        for row in fed:
            if row.item.refusal and row.reason != row.item.refusal:
                answer = row.reason or "nothing: it was taken in"
                self.say.print(f"  the door should have said {row.item.refusal} and said {answer}")

    async def _judge(self, services: Connections) -> None:
        decision = await gate_commands.judge(services, "demo", "ALL")
        folder = self.out / "reports"
        await gate_commands.save_decision(services, decision, folder)
        for report in decision.reports:
            if report.value_text:
                need = f"{report.sample_size} of {report.required_size} needed"
                self.say.print(f"  {report.name}: {report.outcome.name} ({report.value_text}; sample {need})")


def _digest(*parts: bytes) -> str:
    """A short name of some content: the same in every run, so that a second run finds what the first made."""
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]


def show(say: Console, summary: dict[str, Any], paths: Sequence[tuple[str, Path]]) -> None:
    """The table at the end."""
    table = Table("what", "figure", title="What came of it", title_justify="left", min_width=72)
    rows = {
        "signals fed": summary["signals"],
        "taken in / refused / fed twice": (
            f"{summary['accepted']} / {sum(summary['refused'].values())} / {summary['duplicates']}"
        ),
        "refused because": ", ".join(f"{n} {reason}" for reason, n in summary["refused"].items()) or "–",
        "pictures that could not be read": summary["unreadable"],
        "cases opened": f"{summary['cases_opened']}  {summary['cases_by_kind']}",
        "signals that joined a case (merged)": summary["merged"],
        "signals left to reviewers": summary["in_review"],
        "cases about somebody who is not in it": summary["false_cases"],
        "people who were missed": summary["missed"],
        "notices acknowledged / sent": f"{summary['notifications_acked']} / {summary['notifications_sent']}",
        "evidence packs verified / built": f"{summary['evidence_packs_verified']} / {summary['evidence_packs']}",
        "removal requests": f"{summary['removal_requests']}  {summary['removal_by_state']}",
        "events put aside (dead letters)": summary["dead_letters"],
        "found → case, milliseconds": "p50 {p50}, p95 {p95}, max {max}".format(**summary["latency_ms"]),
        "seconds in all, signals a second": f"{summary['wall_s']} s, {summary['signals_per_s']}/s",
    }
    for what, figure in rows.items():
        table.add_row(what, str(figure))
    say.print(table)
    for what, path in paths:
        say.print(f"{what:<18} {path}", soft_wrap=True)


def good(summary: dict[str, Any]) -> bool:
    """What the demo promises."""
    packs = summary["evidence_packs"]
    p95 = summary["latency_ms"]["p95"]
    return bool(
        summary["false_cases"] == summary["missed"] == summary["dead_letters"] == 0
        and summary["notifications_acked"] == summary["notifications_sent"]
        and summary["evidence_packs_verified"] == packs == summary["cases_opened"]
        and p95 is not None
        and p95 < 2000
    )


def _started(run: str, say: Console) -> Corpus | None:
    """What to feed, and a system that takes it; None where it did not start. One's own data is read first, since it may
    be none; the shipped pictures are drawn while the system starts."""
    images, posts = os.environ.get("IMAGES"), os.environ.get("POSTS")
    corpus = own(Path(images) if images else None, Path(posts) if posts else None, run) if images or posts else None
    say.print("Starting PostgreSQL, NATS and the five services; preparing pictures meanwhile.")
    with subprocess.Popen([sys.executable, "-m", "services.console.supervisor", "up", "--demo"]) as starting:
        corpus = corpus or shipped(ROOT / ".cache" / "pictures", run)
    return corpus if starting.returncode == 0 else None


def main() -> int:
    """Exit status: 0 as promised, 1 not as promised, 2 could not run, 130 interrupted."""
    home, out = Home.from_env(), ROOT / "var" / "demo"
    out.mkdir(parents=True, exist_ok=True)
    say = Console(highlight=False)
    try:
        status = _run(home, out, say)
    except KeyboardInterrupt:
        say.print("Interrupted.")
        status = 130
    except grpclib.GRPCError as error:
        say.print(f"The demo could not run: a service refused with {reason_of(error)}.")
        status = DEMO_CANNOT
    except (ValueError, OSError, TimeoutError, CannotDo, HomeUnusable) as error:
        say.print(f"The demo could not run: {type(error).__name__}: {error}")
        status = DEMO_CANNOT
    if os.environ.get("DEMO_EXIT") == "1":
        subprocess.call([sys.executable, "-m", "services.console.supervisor", "down"])
    elif status != DEMO_CANNOT:
        say.print("The system is up: `.venv/bin/jikimi case list`, `… case replay ID`; `make down` stops it.")
    return status


def _run(home: Home, out: Path, say: Console) -> int:
    run = time.strftime("%y%m%d%H%M%S")
    corpus = _started(run, say)
    if corpus is None:
        return DEMO_CANNOT
    summary = asyncio.run(Demo(home, out, run, say).play(corpus))
    (out / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    paths = [
        ("summary", out / "summary.json"),
        ("evidence packs", out / "evidence"),
        ("gate reports", out / "reports"),
        ("logs", home.logs),
    ]
    show(say, summary, paths)
    return 0 if good(summary) else 1


if __name__ == "__main__":
    sys.exit(main())
