"""What does a host allow a crawler? RFC 9309, read by Protego; here is what a status means, and for how long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from protego import Protego

from services.chassis.fetch.decision import Decision, Verdict
from services.chassis.fetch.rules import FetchRules


@dataclass(frozen=True)
class RobotsFile:
    """What came of asking for a robots.txt."""

    status: int
    """HTTP status after redirects; 0 where none came: unreachable, too many redirects, a refused address."""
    text: bytes = b""


Ask: TypeAlias = Callable[[str], Awaitable[RobotsFile]]
"""Origin ("https://example.org") → its robots.txt."""


@dataclass(frozen=True)
class _Known:
    until_ms: float
    decision: Decision | None
    """For the whole host; None where `rules` decide."""
    rules: Protego | None = None


class Robots:
    """Decides by the robots.txt of each origin, kept for at most a day.

    200: its rules hold. Another 4xx: none exist, everything may be fetched (2.3.1.3). 401, 403, 429: the host refuses
    us. 5xx, silence: complete disallow, asked again later (2.3.1.4).
    """

    def __init__(self, rules: FetchRules, ask: Ask, now_ms: Callable[[], float]) -> None:
        self._rules = rules
        self._ask = ask
        self._now_ms = now_ms
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def decide(self, origin: str, url: str) -> tuple[Decision, float]:
        """(decision, seconds that the host wants between two requests)."""
        known = self._known.get(origin)
        if known is None or known.until_ms <= self._now_ms():
            known = self._read(await self._ask(origin))
            self._known[origin] = known
            self._known.move_to_end(origin)
            while len(self._known) > self._rules.robots.max_hosts:
                self._known.popitem(last=False)
        if known.decision is not None:
            return self._left(known), 0.0
        assert known.rules is not None
        token = self._rules.token
        if not known.rules.can_fetch(url, token):
            return Decision(Verdict.REFUSE, "ROBOTS_DISALLOWED", self._rules.version), 0.0
        delay = known.rules.crawl_delay(token)
        return Decision(Verdict.ALLOW, "ROBOTS_ALLOWED", self._rules.version), max(0.0, float(delay or 0.0))

    def _left(self, known: _Known) -> Decision:
        decision = known.decision
        assert decision is not None
        if decision.verdict is not Verdict.DEFER:
            return decision
        return Decision(
            decision.verdict, decision.rule_id, decision.rules_version, max(1, round(known.until_ms - self._now_ms()))
        )

    def _read(self, file: RobotsFile) -> _Known:
        rules, version, now = self._rules.robots, self._rules.version, self._now_ms()
        if 200 <= file.status < 300:
            text = file.text[: rules.max_bytes].decode("utf-8", "replace").removeprefix("\ufeff")
            return _Known(now + rules.cache_ms, None, Protego.parse(text))
        if file.status in rules.refusing_statuses:
            return _Known(now + rules.cache_ms, Decision(Verdict.REFUSE, "ROBOTS_REFUSED", version))
        if 400 <= file.status < 500:
            return _Known(now + rules.cache_ms, Decision(Verdict.ALLOW, "ROBOTS_ABSENT", version))
        return _Known(
            now + rules.unreachable_retry_ms,
            Decision(Verdict.DEFER, "ROBOTS_UNREACHABLE", version, rules.unreachable_retry_ms),
        )
