"""What does a gate have to say of a history, by a plain calculation over what truly happened?

Each maker draws things that happen, has them recorded, and computes value and outcome from the things themselves: no
record is read, nothing of `services` is used, and every definition is written out once more.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tests.data.histories import CASE_KIND_FACE, CASE_KIND_PRE_UPLOAD, DAY, GROUPS, HOUR, History

REQUIRED, PART = 10, 15
"""Sizes that the judged gates ask for, so that histories on either side of them are common."""
CHANNELS, PER_GROUP, SIGNALS = 5, 4, 36
SHAPES = ("empty", "short", "usual", "usual", "skewed", "doubtful")
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Truth:
    """What a gate has to say."""

    value: float | None
    size_is_enough: bool
    holds: bool
    holds_at_worst: bool
    """With everything that cannot be used counted against it."""

    @property
    def outcome(self) -> str:
        """By the rules of the gates."""
        if self.value is None or not self.size_is_enough:
            return "INCONCLUSIVE"
        if not self.holds:
            return "FAILED"
        return "PASSED" if self.holds_at_worst else "INCONCLUSIVE"


Maker = Callable[[History, random.Random, str], Truth]


def _number(chance: random.Random, shape: str) -> int:
    return {"empty": 0, "short": chance.randrange(REQUIRED)}.get(shape, chance.randrange(REQUIRED, 70))


def _good(chance: random.Random, shape: str, threshold: float) -> float:
    """How likely a thing goes well: near the threshold, or far on one side."""
    if shape == "skewed":
        return chance.choice((0.0, 0.3, 0.999))
    return min(1.0, max(0.0, chance.gauss(threshold + 0.02, 0.06)))


def _doubts(chance: random.Random, shape: str) -> int:
    return chance.randrange(1, 12) if shape == "doubtful" else 0


def _share(hits: int, size: int, bound: Callable[[float], bool], worst: float | None = None) -> Truth:
    if not size:
        return Truth(None, False, False, False)
    value = hits / size
    return Truth(value, size >= REQUIRED, bound(value), bound(value if worst is None else worst))


def _by_parts(
    parts: Mapping[str, Sequence[object]],
    doubts: Mapping[str, int],
    figure: Callable[[Sequence[object], int], tuple[float, float]],
    bound: Callable[[float], bool],
    worst: Callable[[Sequence[float]], float],
    *,
    pool_suffices: bool,
) -> Truth:
    """The worst of the whole and of each part that is large enough; value and value at worst of each."""
    everything = [item for part in parts.values() for item in part]
    if not everything:
        return Truth(None, False, False, False)
    whole = figure(everything, sum(doubts.values()))
    judged = [figure(part, doubts.get(name, 0)) for name, part in parts.items() if len(part) >= PART]
    if not judged and not (pool_suffices and len(everything) >= REQUIRED):
        return Truth(whole[0], False, False, False)
    judged.append(whole)
    value, at_worst = worst([each[0] for each in judged]), worst([each[1] for each in judged])
    return Truth(value, True, bound(value), bound(at_worst))


# --- removal ---


def _removals(
    made: History, chance: random.Random, shape: str, threshold: float
) -> tuple[defaultdict[str, list[object]], Counter[str]]:
    """Platform → (hours until removed or None, hours watched) of each request that was received in the window."""
    good, now = _good(chance, shape, threshold), made.now
    platforms = ("naver", "x") if shape != "skewed" else ("naver",) * 12 + ("x",)
    slow = chance.choice((10, 50, 72, 90))
    parts: defaultdict[str, list[object]] = defaultdict(list)
    for _ in range(_number(chance, shape)):
        platform, age = chance.choice(platforms), chance.uniform(0, 33) * DAY
        receive = now - age
        takes = chance.uniform(0.1, 2 * slow) * HOUR if chance.random() < good else None
        if takes is not None and takes > age:
            takes = None
        ended = takes or (chance.uniform(0.1, 1) * age if chance.random() < 0.3 else None)
        state = chance.choice(("REMOVED", "REMOVED", "TEMP_BLOCKED")) if takes else "UNRESOLVED"
        again = chance.random() < 0.2 and ended is not None and ended > HOUR
        made.request(platform, receive, None if ended is None else receive + ended, state, resubmitted=again)
        if age <= 30 * DAY:
            parts[platform].append((None if takes is None else takes / _MS, age / _MS))
    doubts: Counter[str] = Counter()
    for _ in range(_doubts(chance, shape)):
        receive = now - chance.uniform(2, 29) * DAY
        if chance.random() < 0.5:
            made.request("naver", receive, receive - DAY)
        else:
            made.request("naver", receive, receive + HOUR, "NO_SUCH_STATE")
        doubts["naver"] += 1
    return parts, doubts


def removal_success(made: History, chance: random.Random, shape: str) -> Truth:
    """Removed or blinded of those received."""
    parts, doubts = _removals(made, chance, shape, 0.75)

    def figure(items: Sequence[object], unusable: int) -> tuple[float, float]:
        hits = sum(each[0] is not None for each in items)  # type: ignore[index] # pairs
        return hits / len(items), hits / (len(items) + unusable)

    return _by_parts(parts, doubts, figure, lambda value: value >= 0.75, min, pool_suffices=False)


def time_to_removal(made: History, chance: random.Random, shape: str) -> Truth:
    """The product-limit median."""
    parts, doubts = _removals(made, chance, shape, 0.8)

    def figure(items: Sequence[object], unusable: int) -> tuple[float, float]:
        return _median(items, 0), _median(items, unusable)

    return _by_parts(parts, doubts, figure, lambda value: value <= 72 * 3_600_000, max, pool_suffices=False)


def _median(items: Sequence[object], never: int) -> float:
    ends = [takes for takes, _ in items if takes is not None]  # type: ignore[misc,attr-defined] # pairs
    watched = [age if takes is None else takes for takes, age in items]  # type: ignore[misc,attr-defined] # pairs
    share = 1.0
    for time in sorted(set(ends)):
        at_risk = sum(each >= time for each in watched) + never
        share *= 1 - sum(each == time for each in ends) / at_risk
        if share <= 0.5 + 1e-12:
            return float(time)
    return math.inf


# --- cases ---


def recurrence(made: History, chance: random.Random, shape: str) -> Truth:
    """Closings found again."""
    now, good = made.now, _good(chance, shape, 0.9)
    size = again = 0
    for _ in range(_number(chance, shape)):
        close = now - chance.uniform(25, 95) * DAY
        kind = CASE_KIND_PRE_UPLOAD if chance.random() < 0.1 else CASE_KIND_FACE
        resolution = chance.choice(("REMOVED", "REMOVED", "UNRESOLVED", "FALSE_POSITIVE", "TEMP_BLOCKED"))
        case_id = made.closing(close, resolution, kind)
        gap = None if chance.random() < good else chance.uniform(0.1, 50) * DAY
        if gap is not None and close + gap <= now:
            for _ in range(chance.randrange(1, 3)):
                made.found_again(case_id, close, close + gap, blocked=resolution == "TEMP_BLOCKED")
        else:
            gap = None
        if 30 * DAY <= now - close <= 90 * DAY and kind == CASE_KIND_FACE and resolution != "FALSE_POSITIVE":
            size += 1
            again += gap is not None and (gap <= 30 * DAY or resolution == "TEMP_BLOCKED")
    doubts = _doubts(chance, shape)
    for _ in range(doubts):
        made.closing(now - 40 * DAY, "NO_SUCH_ENDING")
    worst = (again + doubts) / (size + doubts) if size else None
    return _share(again, size, lambda value: value <= 0.10, worst)


def case_latency(made: History, chance: random.Random, shape: str) -> Truth:
    """The 95th of a hundred."""
    good, latencies = _good(chance, shape, 0.95), []
    for _ in range(_number(chance, shape)):
        age = chance.uniform(0.02, 8) * DAY
        takes = chance.uniform(1, 299) if chance.random() < good else chance.choice((301.0, 400.0, None))
        made.decision(made.now - age, None if takes is None else timedelta(seconds=takes), chance.choice(GROUPS))
        if age <= 7 * DAY:
            latencies.append(math.inf if takes is None else timedelta(seconds=takes) / _MS)
    return _rank(latencies, 0.95, REQUIRED, 300_000)


def _rank(values: Sequence[float], share: float, required: int, most: float, never: int = 0) -> Truth:
    if not values:
        return Truth(None, False, False, False)
    ordered, doubted = sorted(values), sorted([*values, *[math.inf] * never])
    value, worst = (each[max(1, math.ceil(share * len(each) - 1e-9)) - 1] for each in (ordered, doubted))
    return Truth(value, len(values) >= required, value <= most, worst <= most)


# --- notices ---


def notices(made: History, chance: random.Random, shape: str) -> Truth:
    """Acknowledged of those handed over."""
    good, size, done = _good(chance, shape, 0.995), 0, 0
    for _ in range(_number(chance, shape)):
        queued = made.now - chance.uniform(0.05, 8) * DAY
        fate = chance.choice(("sent",) * 8 + ("never sent", "superseded", "dead", "by another"))
        word = ("ACKNOWLEDGED",) if chance.random() < good else ()
        if fate == "sent":
            made.notice(queued, "HANDED_OVER", *word)
            counts = made.now - queued <= 7 * DAY
            size, done = size + counts, done + (counts and bool(word))
        elif fate == "never sent":
            made.notice(queued)
        elif fate == "superseded":
            made.notice(queued, "HANDED_OVER", "SUPERSEDED")
        elif fate == "dead":
            made.notice(queued, "INVALID_TOKEN")
        else:
            made.notice(queued, "HANDED_OVER", "ACKNOWLEDGED", publisher="gate")
    doubts = _doubts(chance, shape)
    for _ in range(doubts):
        made.notice(made.now - DAY, "ACKNOWLEDGED")
    return _share(done, size, lambda value: value >= 0.995, done / (size + doubts) if size else None)


# --- channels ---


def coverage(made: History, chance: random.Random, shape: str) -> Truth:
    """Groups with enough signals."""
    counts = Counter[str]()
    for group in () if shape == "empty" else GROUPS:
        wanted = chance.choice((PER_GROUP,) * 9 + (PER_GROUP - 1, 0)) if shape != "short" else chance.randrange(2)
        for _ in range(wanted * (30 if shape == "skewed" and group == "naver" else 1)):
            made.signal(made.now - chance.uniform(0, 29) * DAY, group)
            counts[group] += 1
        made.signal(made.now - chance.uniform(31, 40) * DAY, group)
    if not counts.total():
        return Truth(None, False, False, False)
    value = sum(counts[group] >= PER_GROUP for group in GROUPS) / len(GROUPS)
    return Truth(value, counts.total() >= SIGNALS, value >= 0.85, value >= 0.85)


def onboarding(made: History, chance: random.Random, shape: str) -> Truth:
    """The slowest tenth of new channels."""
    lead: list[float] = []
    for number in range(_number(chance, shape) % 13):
        age = chance.uniform(0, 88) * DAY
        days = chance.uniform(0, 16) if shape != "skewed" else chance.choice((0.5, 60.0))
        live = None if days * DAY > age or chance.random() < 0.05 else made.now - age + days * DAY
        made.onboarding(f"channel-{number}", made.now - age, live)
        if live is not None:
            lead.append((live - (made.now - age)) / DAY)
        elif age > 14 * DAY:
            lead.append(math.inf)
    doubts = _doubts(chance, shape)
    for number in range(doubts):
        made.onboarding(f"odd-{number}", made.now - 5 * DAY, made.now - 6 * DAY)
    return _rank(lead, 0.9, CHANNELS, 14.0, doubts)


# --- purges and rights ---


def purges(made: History, chance: random.Random, shape: str) -> Truth:
    """Both lists beside each other."""
    good, size, done = _good(chance, shape, 0.98), 0, 0
    for _ in range(_number(chance, shape)):
        due = made.now - chance.uniform(1.1, 33) * DAY
        fine = chance.random() < good
        # Done in time; else late, missing, or never listed.
        log = due + (chance.uniform(-1, 1) if fine else chance.uniform(1.01, 1.09)) * DAY
        fate = "listed" if fine else chance.choice(("late", "missing", "never due"))
        made.purge("UPLOAD_CHECK", None if fate == "never due" else due, None if fate == "missing" else log)
        counts = made.now - (log if fate == "never due" else due) <= 30 * DAY
        size, done = size + counts, done + (counts and fine)
    doubts = _doubts(chance, shape)
    for _ in range(doubts):
        made.purge("NO_SUCH_KIND", None, made.now - DAY)
    return _share(done, size, lambda value: value >= 0.98, done / (size + doubts) if size else None)


def rights(made: History, chance: random.Random, shape: str) -> Truth:
    """Answered before the deadline."""
    good = _good(chance, shape, 0.95)
    parts: defaultdict[str, list[object]] = defaultdict(list)
    kinds = ("ACCESS",) * 9 + ("DELETION",) if shape == "skewed" else ("ACCESS", "DELETION", "SUSPENSION")
    for _ in range(_number(chance, shape)):
        kind, age = chance.choice(kinds), chance.uniform(0, 95) * DAY
        received = made.now - age
        takes = chance.uniform(0.1, 10) if chance.random() < good else chance.choice((10.5, 20.0, None))
        answered = None if takes is None or takes * DAY > age else received + takes * DAY
        made.right(kind, received, received + 10 * DAY, answered, chance.choice(("FULFILLED", "REJECTED")))
        if age <= 90 * DAY and (answered is not None or age > 10 * DAY):
            parts[kind].append(answered is not None and answered - received <= 10 * DAY)
    doubts: Counter[str] = Counter()
    for _ in range(_doubts(chance, shape)):
        made.right("ACCESS", made.now - 20 * DAY, made.now - 10 * DAY, made.now - 21 * DAY)
        doubts["ACCESS"] += 1

    def figure(items: Sequence[object], unusable: int) -> tuple[float, float]:
        hits = sum(map(bool, items))
        return hits / len(items), hits / (len(items) + unusable)

    return _by_parts(parts, doubts, figure, lambda value: value >= 0.95, min, pool_suffices=True)


# --- labels ---


def _words(made: History, chance: random.Random, sample_id: str, decision_id: str, good: float) -> str:
    """Has an item labelled somehow; its final word, empty where there is none."""
    word, other = ("MATCH", "NO_MATCH") if chance.random() < good else ("NO_MATCH", "MATCH")
    fate = chance.choice(("agreed",) * 12 + ("adjudicated", "disputed", "alone", "twice by one"))
    said = {
        "agreed": (("aa", word), ("bb", word)),
        "adjudicated": (("aa", word), ("bb", other), ("cc", word)),
        "disputed": (("aa", word), ("bb", other)),
        "alone": (("aa", word),),
        "twice by one": (("aa", word), ("aa", word)),
    }[fate]
    for who, verdict in said:
        made.label(sample_id, decision_id, who, verdict, "ADJUDICATOR" if who == "cc" else "REVIEWER")
    return word if fate in ("agreed", "adjudicated") else ""


def precision(made: History, chance: random.Random, shape: str) -> Truth:
    """Right of those that people settled."""
    good = _good(chance, shape, 0.90)
    size = _number(chance, shape)
    sample_id, items = made.sample("FaceMatchEvalReport_v1", {"": (1_000, size)})
    words = [_words(made, chance, sample_id, each, good) for each in items[""]]
    return _share(words.count("MATCH"), sum(map(bool, words)), lambda value: value >= 0.90)


def false_positives(made: History, chance: random.Random, shape: str) -> Truth:
    """Wrong of those that people settled, groups by their alerts."""
    good = _good(chance, shape, 0.95)
    drawn = {group: (chance.randrange(70, 900), _number(chance, shape)) for group in GROUPS[:3]}
    sample_id, items = made.sample("FalsePositiveAnalysisReport_v1", drawn)
    settled = {
        group: [word for each in ids if (word := _words(made, chance, sample_id, each, good))]
        for group, ids in items.items()
    }
    known = {group: words for group, words in settled.items() if words}
    if not known:
        return Truth(None, False, False, False)
    total = sum(drawn[group][0] for group in known)
    rates = [drawn[group][0] / total * words.count("NO_MATCH") / len(words) for group, words in known.items()]
    fewest = min(map(len, settled.values()))
    return Truth(sum(rates), fewest >= REQUIRED, sum(rates) <= 0.07, sum(rates) <= 0.07)


MAKERS: Mapping[str, Maker] = {
    "FaceMatchEvalReport_v1": precision,
    "FalsePositiveAnalysisReport_v1": false_positives,
    "CaseLatencyReport_v1": case_latency,
    "NotificationReliabilityReport_v1": notices,
    "RemovalSuccessRateReport_v1": removal_success,
    "PlatformTTRReport_v1": time_to_removal,
    "RepostRecurrenceReport_v1": recurrence,
    "ChannelCoverageReport_v1": coverage,
    "ChannelOnboardingLeadtimeReport_v1": onboarding,
    "PurgeAuditReport_v1": purges,
    "RightsRequestSLAReport_v1": rights,
}
"""Who makes a history for which report."""
