"""Which limits and refusals hold for fetching? Versioned data, checked when it is read."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from services.chassis import yaml_text

SHIPPED: Final = Path(__file__).parents[1] / "rules" / "fetch.yaml"
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Patterns: TypeAlias = Mapping[str, Sequence[re.Pattern[str]]]


@dataclass(frozen=True)
class RobotsRules:
    """How robots.txt is read (RFC 9309)."""

    max_bytes: int
    cache_ms: int
    unreachable_retry_ms: int
    refusing_statuses: frozenset[int]
    max_hosts: int


@dataclass(frozen=True)
class BudgetRules:
    """How often a host is asked."""

    min_interval_ms: int
    max_crawl_delay_ms: int
    per_host_a_day: int
    max_hosts: int


@dataclass(frozen=True)
class WallRules:
    """How a log-in wall, a CAPTCHA, a paywall or an invitation is known; rule id → patterns."""

    statuses: Mapping[int, str]
    paths: Patterns
    pages: Patterns


@dataclass(frozen=True)
class FetchRules:
    """See services/chassis/rules/fetch.yaml; durations in milliseconds, sizes in bytes."""

    version: str
    token: str
    comment: str
    schemes: frozenset[str]
    ports: frozenset[int]
    max_url_length: int
    max_redirects: int
    max_body_bytes: int
    content_types: frozenset[str]
    connect_ms: int
    read_ms: int
    total_ms: int
    max_in_flight: int
    robots: RobotsRules
    budget: BudgetRules
    walls: WallRules
    not_public: Sequence[Network]
    also_public: Sequence[Network] = ()
    """Counted as public although they are not: for tests, whose platforms are simulated on this machine."""

    @property
    def user_agent(self) -> str:
        """What is sent as User-Agent: who asks, and where to complain."""
        return f"{self.token}/{self.version} ({self.comment})"

    def is_public(self, address: Address) -> bool:
        """Whether the address belongs to the public internet."""
        if any(address in network for network in self.also_public):
            return True
        return not any(address in network for network in self.not_public)


def read_fetch_rules(folder: Path | None = None) -> FetchRules:
    """The rules of `folder`/chassis/fetch.yaml, or those that are shipped. Raises ValueError naming what is wrong."""
    data = yaml_text.read(SHIPPED, folder, "chassis")
    try:
        rules = _rules(data)
    except (KeyError, TypeError, AttributeError, re.error) as problem:
        raise ValueError(f"fetch.yaml: {type(problem).__name__} at {problem}") from problem
    if not rules.not_public or rules.max_redirects > 20 or not 0 < rules.max_body_bytes <= 64 * 1024 * 1024:
        raise ValueError("fetch.yaml: not_public is empty, or a bound is out of bounds")
    if not re.fullmatch(r"[A-Za-z_-]+", rules.token):
        raise ValueError("fetch.yaml: user_agent.token is no product token (RFC 9309, 2.2.1)")
    if rules.robots.cache_ms > 86_400_000 or rules.robots.max_bytes < 500 * 1024:
        raise ValueError("fetch.yaml: robots.txt is kept too long or read too short (RFC 9309, 2.4 and 2.5)")
    return rules


def _rules(data: Mapping[str, Any]) -> FetchRules:
    robots, budget, walls = data["robots"], data["budget"], data["walls"]
    return FetchRules(
        version=str(data["version"]),
        token=str(data["user_agent"]["token"]),
        comment=str(data["user_agent"]["comment"]),
        schemes=frozenset(data["schemes"]),
        ports=frozenset(int(port) for port in data["ports"]),
        max_url_length=int(data["max_url_length"]),
        max_redirects=int(data["max_redirects"]),
        max_body_bytes=int(data["max_body_bytes"]),
        connect_ms=int(data["connect_ms"]),
        read_ms=int(data["read_ms"]),
        total_ms=int(data["total_ms"]),
        max_in_flight=int(data["max_in_flight"]),
        content_types=frozenset(data["content_types"]),
        robots=RobotsRules(
            max_bytes=int(robots["max_bytes"]),
            cache_ms=int(robots["cache_ms"]),
            unreachable_retry_ms=int(robots["unreachable_retry_ms"]),
            refusing_statuses=frozenset(int(status) for status in robots["refusing_statuses"]),
            max_hosts=int(robots["max_hosts"]),
        ),
        budget=BudgetRules(**{name: int(budget[name]) for name in BudgetRules.__dataclass_fields__}),
        walls=WallRules(
            statuses={int(status): str(rule) for status, rule in walls["statuses"].items()},
            paths=_patterns(walls["paths"]),
            pages=_patterns(walls["pages"]),
        ),
        not_public=tuple(ipaddress.ip_network(network) for network in data["not_public"]),
    )


def _patterns(data: Mapping[str, Sequence[str]]) -> Patterns:
    return {rule: tuple(re.compile(pattern) for pattern in patterns) for rule, patterns in data.items()}
