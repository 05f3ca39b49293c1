"""How often may a host be asked?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.chassis.fetch.decision import Decision, Verdict
from services.chassis.fetch.rules import FetchRules

_DAY_MS = 86_400_000


@dataclass
class _Host:
    next_ms: float
    day_began_ms: float
    asked: int = 0


class Budget:
    """Spaces the requests to each host and bounds their number a day; of this process."""

    def __init__(self, rules: FetchRules, now_ms: Callable[[], float]) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def spend(self, host: str, crawl_delay_seconds: float) -> Decision:
        """Takes one request from the host's budget, or says DEFER and takes none."""
        rules, now = self._rules.budget, self._now_ms()
        delay = crawl_delay_seconds * 1000
        if delay > rules.max_crawl_delay_ms:
            return self._later("CRAWL_DELAY_TOO_LONG", _DAY_MS)
        known = self._hosts.setdefault(host, _Host(now, now))
        self._hosts.move_to_end(host)
        while len(self._hosts) > rules.max_hosts:
            self._hosts.popitem(last=False)
        if now >= known.day_began_ms + _DAY_MS:
            known.day_began_ms, known.asked = now, 0
        if known.asked >= rules.per_host_a_day:
            return self._later("BUDGET_OF_THE_DAY", known.day_began_ms + _DAY_MS - now)
        if now < known.next_ms:
            return self._later("BUDGET_INTERVAL", known.next_ms - now)
        known.asked += 1
        known.next_ms = now + max(rules.min_interval_ms, delay)
        return Decision(Verdict.ALLOW, "WITHIN_BUDGET", self._rules.version)

    def _later(self, rule_id: str, milliseconds: float) -> Decision:
        return Decision(Verdict.DEFER, rule_id, self._rules.version, max(1, round(milliseconds)))
