"""Which pairs of pictures are the same content, which are not, and which files they are."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

JOINED_LABELS = frozenset({"near_duplicate", "mirror"})
"""Labels of pairs that should be joined; all others must not."""
ORIGINALS = "original_for_transforms"
"""Kind, in the manifest, of pictures of which no copy is there."""


class BadData(Exception):
    """A folder that cannot be evaluated; the text says why."""


@dataclass(frozen=True)
class Pair:
    """Two pictures and what somebody said of them."""

    a: str
    b: str
    label: str
    set: str


@dataclass(frozen=True)
class Data:
    """Pairs as listed, and of every file whom or what it shows, where the manifests say so."""

    base: Path
    pairs: Sequence[Pair]
    shown: Mapping[str, str]
    """File → identity or group, `kind:name`."""
    originals: Sequence[str]

    def read(self, name: str) -> bytes:
        """The bytes of a listed file."""
        return (self.base / name).read_bytes()

    @cached_property
    def thing(self) -> Mapping[str, str]:
        """File → one name for whom or what it shows. Lists name one portrait differently: names that two files with the
        same bytes bear are one."""
        bearer: dict[bytes, str] = {}
        same = []
        for file, name in sorted(self.shown.items()):
            first = bearer.setdefault(hashlib.sha256(self.read(file)).digest(), name)
            same.append((first, name))
        root = _roots(self.shown.values(), same)
        return {file: root[name] for file, name in self.shown.items()}

    def strangers(self) -> Iterator[tuple[str, list[str]]]:
        """Per kind of name its files. Two of one kind with different names show something different; nothing is known
        of two of different kinds, since both may name the same person."""
        kinds: dict[str, list[str]] = {}
        for file, name in sorted(self.shown.items()):
            kinds.setdefault(name.partition(":")[0], []).append(file)
        yield from sorted(kinds.items())

    def portraits(self, most: int) -> list[str]:
        """One picture of each of the first so many groups of near duplicates."""
        chosen: dict[str, str] = {}
        for pair in self.pairs:
            if pair.label in JOINED_LABELS:
                chosen.setdefault(self.shown.get(pair.a, pair.a), pair.a)
        names = sorted(chosen)
        # Evenly from all of them: neighbours in a list are often alike.
        return [chosen[name] for name in names[:: max(1, len(names) // max(1, most))][:most]]


def read_data(folder: Path) -> Data:
    """`folder` holds pairs.csv (a, b, label, set), or a folder neardup that does; files are named from it or from the
    folder above. Raises BadData.
    """
    listing = next((f for f in (folder / "neardup" / "pairs.csv", folder / "pairs.csv") if f.is_file()), None)
    if listing is None:
        raise BadData(f"{folder}: no pairs.csv (a, b, label, set)")
    rows = _rows(listing)
    if not rows or not {"a", "b", "label", "set"} <= rows[0].keys():
        raise BadData(f"{listing}: needs the columns a, b, label, set")
    base = next((b for b in (listing.parent, listing.parent.parent) if (b / rows[0]["a"]).is_file()), None)
    if base is None:
        raise BadData(f"{listing}: {rows[0]['a']} is not there")
    pairs = [Pair(row["a"], row["b"], row["label"], row["set"]) for row in rows]
    pairs = [pair for pair in pairs if (base / pair.a).is_file() and (base / pair.b).is_file()]
    shown: dict[str, str] = {}
    originals: list[str] = []
    for manifest in sorted({listing.parent / "manifest.csv", *base.glob("*/manifest.csv")}):
        for row in _rows(manifest) if manifest.is_file() else []:
            name = row.get("identity") or row.get("group")
            if "file" in row and name and (base / row["file"]).is_file():
                shown[row["file"]] = name
                if row.get("kind") == ORIGINALS:
                    originals.append(row["file"])
    return Data(base, pairs, shown or _grouped(pairs), sorted(originals))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _grouped(pairs: Sequence[Pair]) -> dict[str, str]:
    """Without a manifest: files that any pair connects, but for those of different things, may show the same."""
    files = [file for pair in pairs for file in (pair.a, pair.b)]
    roots = _roots(files, [(pair.a, pair.b) for pair in pairs if pair.label != "different"])
    return {file: f"file:{root}" for file, root in roots.items()}


def _roots(names: Iterable[str], same: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Each name's representative among those that pairs connect."""
    group = {name: name for name in names}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for one, other in same:
        group[root(one)] = root(other)
    return {name: root(name) for name in group}
