"""How are removal's rules read from their files? Versioned data beside the code, or in the operator's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml

from services.chassis import yaml_text
from services.removal.domain import following, guards, replies
from services.removal.domain.sight import SightRules

SHIPPED = Path(__file__).parents[1] / "rules"
"""The rules that come with the service."""
Rules = TypeVar("Rules")
_LONGEST = timedelta(days=366)


class RulesError(Exception):
    """A rule is missing or out of bounds; names the file."""


@dataclass(frozen=True)
class RuleBook:
    """All rules, checked."""

    following: following.Rules
    guards: guards.Rules
    replies: replies.Rules


def load_rules(folder: Path | None = None) -> RuleBook:
    """The rules of `<folder>/removal`, where a file stands there, else the shipped ones. Raises RulesError."""
    return RuleBook(
        _load(folder, "following.yaml", _following),
        _load(folder, "guards.yaml", _guards),
        _load(folder, "replies.yaml", _replies),
    )


def _load(folder: Path | None, name: str, read: Callable[[Mapping[str, Any]], Rules]) -> Rules:
    try:
        return read(yaml_text.read(SHIPPED / name, folder, "removal"))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise RulesError(f"{name}: {type(error).__name__}") from None


def _following(data: Mapping[str, Any]) -> following.Rules:
    look, person = data["look"], data["person"]
    return following.Rules(
        version=str(data["version"]),
        sight=SightRules(
            changed_below=_share(look["changed_below"]),
            soft_404=_patterns(look["soft_404"]),
            blinded=_patterns(look["blinded"]),
            wall=_patterns(look["wall"]),
            wall_words=int(look["wall_words"]),
        ),
        look_after=_rising(look["after_hours"]),
        watch_after=_rising(look["watch_hours"]),
        blind=_span(days=look["blind_days"]),
        confirm_after=_span(minutes=look["confirm_after_minutes"]),
        later=_span(minutes=look["later_minutes"]),
        remind_after=_rising(person["remind_hours"]),
        person_gives_up=_span(hours=person["give_up_hours"]),
        most_episodes=_count(data["most_episodes"]),
    )


def _guards(data: Mapping[str, Any]) -> guards.Rules:
    groundless, stop, hosts = data["groundless"], data["stop"], data["two_people"]
    lapses = data["turn"]["lapses_after_seconds"]
    return guards.Rules(
        version=str(data["version"]),
        groundless_window=_span(days=groundless["window_days"]),
        least_decided=_count(groundless["least_decided"]),
        most_groundless=_share(groundless["most_ratio"]),
        turn_lapses_after=_span(seconds=lapses),
        failures_in_a_row=_count(stop["failures_in_a_row"]),
        pause=_span(minutes=stop["pause_minutes"]),
        suffixes=tuple(str(suffix) for suffix in hosts["suffixes"]),
        labels=frozenset(str(label) for label in hosts["labels"]),
    )


def _replies(data: Mapping[str, Any]) -> replies.Rules:
    answers = {str(kind): _patterns(patterns) for kind, patterns in data["answers"].items()}
    yields = {str(kind): frozenset(map(str, others)) for kind, others in data["yields"].items()}
    if set(answers) != set(replies.MOVES) or not set(yields) | set().union(*yields.values()) <= set(replies.MOVES):
        raise ValueError
    block_days = re.compile(data["block_days_pattern"])
    if "days" not in block_days.groupindex:
        raise ValueError
    return replies.Rules(
        version=str(data["version"]),
        answers=answers,
        yields=yields,
        reasons={str(reason): _patterns(patterns) for reason, patterns in data["reasons"].items()},
        block=_span(days=data["block_days"]),
        block_days=block_days,
    )


def _patterns(values: Any) -> tuple[re.Pattern[str], ...]:
    if not values:
        raise ValueError
    return tuple(re.compile(value, re.DOTALL) for value in values)


def _rising(hours: Any) -> tuple[timedelta, ...]:
    spans = tuple(_span(hours=value) for value in hours)
    if not spans or any(later <= earlier for earlier, later in pairwise(spans)):
        raise ValueError
    return spans


def _span(**amount: Any) -> timedelta:
    span = timedelta(**{unit: float(value) for unit, value in amount.items()})
    if not timedelta() < span <= _LONGEST:
        raise ValueError
    return span


def _share(value: Any) -> float:
    if not 0 < float(value) < 1:
        raise ValueError
    return float(value)


def _count(value: Any) -> int:
    if not 1 <= int(value) <= 1_000_000:
        raise ValueError
    return int(value)
