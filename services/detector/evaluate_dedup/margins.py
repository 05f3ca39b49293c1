"""How far the nearest strangers stay from each threshold, and how far copies lie beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.face_photographs import face_agreement
from services.detector.adapters.fingerprints import Fingerprint
from services.detector.adapters.same_picture import (
    DedupRules,
    HashColumns,
    HashDistances,
    hash_distances,
    point_agreement,
)

_PERCENTILES = (1, 5, 10, 50)


@dataclass
class Margins:
    """Collects, pair by pair, what each rule measures."""

    rules: DedupRules
    _nearest: dict[str, float] = field(default_factory=dict)
    _copies: dict[str, list[float]] = field(default_factory=dict)

    def note(self, copy: bool, new: Fingerprint, stored: Fingerprint, rule: str) -> None:
        """One pair; `rule` is the one that joined it. Copies count for that rule alone."""
        measured = self._measured(new, stored)
        if copy:
            for name, value in measured.items():
                if name.startswith(rule):
                    self._copies.setdefault(name, []).append(value)
            return
        for name, value in measured.items():
            self._note_stranger(name, value)

    def note_strangers(self, found: HashDistances, which: NDArray[np.bool_]) -> None:
        """The hashes of one picture and many, of which only some are strangers."""
        which = which & (found.quality >= self.rules.least_quality)
        for name, values, where in self._hash_rules(found):
            chosen = values[which & where]
            if len(chosen):
                self._note_stranger(name, float(chosen.min()))

    def _hash_rules(self, found: HashDistances) -> list[tuple[str, NDArray[np.uint16], NDArray[np.bool_]]]:
        d, p, other = found.dhash, found.phash, self.rules.other_hash_most
        return [("dhash", d, p <= other), ("phash", p, d <= other), ("pdq", found.pdq, found.pdq >= 0)]

    def _measured(self, new: Fingerprint, stored: Fingerprint) -> dict[str, float]:
        found = hash_distances(new, HashColumns.of([stored]))
        measured = {
            name: float(values[0])
            for name, values, where in self._hash_rules(found)
            if where[0] and found.quality[0] >= self.rules.least_quality
        }
        if len(new.faces) and len(stored.faces):
            measured["face"] = face_agreement(new.faces, stored.faces, self.rules.face_worth_aligning)
        inliers, share = point_agreement(new, stored, replace(self.rules, orb_least_inliers=4))
        if share >= self.rules.orb_least_ratio:
            measured["orb inliers"] = float(inliers)
        if inliers >= self.rules.orb_least_inliers:
            measured["orb share"] = share
        return measured

    def _note_stranger(self, name: str, value: float) -> None:
        best = self._nearest.get(name, value)
        self._nearest[name] = min(best, value) if name in ("dhash", "phash", "pdq") else max(best, value)

    def report(self) -> dict[str, Any]:
        """By measure: threshold, nearest stranger, and percentiles of the copies that this rule joined, worst first."""
        rules = self.rules
        thresholds = {
            "dhash": rules.dhash_most,
            "phash": rules.phash_most,
            "pdq": rules.pdq_most,
            "face": rules.face_least_correlation,
            "orb inliers": rules.orb_least_inliers,
            "orb share": rules.orb_least_ratio,
        }
        return {name: self._row(name, threshold) for name, threshold in thresholds.items()}

    def _row(self, name: str, threshold: float) -> dict[str, Any]:
        values = np.array(self._copies.get(name, []))
        far = name in ("dhash", "phash", "pdq")
        at = [100 - p if far else p for p in _PERCENTILES]
        spread = np.percentile(values, at).round(3).tolist() if len(values) else []
        nearest = self._nearest.get(name)
        return {
            "threshold": threshold,
            "nearest_stranger": None if nearest is None else round(nearest, 3),
            "copies_joined": len(values),
            "copies_percentiles": dict(zip(map(str, _PERCENTILES), spread, strict=False)),
        }
