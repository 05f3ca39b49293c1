"""How pictures are judged: listed pairs, transforms of originals, and all pairs of strangers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.progress import Progress

from services.detector.adapters.fingerprints import Fingerprint
from services.detector.adapters.known_contents import KnownPictures
from services.detector.adapters.same_picture import (
    DedupRules,
    compare,
    hash_distances,
    judged_by_hashes,
    speaks_against,
)
from services.detector.evaluate_dedup.data import JOINED_LABELS, Data
from services.detector.evaluate_dedup.margins import Margins
from services.detector.evaluate_dedup.plan import Plan
from services.detector.evaluate_dedup.prints import Prints, kept
from services.detector.evaluate_dedup.transforms import CLASSES

Row = dict[str, Any]
MOST_SHOWN = 20
"""Joined pairs of strangers that are named."""
PORTRAITS, OTHERS = "portraits", "other pictures"


@dataclass(frozen=True)
class Changed:
    """What a transform made of an original."""

    original: str
    of: str
    kind: str
    transform: str
    print: Fingerprint


def evaluate(
    data: Data, prints: Prints, rules: DedupRules, plan: Plan, portraits: Sequence[str], progress: Progress
) -> Row:
    """Everything that is measured on pictures; the same for the same data, rules and code."""
    files = sorted({*data.shown, *(name for pair in data.pairs for name in (pair.a, pair.b))})
    looked = {name: prints.of(data.read(name)) for name in progress.track(files, description="pictures")}
    changed = list(_changed(data, prints, portraits, progress))
    margins = Margins(rules)
    strangers = []
    for kind, names in data.strangers():
        if len(names) > 1:
            known = {name: (looked[name], data.thing[name]) for name in names}
            strangers.append(_among_strangers(f"pictures of {kind}", known, rules, margins, progress))
    thing = data.thing
    own = {f"{one.original} {one.transform}": (one.print, thing.get(one.original, one.original)) for one in changed}
    strangers.append(_among_strangers("transforms", own, rules, margins, progress))
    crowd = _index(rules, looked)
    transforms = list(_transforms(changed, looked, rules, margins, crowd, progress))
    return {
        "rules": f"{rules.id}-{rules.version}",
        "pictures": len(files),
        "largest_fingerprint_bytes": max((len(each.to_bytes()) for each in looked.values()), default=0),
        "pairs": list(_pairs(data, looked, rules, plan, margins, crowd, progress)),
        "transforms": transforms,
        "classes": list(_classes(transforms, plan)),
        "strangers": strangers,
        "stranger_pairs": sum(row["pairs"] for row in strangers),
        "strangers_joined": sum(row["joined"] for row in strangers),
        "margins": margins.report(),
    }


def _index(rules: DedupRules, prints: Mapping[str, Fingerprint]) -> KnownPictures:
    """All pictures as contents of one subscriber, as they come back from the table, each in a cluster of its own."""
    index = KnownPictures(rules)
    for name, each in prints.items():
        index.add(name, Fingerprint.from_bytes(each.to_bytes()))
    return index


def _changed(data: Data, prints: Prints, portraits: Sequence[str], progress: Progress) -> Iterator[Changed]:
    originals = [(name, PORTRAITS) for name in portraits] + [(name, OTHERS) for name in data.originals]
    for name, of in progress.track(originals, description="transforms"):
        content = data.read(name)
        for kind, changes in CLASSES.items():
            for transform in changes:
                yield Changed(name, of, kind, transform, prints.of(content, transform))


def _pairs(
    data: Data,
    looked: Mapping[str, Fingerprint],
    rules: DedupRules,
    plan: Plan,
    margins: Margins,
    crowd: KnownPictures,
    progress: Progress,
) -> Iterator[Row]:
    """Listed pairs by label and set: each pair alone, and the earlier one among all pictures."""
    used: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    found: Counter[tuple[str, str]] = Counter()
    for pair in progress.track(data.pairs, description="pairs"):
        new, stored = looked[pair.a], Fingerprint.from_bytes(looked[pair.b].to_bytes())
        verdict = compare(new, stored, rules)
        used[pair.label, pair.set][verdict.rule] += 1
        margins.note(pair.label in JOINED_LABELS, new, stored, verdict.rule)
        found[pair.label, pair.set] += pair.b in {near.cluster_id for near in crowd.near(new)}
    for (label, where), by_rule in sorted(used.items()):
        row: Row = {"label": label, "set": where, "should_join": label in JOINED_LABELS} | _shares(by_rule)
        row["share_among_all"] = round(found[label, where] / row["pairs"], 4)
        yield row | _wanted(row, plan.pairs.get(f"{label}/{where}"))


def _transforms(
    changed: Sequence[Changed],
    looked: Mapping[str, Fingerprint],
    rules: DedupRules,
    margins: Margins,
    crowd: KnownPictures,
    progress: Progress,
) -> Iterator[Row]:
    used: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    found: Counter[tuple[str, str, str]] = Counter()
    for each in progress.track(changed, description="transforms"):
        key = each.kind, each.transform, each.of
        stored = Fingerprint.from_bytes(looked[each.original].to_bytes())
        verdict = compare(each.print, stored, rules)
        used[key][verdict.rule] += 1
        margins.note(True, each.print, stored, verdict.rule)
        found[key] += each.original in {near.cluster_id for near in crowd.near(each.print)}
    for (kind, transform, of), by_rule in used.items():
        row: Row = {"class": kind, "transform": transform, "of": of} | _shares(by_rule)
        yield row | {"share_among_all": round(found[kind, transform, of] / row["pairs"], 4)}


def _classes(transforms: Sequence[Row], plan: Plan) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in transforms:
        groups[row["class"], row["of"]].append(row)
    for (kind, of), rows in groups.items():
        pairs, joined = (sum(row[name] for row in rows) for name in ("pairs", "joined"))
        worst = min(rows, key=lambda row: row["share"])
        row = {"class": kind, "of": of, "pairs": pairs, "joined": joined, "share": round(joined / pairs, 4)}
        row |= {"worst": worst["transform"], "worst_share": worst["share"]}
        yield row | _wanted(row, plan.transforms.get(kind))


def _shares(by_rule: Counter[str]) -> Row:
    total = by_rule.total()
    joined = total - by_rule["none"]
    rules_used = {rule: count for rule, count in sorted(by_rule.items()) if rule != "none"}
    return {"pairs": total, "joined": joined, "share": round(joined / total, 4), "by_rule": rules_used}


def _wanted(row: Row, floor: float | None) -> Row:
    return {} if floor is None else {"floor": floor, "holds": row["share"] >= floor}


def _among_strangers(
    name: str,
    known: Mapping[str, tuple[Fingerprint, str]],
    rules: DedupRules,
    margins: Margins,
    progress: Progress,
) -> Row:
    """Every picture against every other that shows something different: hashes of all, features of those that look most
    alike, which are what the product would ever compare."""
    names = list(known)
    stored = kept([print_ for print_, _ in known.values()])
    shows = np.unique([shown for _, shown in known.values()], return_inverse=True)[1]
    index = KnownPictures(rules)
    for at, print_ in enumerate(stored):
        index.add(names[at], print_)
    joined: set[tuple[int, int]] = set()
    compared = 0
    for at in progress.track(range(len(names)), description=f"strangers: {name}"):
        new = known[names[at]][0]
        others = shows != shows[at]
        distances = hash_distances(new, index.hashes)
        margins.note_strangers(distances, others)
        alike = np.flatnonzero(judged_by_hashes(distances, rules).near & others).tolist()
        near = [other for other in alike if not speaks_against(new, stored[other], rules)]
        for other, compare_with in index.candidates(new, others):
            compared += 1
            margins.note(False, new, stored[other], "none")
            if compare_with(new, stored[other], rules).near_duplicate:
                near.append(other)
        joined |= {(min(at, other), max(at, other)) for other in near}
    same = sum(count * (count - 1) // 2 for count in np.bincount(shows).tolist())
    shown = [[names[a], names[b]] for a, b in sorted(joined)[:MOST_SHOWN]]
    pairs = len(names) * (len(names) - 1) // 2 - same
    row = {"of": name, "pictures": len(names), "pairs": pairs, "joined": len(joined), "joined_pairs": shown}
    return row | {"features_compared": compared}
