"""Whether a face is a subscriber's: bands, quality and the decision rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class Band(StrEnum):
    """What follows from a face: a case, a person's look, or nothing."""

    MATCH = "MATCH"
    REVIEW = "REVIEW"
    NONE = "NONE"


class Reason(StrEnum):
    """Why a face got its band; safe to show and to keep."""

    EMPTY_GALLERY = "EMPTY_GALLERY"
    FACE_TOO_SMALL = "FACE_TOO_SMALL"
    FACE_TOO_FLAT = "FACE_TOO_FLAT"
    BELOW_THRESHOLD = "BELOW_THRESHOLD"
    CLEAR_MATCH = "CLEAR_MATCH"
    SECOND_LOOK_AGREES = "SECOND_LOOK_AGREES"
    SECOND_LOOK_UNSURE = "SECOND_LOOK_UNSURE"
    SECOND_LOOK_DISAGREES = "SECOND_LOOK_DISAGREES"
    NO_SECOND_LOOK = "NO_SECOND_LOOK"
    AMBIGUOUS_SUBSCRIBER = "AMBIGUOUS_SUBSCRIBER"
    POOR_QUALITY = "POOR_QUALITY"
    STRICTER_FOR_MINOR = "STRICTER_FOR_MINOR"
    FACE_BLURRED = "FACE_BLURRED"
    FACE_TURNED = "FACE_TURNED"


@dataclass(frozen=True)
class FaceQuality:
    """How much a face can tell.

    side_px: shorter side of the box in pixels of the picture; eye_distance_px likewise. sharpness: variance
    of the Laplacian of the aligned grey crop. contrast: standard deviation of its grey values. yaw: distance
    of the nose from the middle of eyes and mouth in eye distances (0 frontal, about .35 at 30°). detection:
    the detector's score, 0..1.
    """

    side_px: float
    eye_distance_px: float
    sharpness: float
    contrast: float
    yaw: float
    detection: float


@dataclass(frozen=True)
class QualityFloor:
    """Least values of a FaceQuality, and the most yaw; the defaults ask for nothing."""

    eye_distance_px: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    yaw: float = math.inf

    def faults(self, quality: FaceQuality) -> tuple[Reason, ...]:
        """What is wrong with a face, worst first; empty when it passes."""
        checks = (
            (quality.eye_distance_px < self.eye_distance_px, Reason.FACE_TOO_SMALL),
            (quality.contrast < self.contrast, Reason.FACE_TOO_FLAT),
            (quality.sharpness < self.sharpness, Reason.FACE_BLURRED),
            (quality.yaw > self.yaw, Reason.FACE_TURNED),
        )
        return tuple(reason for failed, reason in checks if failed)


@dataclass(frozen=True)
class FaceRules:
    """Thresholds of rules/faces.yaml, where each is explained. Cosines, −1..1, unless said otherwise."""

    id: str
    version: int
    model_id: str
    second_model_id: str
    target_fpir: float
    reference_gallery: int
    evaluation: str
    first_weight: float
    look_again: float
    clear: float
    second_match: float
    second_review: float
    least_margin: float
    tighten_per_decade: float
    minor_adds: float
    poor_quality_adds: float
    unusable: QualityFloor
    poor: QualityFloor
    template: QualityFloor

    def __post_init__(self) -> None:
        ordered = -1 < self.look_again <= self.clear < 1 and -1 < self.second_review <= self.second_match < 1
        adding = min(self.least_margin, self.tighten_per_decade, self.minor_adds, self.poor_quality_adds) >= 0
        if not (ordered and adding and 0 <= self.first_weight <= 1 and self.reference_gallery >= 1):
            raise ValueError(f"rules {self.id}-{self.version} contradict themselves")

    @property
    def name(self) -> str:
        """What decisions record: id and version, never the values."""
        return f"{self.id}-{self.version}"

    def stricter_by(self, gallery_size: int, minor: bool, poor: bool) -> float:
        """What every threshold gains; never negative: a small gallery loosens nothing."""
        decades = math.log10(max(1.0, gallery_size / self.reference_gallery))
        return self.tighten_per_decade * decades + self.minor_adds * minor + self.poor_quality_adds * poor

    def fused(self, first: float, second: float) -> float:
        """The second opinion's score from the cosines of both embedders."""
        return self.first_weight * first + (1 - self.first_weight) * second


