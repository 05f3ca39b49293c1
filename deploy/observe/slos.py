"""How fast may a service level be used up before somebody is told?

Recording rules of the share of bad events over each window, and alerts on two windows at once: the long one says that
it matters, the short one that it still goes on (Google, The Site Reliability Workbook, chapter 5). `factor` is how many
times faster than allowed: at 1 the budget of thirty days lasts thirty days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Rule = dict[str, object]
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Burn:
    """One pair of windows."""

    long: str
    short: str
    factor: float
    severity: str


FAST = (Burn("1h", "5m", 14.4, "page"), Burn("6h", "30m", 6.0, "page"))
SLOW = (Burn("1d", "2h", 3.0, "ticket"), Burn("3d", "6h", 1.0, "ticket"))
"""Factors of the Workbook's table 5-8."""


@dataclass(frozen=True)
class Slo:
    """A service level: the share of events that may be bad, and how bad and all are counted."""

    name: str
    alert: str
    budget: float
    """As the gate of the same figure (services/gate/rules/kpis.yaml)."""
    bad: str
    """PromQL with $window."""
    all: str
    burns: tuple[tuple[str, tuple[Burn, ...]], ...]
    least: float
    """Events within the long window below which nothing is said: of three one may be bad by chance."""
    summary: str

    @property
    def record(self) -> str:
        """Name of the recording rules, without the window."""
        return f"jikimi:{self.name}_bad:ratio_rate"


BOTH = (("BurnsFast", FAST), ("BurnsSlowly", SLOW))
SLOS = (
    Slo(
        "case_latency",
        "CaseLatency",
        0.05,
        "sum(rate(jikimi_case_latency_seconds_count[$window]))"
        ' - sum(rate(jikimi_case_latency_seconds_bucket{le="300.0"}[$window]))',
        "sum(rate(jikimi_case_latency_seconds_count[$window]))",
        BOTH,
        20,
        "Sure finds become cases later than five minutes after their discovery.",
    ),
    Slo(
        "ack",
        "Ack",
        0.005,
        'sum(rate(jikimi_notices_total{outcome=~"expired|undeliverable"}[$window]))',
        'sum(rate(jikimi_notices_total{outcome=~"acknowledged|expired|undeliverable"}[$window]))',
        BOTH,
        100,
        "Notices that were handed to devices are not acknowledged.",
    ),
    Slo(
        "removal",
        "Removal",
        0.25,
        'sum(rate(jikimi_removal_ended_total{outcome="not_gone"}[$window]))',
        "sum(rate(jikimi_removal_ended_total[$window]))",
        # With a quarter allowed to fail, four times is everything: fast is when three quarters do.
        (("BurnsFast", (Burn("6h", "30m", 3.0, "page"),)), ("BurnsSlowly", (Burn("3d", "6h", 1.0, "ticket"),))),
        10,
        "Requests that platforms received end without the content being gone.",
    ),
    Slo(
        "rights",
        "Rights",
        0.05,
        'sum(rate(jikimi_rights_answered_total{outcome="late"}[$window]))',
        "sum(rate(jikimi_rights_answered_total[$window]))",
        (("BurnsFast", (Burn("1d", "2h", 6.0, "page"),)), ("BurnsSlowly", (Burn("3d", "6h", 1.0, "ticket"),))),
        3,
        "Requests of subscribers are answered after their deadline.",
    ),
)


def recording(slos: Sequence[Slo] = SLOS) -> list[Rule]:
    """The share of bad events, and how many there were, by window."""
    rules: list[Rule] = []
    for slo in slos:
        for window in WINDOWS:
            bad, every = (text.replace("$window", window) for text in (slo.bad, slo.all))
            rules.append({"record": f"{slo.record}{window}", "expr": f"({bad}) / ({every})"})
        for window in sorted({burn.long for _, burns in slo.burns for burn in burns}):
            every = slo.all.replace("$window", window).replace("rate(", "increase(")
            rules.append({"record": f"jikimi:{slo.name}_events:increase{window}", "expr": every})
    return rules


def alerts(slos: Sequence[Slo] = SLOS) -> list[Rule]:
    """One alert for each speed."""
    return [
        {
            "alert": f"{slo.alert}{speed}",
            "expr": "\nor ".join(_burning(slo, burn) for burn in burns),
            "labels": {"severity": burns[0].severity, "slo": slo.name},
            "annotations": {"summary": slo.summary, "runbook": f"docs/runbooks/{slo.alert}{speed}.md"},
        }
        for slo in slos
        for speed, burns in slo.burns
    ]


def _burning(slo: Slo, burn: Burn) -> str:
    share = f"{min(burn.factor * slo.budget, 0.999):.4g}"
    return (
        f"({slo.record}{burn.long} > {share} and {slo.record}{burn.short} > {share}"
        f" and jikimi:{slo.name}_events:increase{burn.long} >= {slo.least:g})"
    )
