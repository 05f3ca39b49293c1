"""What came of the demo, compared with what is true: false cases, missed people, latency, evidence, notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpclib

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.common import v1 as common
from jikimi_client.misuse.detector import v1 as detector_api
from jikimi_client.misuse.notify import v1 as notify_api
from services.console import commands
from services.console.client import Connections, reason_of, staff
from services.console.demo.feed import Fed
from services.console.home import SERVICES

FINAL = {"DECIDED", "UNREADABLE"}
LOOKED_UP = 2000
UNDER_WAY = {"DRAFT", "SUBMITTED"}
"""States of a removal request in which the service itself still has something to do at once."""


@dataclass
class Seen:
    """What the system says at one moment."""

    states: Counter[str] = field(default_factory=Counter)
    decisions: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    """Signal id → (decision id, kind, band)."""
    cases: dict[str, case_api.Case] = field(default_factory=dict)
    """Root cases that hold a signal of this run."""
    sightings: dict[str, tuple[str, case_api.Sighting]] = field(default_factory=dict)
    """Decision id → (root case id, sighting)."""
    sent: int = 0
    acked: int = 0
    removals: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0


class Truth:
    """Asks the services, as operators would, and compares."""

    def __init__(self, services: Connections, subscribers: Mapping[str, str]) -> None:
        """`subscribers`: key of a person → subscriber id. What the home held before this moment is not counted."""
        self._services = services
        self._subscribers = subscribers
        self._started = datetime.now(UTC)
        self._notices_before: tuple[int, int] | None = None
        self._decided: dict[str, detector_api.GetSignalStatusResponse] = {}

    async def look(self, fed: Sequence[Fed], *, closely: bool) -> Seen:
        """The system's state now; signals already decided are not asked for again. A glance (not `closely`) leaves
        the sightings out and takes every case of the people for one of this run."""
        seen = Seen()
        await self._signals(fed, seen)
        await self._cases(seen, closely=closely)
        stats = await self._services.stub(
            "notify", notify_api.NotifyServiceStub, staff("OPERATOR", "NOTIFICATION")
        ).get_delivery_stats(notify_api.GetDeliveryStatsRequest())
        before = self._notices_before = self._notices_before or (stats.sent, stats.acknowledged)
        seen.sent, seen.acked = stats.sent - before[0], stats.acknowledged - before[1]
        roots = set(seen.cases)
        for request in await commands.all_removals(self._services):
            new = request.create_time is not None and request.create_time >= self._started
            if new and roots.intersection(request.case_ids):
                seen.removals[str(request.state.name)] += 1
        for service in SERVICES:
            seen.dead_letters += (await commands.dead_letters(self._services, service))[1]
        return seen

    async def undecided(self, fed: Sequence[Fed]) -> int:
        """Signals that were taken in and have no decision yet."""
        seen = Seen()
        await self._signals(fed, seen)
        return sum(count for state, count in seen.states.items() if state not in FINAL)

    async def _signals(self, fed: Sequence[Fed], seen: Seen) -> None:
        stub = self._services.stub("detector", detector_api.SignalServiceStub, staff("OPERATOR", "CASE_HANDLING"))
        ids = [row.item.signal.signal_id for row in _taken(fed)]
        gate = asyncio.Semaphore(16)

        async def ask(signal_id: str) -> None:
            async with gate:
                answer = await stub.get_signal_status(detector_api.GetSignalStatusRequest(signal_id=signal_id))
            if answer.state.name in FINAL:
                self._decided[signal_id] = answer
            else:
                seen.states[str(answer.state.name)] += 1

        await asyncio.gather(*(ask(signal_id) for signal_id in ids if signal_id not in self._decided))
        for signal_id in ids:
            if signal_id in self._decided:
                answer = self._decided[signal_id]
                seen.states[str(answer.state.name)] += 1
                seen.decisions[signal_id] = [
                    (d.decision_id, str(d.kind.name), str(d.band.name)) for d in answer.decisions
                ]

    async def _cases(self, seen: Seen, *, closely: bool) -> None:
        if not closely:
            for subscriber_id in self._subscribers.values():
                seen.cases |= {case.case_id: case for case in await commands.all_cases(self._services, subscriber_id)}
            return
        ours = {d for decisions in seen.decisions.values() for d, _, band in decisions if band == "MATCH"}
        stub = self._services.stub("case", case_api.CaseServiceStub, staff("OPERATOR", "CASE_HANDLING"))
        for subscriber_id in self._subscribers.values():
            for case in await commands.all_cases(self._services, subscriber_id):
                answer = await stub.get_case(case_api.GetCaseRequest(case_id=case.case_id))
                held = {s.decision_id: s for s in answer.sightings if s.decision_id in ours}
                if held and answer.case is not None:
                    seen.cases[case.case_id] = answer.case
                    seen.sightings |= {decision: (case.case_id, s) for decision, s in held.items()}
        for decision in sorted(ours - set(seen.sightings))[:LOOKED_UP]:
            # GetCase shows the newest sightings only; older ones are found by their decision.
            listed = await stub.list_cases(case_api.ListCasesRequest(decision_id=decision))
            for case in listed.cases[:1]:
                kind = next(k for ds in seen.decisions.values() for d, k, _ in ds if d == decision)
                sighting = case_api.Sighting(decision_id=decision, kind=common.MatchKind.from_string(kind))
                seen.cases.setdefault(case.case_id, case)
                seen.sightings[decision] = (case.case_id, sighting)

    def all_held(self, fed: Sequence[Fed], seen: Seen) -> bool:
        """Whether everything is decided and every match lies in a case."""
        decided = sum(seen.states[state] for state in FINAL) == len(_taken(fed))
        matched = {d for ds in seen.decisions.values() for d, _, band in ds if band == "MATCH"}
        return decided and matched == set(seen.sightings)

    def settled(self, fed: Sequence[Fed], seen: Seen) -> bool:
        """Whether nothing more will happen by itself."""
        packed = all(case.evidence is not None for case in seen.cases.values())
        waiting = sum(count for state, count in seen.removals.items() if state in UNDER_WAY)
        # Every post has an address of its own here, so every sighting leads to a removal request of its own.
        filed = sum(seen.removals.values()) >= len(seen.sightings) and waiting == 0
        return self.all_held(fed, seen) and packed and filed and seen.acked == seen.sent

    async def packs(self, seen: Seen, folder: Path, public_keys: Path) -> tuple[int, int]:
        """Saves the latest pack of every case and verifies it offline. Returns (packs, verified)."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.zip"):
            old.unlink()
        files = []
        for case_id in sorted(seen.cases):
            file = folder / f"{case_id}.zip"
            try:
                file.write_bytes(await commands.evidence_pack(self._services, case_id))
            except grpclib.GRPCError as error:
                if reason_of(error) != "NOT_PACKED_YET":
                    raise
                continue
            files.append(file)
        return len(files), await asyncio.to_thread(_verified, files, public_keys)

    def summary(self, fed: Sequence[Fed], seen: Seen, packs: tuple[int, int], wall_s: float) -> dict[str, Any]:
        """The figures of `summary.json`."""
        refused = Counter(row.reason for row in fed if row.reason)
        kinds = Counter(str(case.kinds[0].name) for case in seen.cases.values() if case.kinds)
        opened = sum(kinds[kind] for kind in ("FACE", "PII"))
        new = sum(case.create_time is not None and case.create_time >= self._started for case in seen.cases.values())
        matches = sum(band == "MATCH" for ds in seen.decisions.values() for _, _, band in ds)
        taken = _taken(fed)
        return {
            "signals": len(fed),
            "accepted": len(taken),
            "refused": dict(sorted(refused.items())),
            "duplicates": sum(row.duplicate and row.item.duplicate for row in fed),
            "unreadable": seen.states["UNREADABLE"],
            "cases_opened": opened,
            "cases_by_kind": dict(sorted(kinds.items())),
            "merged": matches - new,
            "in_review": sum(band == "REVIEW" for ds in seen.decisions.values() for _, _, band in ds),
            "false_cases": len(self.false_cases(fed, seen)),
            "missed": len(self.missed(fed, seen)),
            "notifications_sent": seen.sent,
            "notifications_acked": seen.acked,
            "evidence_packs": packs[0],
            "evidence_packs_verified": packs[1],
            "removal_requests": sum(seen.removals.values()),
            "removal_by_state": dict(sorted(seen.removals.items())),
            "dead_letters": seen.dead_letters,
            "latency_ms": _percentiles(self._latencies(fed, seen)),
            "wall_s": round(wall_s, 1),
            "signals_per_s": round(len(fed) / wall_s, 2),
        }

    def false_cases(self, fed: Sequence[Fed], seen: Seen) -> set[str]:
        """Cases that hold a signal in which their subscriber is not."""
        people = {subscriber_id: key for key, subscriber_id in self._subscribers.items()}
        return {
            case_id
            for row in _taken(fed)
            for decision, _, _ in seen.decisions.get(row.item.signal.signal_id, ())
            if decision in seen.sightings
            for case_id, sighting in [seen.sightings[decision]]
            if people[seen.cases[case_id].subscriber_id] not in _truth(row, str(sighting.kind.name))
        }

    def missed(self, fed: Sequence[Fed], seen: Seen) -> list[tuple[str, str]]:
        """(what, person) of enrolled people who are neither in a case nor in review for a signal they are in."""
        missed = []
        for row in _taken(fed):
            decisions = seen.decisions.get(row.item.signal.signal_id, [])
            for kind, people in (("FACE", row.item.faces), ("PII", row.item.named)):
                found = {self._person(seen, decision) for decision, k, _ in decisions if k == kind}
                review = any(k == kind and band == "REVIEW" for _, k, band in decisions)
                missed += [(row.item.what, person) for person in people if person not in found and not review]
        return missed

    def _person(self, seen: Seen, decision: str) -> str:
        if decision not in seen.sightings:
            return ""
        subscriber_id = seen.cases[seen.sightings[decision][0]].subscriber_id
        return next(key for key, value in self._subscribers.items() if value == subscriber_id)

    def _latencies(self, fed: Sequence[Fed], seen: Seen) -> list[float]:
        return [
            (sighting.create_time - sighting.discover_time).total_seconds() * 1000
            for _, sighting in seen.sightings.values()
            if isinstance(sighting.create_time, datetime) and isinstance(sighting.discover_time, datetime)
        ]


def _taken(fed: Sequence[Fed]) -> list[Fed]:
    """Accepted items, each once."""
    return [row for row in fed if row.answered and not row.reason and not row.item.duplicate]


def _truth(row: Fed, kind: str) -> frozenset[str]:
    return row.item.faces if kind == "FACE" else row.item.named


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest rank; None without data."""
    if not values:
        return {"p50": None, "p95": None, "max": None}
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)], 1)

    return {"p50": rank(0.50), "p95": rank(0.95), "max": round(ordered[-1], 1)}


def _verified(files: Sequence[Path], public_keys: Path) -> int:
    if not files:
        return 0
    command = [sys.executable, "-m", "services.case", "evidence", "verify", "--json", "--public-key", str(public_keys)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    try:
        results: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    except ValueError:
        return 0
    return sum(bool(result["valid"]) and int(result["items"]) > 0 for result in results)