@dataclass(frozen=True)
class Candidate:
    """A subscriber's best template for one face. Scores stay inside the detector and out of `repr`."""

    subscriber_id: str
    template_id: str
    score: float = field(repr=False)
    """Cosine by the first embedder."""
    second: float | None = field(repr=False, default=None)
    """Fused second opinion, where one was asked for and the template allows it."""
    minor: bool = False


@dataclass(frozen=True)
class Decision:
    """What a face is. Names a subscriber unless the band is NONE; holds no score."""

    band: Band
    reasons: tuple[Reason, ...]
    rules: str
    subscriber_id: str | None = None
    template_id: str | None = None


def rules_from(values: Mapping[str, Any]) -> FaceRules:
    """FaceRules from parsed YAML. Raises ValueError for a missing, unknown or contradictory field."""
    floors = ("unusable", "poor", "template")
    if set(values) != {f.name for f in fields(FaceRules)}:
        raise ValueError("fields differ from FaceRules")
    try:
        return FaceRules(**{**values, **{name: QualityFloor(**values[name]) for name in floors}})
    except TypeError as problem:
        raise ValueError("a field has the wrong type") from problem


def needs_second_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules
) -> bool:
    """Whether the first look leaves the face between nobody and clear. Candidates best first."""
    if not candidates or rules.unusable.faults(quality):
        return False
    best = candidates[0]
    added = rules.stricter_by(gallery_size, best.minor, bool(rules.poor.faults(quality)))
    sure = best.score >= rules.clear + added and _margin(candidates, second=False) >= rules.least_margin
    return best.score >= _gate(rules, gallery_size) and not sure


def decide(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules
) -> Decision:
    """The band of one face, from the nearest subscribers (best first, each once) and, where needed, a second
    look.
    """
    faults = rules.unusable.faults(quality)
    if faults:
        return Decision(Band.NONE, faults, rules.name)
    if not candidates:
        return Decision(Band.NONE, (Reason.EMPTY_GALLERY,), rules.name)
    if candidates[0].score < _gate(rules, gallery_size):
        return Decision(Band.NONE, (Reason.BELOW_THRESHOLD,), rules.name)
    if candidates[0].second is None:
        return _by_first_look(candidates, quality, gallery_size, rules)
    return _by_second_look(candidates, quality, gallery_size, rules)


def _by_first_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules
) -> Decision:
    best = candidates[0]
    if needs_second_look(candidates, quality, gallery_size, rules):
        return _naming(best, Band.REVIEW, (Reason.NO_SECOND_LOOK,), rules)
    return _naming(best, Band.MATCH, (Reason.CLEAR_MATCH,), rules)


def _by_second_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules
) -> Decision:
    ranked = sorted(candidates, key=lambda c: -_second(c))
    best, poor = ranked[0], bool(rules.poor.faults(quality))
    added = rules.stricter_by(gallery_size, best.minor, poor)
    growth = rules.stricter_by(gallery_size, minor=False, poor=False)
    if _second(best) < rules.second_review + growth:
        return Decision(Band.NONE, (Reason.SECOND_LOOK_DISAGREES,), rules.name)
    doubts = []
    if _margin(ranked, second=True) < rules.least_margin:
        doubts.append(Reason.AMBIGUOUS_SUBSCRIBER)
    if _second(best) < rules.second_match + added:
        doubts.append(Reason.SECOND_LOOK_UNSURE)
        doubts += [Reason.POOR_QUALITY] * poor + [Reason.STRICTER_FOR_MINOR] * best.minor
    if doubts:
        return _naming(best, Band.REVIEW, tuple(doubts), rules)
    return _naming(best, Band.MATCH, (Reason.SECOND_LOOK_AGREES,), rules)


def _naming(who: Candidate, band: Band, reasons: tuple[Reason, ...], rules: FaceRules) -> Decision:
    return Decision(band, reasons, rules.name, who.subscriber_id, who.template_id)


def _gate(rules: FaceRules, gallery_size: int) -> float:
    """Where a face becomes worth a second look; grows with the gallery so that the share of strangers here
    stays small.
    """
    return rules.look_again + rules.stricter_by(gallery_size, minor=False, poor=False)


def _margin(candidates: Sequence[Candidate], second: bool) -> float:
    """Distance from the best to the next subscriber; infinite when there is no other."""
    if len(candidates) < 2:
        return math.inf
    one, other = candidates[:2]
    return _second(one) - _second(other) if second else one.score - other.score


def _second(candidate: Candidate) -> float:
    """The second opinion; a template without one ranks below every other."""
    return -1.0 if candidate.second is None else candidate.second
