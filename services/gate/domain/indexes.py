"""Were the indexes that decisions rest on current, on every replica?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.gate.domain.kpis import IndexRule, Outcome


@dataclass(frozen=True)
class ReplicaFacts:
    """What one replica said of its index in the window."""

    replica: str
    longest_age_ms: int
    version: int
    """Served when it spoke last."""
    head_version: int
    """Newest committed version that it had heard of then."""


def judge_index(rule: IndexRule, replicas: Iterable[ReplicaFacts]) -> tuple[Outcome, str]:
    """The outcome with its reason, value included: the replica that was behind longest decides."""
    said = list(replicas)
    if not said:
        return Outcome.INCONCLUSIVE, "NO_DATA"
    longest = max(each.longest_age_ms for each in said)
    newest = max(each.head_version for each in said)
    figures = f"{longest} ms of {rule.most_age_ms} ms, {len(said)} replicas, version {newest}"
    if longest > rule.most_age_ms:
        return Outcome.FAILED, f"INDEX_STALE ({figures})"
    return Outcome.PASSED, figures
