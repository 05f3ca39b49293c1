"""What do the labels of a frozen sample say: which alerts were right, which were not, and how well did people label?

Everything is counted from what log records state. A label that breaks the rules of blind labelling (one person twice,
a third word that is no third person's) settles nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from services.gate.domain.agreement import Agreement, agreement
from services.gate.domain.samples import Alert, Sample, Stratum

REVIEWER, ADJUDICATOR = "REVIEWER", "ADJUDICATOR"
RIGHT, WRONG = "MATCH", "NO_MATCH"
"""The words that decide; a labeller may also say UNSURE, an adjudicator may not."""


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """A label, as its record states it."""

    decision_id: str
    labeller: str
    source: str
    """REVIEWER or ADJUDICATOR."""
    verdict: str
    time: datetime
    review_ms: int
    policy_version: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one item."""

    alert: Alert
    pair: tuple[str, str] | None = None
    """The words of the two labellers, by their references; None before there are two."""
    labelled: int = 0
    """Labellers so far, at most two."""
    word: str = ""
    """RIGHT or WRONG; empty while it is open."""
    adjudicated: bool = False

    @property
    def disputed(self) -> bool:
        """Two people have spoken and a third must."""
        return self.pair is not None and not self.word


def settle(alert: Alert, labels: Iterable[GivenLabel]) -> Settled:
    """The state of an item by its labels: the first two of different people, then the first of a third."""
    blind: dict[str, GivenLabel] = {}
    decided: GivenLabel | None = None
    for label in sorted(labels, key=lambda each: (each.time, each.labeller)):
        if label.source == REVIEWER and len(blind) < 2:
            blind.setdefault(label.labeller, label)
        elif label.source == ADJUDICATOR and len(blind) == 2 and label.labeller not in blind and decided is None:
            decided = label if label.verdict in (RIGHT, WRONG) else None
    if len(blind) < 2:
        return Settled(alert, labelled=len(blind))
    one, other = (blind[labeller].verdict for labeller in sorted(blind))
    if one == other and one in (RIGHT, WRONG):
        return Settled(alert, (one, other), 2, one)
    if decided is not None:
        return Settled(alert, (one, other), 2, decided.verdict, adjudicated=True)
    return Settled(alert, (one, other), 2)


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one stratum."""

    stratum: Stratum
    items: tuple[Settled, ...]
    """Those that count, in the order drawn."""
    void: int
    spare: int
    """Items drawn that are not needed."""

    def words(self) -> list[str]:
        """The final words."""
        return [item.word for item in self.items if item.word]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What is known of a sample."""

    parts: tuple[Part, ...]
    agreement: Agreement
    labellers: int
    review_ms: tuple[int, ...]
    """Times from lease to label, ascending."""
    per_hour: float | None
    """Labels for each hour between the first and the last."""
    other_policy: int
    """Labels given by another labelling policy than the sample cites."""

    @property
    def items(self) -> list[Settled]:
        """All items that count."""
        return [item for part in self.parts for item in part.items]

    @property
    def median_review_ms(self) -> float | None:
        """Median time from lease to label; None where nobody measured it."""
        return median(self.review_ms) if self.review_ms else None

    @property
    def mean_review_ms(self) -> float:
        """Mean of the same, 0 where nobody measured it."""
        return sum(self.review_ms) / len(self.review_ms) if self.review_ms else 0.0


def labelled(sample: Sample, labels: Sequence[GivenLabel], void: Set[str]) -> Labelled:
    """Counts labels against a sample. `void`: decisions that can no longer be labelled; the spare ones of their
    stratum replace them. An item that was labelled to the end before it became void counts all the same."""
    given: defaultdict[str, list[GivenLabel]] = defaultdict(list)
    for label in labels:
        given[label.decision_id].append(label)
    parts = tuple(_part(stratum, items, given, void) for stratum, items in sample.parts())
    counted = [item for part in parts for item in part.items]
    used = [label for item in counted for label in given[item.alert.decision_id]]
    times = sorted(label.time for label in used)
    span = (times[-1] - times[0]) / timedelta(hours=1) if times else 0.0
    return Labelled(
        parts=parts,
        agreement=agreement([item.pair for item in counted if item.pair is not None]),
        labellers=len({label.labeller for label in used}),
        review_ms=tuple(sorted(label.review_ms for label in used if label.review_ms > 0)),
        per_hour=len(used) / span if span > 0 else None,
        other_policy=sum(label.policy_version != sample.papers.policy_version for label in used),
    )


def _part(
    stratum: Stratum, items: Sequence[Alert], given: Mapping[str, Sequence[GivenLabel]], void: Set[str]
) -> Part:
    states = [settle(alert, given.get(alert.decision_id, ())) for alert in items]
    usable = [state for state in states if state.word or state.alert.decision_id not in void]
    counted = usable[: stratum.size]
    return Part(stratum, tuple(counted), len(states) - len(usable), len(usable) - len(counted))
