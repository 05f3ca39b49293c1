"""What does a platform's reply say, and which request is it about?

A reply is read by patterns that are data (rules/replies.yaml). Only one clear reading moves a request; everything else
goes to a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from services.removal.domain.policy import Policy
from services.removal.domain.states import Move

LONGEST_TEXT = 64 * 1024
"""Characters of a reply that are read."""
MOST_REFERENCES = 16
MOST_REPLIES = 100
"""Replies about one request that are taken."""
_ATTEMPT_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
MOVES = {
    "ACCEPTED": Move.ACCEPT,
    "REJECTED": Move.REJECT,
    "REMOVED": Move.REPORT_REMOVED,
    "TEMP_BLOCKED": Move.BLOCK,
    "DEINDEXED": Move.DEINDEX,
}


class Outcome(StrEnum):
    """What became of a reply."""

    APPLIED = "APPLIED"
    UNCLEAR = "UNCLEAR"
    """A person reads it."""
    NOT_PROVED = "NOT_PROVED"
    """Nobody can tell that it is the platform's; a person reads it."""
    UNMATCHED = "UNMATCHED"
    """It is about no request that we know."""
    REPEATED = "REPEATED"
    """It was there before."""
    TOO_MANY = "TOO_MANY"
    """More were kept about one request than anybody would write."""
    SETTLED = "SETTLED"
    """A person read it."""


@dataclass(frozen=True)
class Reply:
    """What came back. Personal data: the text stays out of `repr`."""

    channel: str
    """HOOK or MAIL."""
    message_id: str
    """What makes it the same when it comes twice, in the words of the sender; at most 998 characters."""
    text: str = field(repr=False)
    quoted: tuple[str, ...] = ()
    """Ids of attempts that its headers or fields name."""
    references: tuple[str, ...] = ()
    """References of the platform that its fields name."""
    status: str = ""
    """A word for a program, where the platform sends one."""
    reason: str = ""
    """A reason code, where the platform sends one."""
    platform: str = ""
    """Who sent it, where that is proved: the secret of a web hook, a signature by DKIM."""
    domains: tuple[str, ...] = ()
    """Domains whose signature the mail bears, as our own relay found."""


@dataclass(frozen=True)
class Reading:
    """What a reply says."""

    move: Move | None
    """None where it is not clear."""
    reason: str = ""
    block: timedelta | None = None


@dataclass(frozen=True)
class Rules:
    """The rules of `rules/replies.yaml`."""

    version: str
    answers: Mapping[str, tuple[re.Pattern[str], ...]]
    yields: Mapping[str, frozenset[str]]
    """A kind, and the kinds beside which it does not count."""
    reasons: Mapping[str, tuple[re.Pattern[str], ...]]
    block: timedelta
    block_days: re.Pattern[str]


def attempt_ids(text: str) -> tuple[str, ...]:
    """Ids of attempts that a text quotes, at most MOST_REFERENCES."""
    return tuple(dict.fromkeys(_ATTEMPT_ID.findall(text.lower())))[:MOST_REFERENCES]


def is_proved(reply: Reply, policy: Policy) -> bool:
    """Whether a reply about a request at `policy` is the platform's own word."""
    if reply.channel == "HOOK":
        return reply.platform == policy.platform
    signed = {domain.lower() for domain in reply.domains}
    return any(own in signed or any(name.endswith(f".{own}") for name in signed) for own in policy.reply_domains)


def read(reply: Reply, policy: Policy, rules: Rules) -> Reading:
    """What it says: by the platform's own word for programs where there is one, else by the patterns."""
    kinds = _stated(reply, policy) or _found(reply.text[:LONGEST_TEXT], rules)
    if len(kinds) != 1:
        return Reading(None)
    [kind] = kinds
    block = _block(reply.text[:LONGEST_TEXT], rules) if kind == "TEMP_BLOCKED" else None
    reason = (reply.reason or _reason(reply.text[:LONGEST_TEXT], rules)) if kind == "REJECTED" else ""
    if kind == "REJECTED" and not reason:
        return Reading(None)
    return Reading(MOVES[kind], reason, block)


def _stated(reply: Reply, policy: Policy) -> set[str]:
    word = reply.status.upper()
    kind = policy.api.words.get(word, word) if policy.api else word
    return {kind} & set(MOVES)


def _found(text: str, rules: Rules) -> set[str]:
    kinds = {kind for kind, patterns in rules.answers.items() if any(pattern.search(text) for pattern in patterns)}
    return {kind for kind in kinds if not kinds & rules.yields.get(kind, frozenset())}


def _reason(text: str, rules: Rules) -> str:
    """The reason of a rejection; empty where none or several are named."""
    found = [reason for reason, patterns in rules.reasons.items() if any(item.search(text) for item in patterns)]
    return found[0] if len(found) == 1 else ""


def _block(text: str, rules: Rules) -> timedelta:
    match = rules.block_days.search(text)
    days = timedelta(days=int(match["days"])) if match else rules.block
    return min(max(days, timedelta(days=1)), rules.block)
