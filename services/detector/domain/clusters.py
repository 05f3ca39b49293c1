"""Which contents of one subscriber are the same content."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

MOST_ALSO = 8
"""Further clusters that one content may be near to."""
IDENTICAL = "SHA256"
NEW = "NEW"


class Medium(enum.IntEnum):
    """What a content is; contents of different media are never compared."""

    PICTURE = 1
    TEXT = 2


@dataclass(frozen=True, slots=True)
class Near:
    """An earlier content that the new one is near to: its cluster, by which rule, how far in thousandths."""

    cluster_id: str
    rule: str
    distance_milli: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a content belongs. `also` are further clusters that the same content joins to this one."""

    cluster_id: str
    rule: str
    distance_milli: int
    also: tuple[str, ...] = ()


def place(new_cluster_id: str, near: Iterable[Near]) -> Placement:
    """The nearest cluster, and the others that are near; a cluster of its own where none is.

    Every near pair is named by the later of both, so the groups that `also` connects do not depend on the order
    in which the same contents arrive.
    """
    ranked = sorted(near, key=lambda each: (each.distance_milli, each.cluster_id))
    if not ranked:
        return Placement(new_cluster_id, NEW, 0)
    best = ranked[0]
    others = dict.fromkeys(each.cluster_id for each in ranked if each.cluster_id != best.cluster_id)
    return Placement(best.cluster_id, best.rule, best.distance_milli, tuple(others)[:MOST_ALSO])


def joined(placements: Iterable[Placement]) -> Placement | None:
    """The placement of a decision that rests on several contents: the first one's, all others beside it."""
    listed = list(placements)
    if not listed:
        return None
    first = listed[0]
    others = dict.fromkeys(c for each in listed for c in (each.cluster_id, *each.also) if c != first.cluster_id)
    return Placement(first.cluster_id, first.rule, first.distance_milli, tuple(others)[:MOST_ALSO])
