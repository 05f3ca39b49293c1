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
    FACE_TILTED = "FACE_TILTED"
    FACE_CUT_OFF = "FACE_CUT_OFF"
    FACE_COVERED = "FACE_COVERED"
    STRICTER_FOR_CHANNEL = "STRICTER_FOR_CHANNEL"


@dataclass(frozen=True)
class FaceQuality:
    """How much a face can tell.

    side_px: shorter side of the box in pixels of the picture; eye_distance_px likewise. sharpness: variance
    of the Laplacian of the aligned grey crop. contrast: standard deviation of its grey values. yaw: distance
    of the nose from the middle of eyes and mouth in eye distances (0 frontal, about .35 at 30°). detection:
    the detector's score, 0..1. visible: share of the aligned crop that lies inside the picture, 0..1.
    turn_deg, tilt_deg: sideways and up-and-down angle off the camera by fr_pose, never negative; covered: how
    far the face looks covered by something, from 0 on it surely does (rules/covering.yaml); None while it was
    not asked, which is no fault.
    """

    side_px: float
    eye_distance_px: float
    sharpness: float
    contrast: float
    yaw: float
    detection: float
    visible: float = 1.0
    turn_deg: float | None = None
    tilt_deg: float | None = None
    covered: float | None = None


@dataclass(frozen=True)
class QualityFloor:
    """Least values of a FaceQuality, and the most yaw, angles and covering; the defaults ask for nothing."""

    eye_distance_px: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    visible: float = 0.0
    yaw: float = math.inf
    turn_deg: float = math.inf
    tilt_deg: float = math.inf
    covered: float = math.inf

    def faults(self, quality: FaceQuality) -> tuple[Reason, ...]:
        """What is wrong with a face, worst first; empty when it passes."""
        turned = quality.yaw > self.yaw or (quality.turn_deg or 0.0) > self.turn_deg
        checks = (
            (quality.eye_distance_px < self.eye_distance_px, Reason.FACE_TOO_SMALL),
            (quality.contrast < self.contrast, Reason.FACE_TOO_FLAT),
            (quality.visible < self.visible, Reason.FACE_CUT_OFF),
            (quality.covered is not None and quality.covered > self.covered, Reason.FACE_COVERED),
            (quality.sharpness < self.sharpness, Reason.FACE_BLURRED),
            (turned, Reason.FACE_TURNED),
            ((quality.tilt_deg or 0.0) > self.tilt_deg, Reason.FACE_TILTED),
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
    channel_adds: Mapping[str, float]
    unusable: QualityFloor
    poor: QualityFloor
    template: QualityFloor
    calibrated: int = 0
    """Changes that labels called for and people allowed (domain/calibration.py); stands in no file."""

    def __post_init__(self) -> None:
        ordered = -1 < self.look_again <= self.clear < 1 and -1 < self.second_review <= self.second_match < 1
        added = (self.least_margin, self.tighten_per_decade, self.minor_adds, self.poor_quality_adds)
        adding = min(*added, *self.channel_adds.values()) >= 0
        if not (ordered and adding and 0 <= self.first_weight <= 1 and self.reference_gallery >= 1):
            raise ValueError(f"rules {self.id}-{self.version} contradict themselves")

    @property
    def name(self) -> str:
        """What decisions record: id and version, never the values."""
        return f"{self.id}-{self.version}" + (f".{self.calibrated}" if self.calibrated else "")

    @property
    def model_ids(self) -> tuple[str, str]:
        """Of both embedders whose scores the thresholds judge."""
        return self.model_id, self.second_model_id

    def grown(self, gallery_size: int) -> float:
        """What every threshold gains with the gallery; never negative: a small gallery loosens nothing.

        Among N templates a stranger meets N chances to resemble one, so FPIR ≈ N · FMR (ISO/IEC 19795-1); the
        tail of strangers' scores loses a factor of ten in each `tighten_per_decade`.
        """
        return self.tighten_per_decade * math.log10(max(1.0, gallery_size / self.reference_gallery))

    def stricter_by(self, gallery_size: int, minor: bool, group: str = "") -> float:
        """What the thresholds of MATCH gain: with the gallery, for a minor, and in a channel group."""
        return self.grown(gallery_size) + self.minor_adds * minor + self.channel_adds.get(group, 0.0)

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
    """What a face is. Names a subscriber unless the band is NONE; holds no score but its reach."""

    band: Band
    reasons: tuple[Reason, ...]
    rules: str
    subscriber_id: str | None = None
    template_id: str | None = None
    reach: float | None = field(repr=False, default=None)
    """Highest `second_match` under which this is a MATCH; None where something else decided."""


def rules_from(values: Mapping[str, Any]) -> FaceRules:
    """FaceRules from parsed YAML. Raises ValueError for a missing, unknown or contradictory field."""
    floors = ("unusable", "poor", "template")
    if set(values) != {f.name for f in fields(FaceRules)} - {"calibrated"}:
        raise ValueError("fields differ from FaceRules")
    try:
        adds = {str(group): float(added) for group, added in values["channel_adds"].items()}
        return FaceRules(
            **{**values, "channel_adds": adds, **{name: QualityFloor(**values[name]) for name in floors}}
        )
    except (TypeError, AttributeError) as problem:
        raise ValueError("a field has the wrong type") from problem


def is_near(candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules) -> bool:
    """Whether a face is near enough to somebody that more of it should be known: its pose, a second look."""
    usable = bool(candidates) and not rules.unusable.faults(quality)
    return usable and candidates[0].score >= _gate(rules, gallery_size)


def needs_second_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules, group: str = ""
) -> bool:
    """Whether the first look leaves the face between nobody and clear. Candidates best first."""
    if not is_near(candidates, quality, gallery_size, rules):
        return False
    best = candidates[0]
    enough = best.score >= rules.clear + rules.stricter_by(gallery_size, best.minor, group)
    return not enough or _margin(candidates, second=False) < rules.least_margin


def decide(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules, group: str = ""
) -> Decision:
    """The band of one face, from the nearest subscribers (best first, each once) and, where needed, a second
    look. `group` is the channel group that the picture comes from, empty for none.

    A face of poor quality never gets MATCH, whatever its score.
    """
    faults = rules.unusable.faults(quality)
    if faults:
        return Decision(Band.NONE, faults, rules.name)
    if not candidates:
        return Decision(Band.NONE, (Reason.EMPTY_GALLERY,), rules.name)
    if candidates[0].score < _gate(rules, gallery_size):
        return Decision(Band.NONE, (Reason.BELOW_THRESHOLD,), rules.name)
    if candidates[0].second is None:
        return _by_first_look(candidates, quality, gallery_size, rules, group)
    return _by_second_look(candidates, quality, gallery_size, rules, group)


def _by_first_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules, group: str
) -> Decision:
    best, faults = candidates[0], rules.poor.faults(quality)
    if needs_second_look(candidates, quality, gallery_size, rules, group):
        return _naming(best, Band.REVIEW, (Reason.NO_SECOND_LOOK,), rules)
    if faults:
        return _naming(best, Band.REVIEW, (Reason.POOR_QUALITY, *faults), rules)
    return _naming(best, Band.MATCH, (Reason.CLEAR_MATCH,), rules)


def _by_second_look(
    candidates: Sequence[Candidate], quality: FaceQuality, gallery_size: int, rules: FaceRules, group: str
) -> Decision:
    ranked = sorted(candidates, key=lambda c: -_second(c))
    best, faults = ranked[0], rules.poor.faults(quality)
    # A face that tells little resembles many: it must come nearer to cost a reviewer's time.
    for_review = rules.second_review + rules.grown(gallery_size) + rules.poor_quality_adds * bool(faults)
    if _second(best) < for_review:
        return Decision(Band.NONE, (Reason.SECOND_LOOK_DISAGREES, *faults), rules.name)
    doubts = []
    if _margin(ranked, second=True) < rules.least_margin:
        doubts.append(Reason.AMBIGUOUS_SUBSCRIBER)
    reach = _second(best) - rules.stricter_by(gallery_size, best.minor, group)
    elsewhere = bool(doubts or faults)
    if reach < rules.second_match:
        doubts.append(Reason.SECOND_LOOK_UNSURE)
        doubts += [Reason.STRICTER_FOR_MINOR] * best.minor
        doubts += [Reason.STRICTER_FOR_CHANNEL] * (rules.channel_adds.get(group, 0.0) > 0)
    if faults:
        doubts += [Reason.POOR_QUALITY, *faults]
    if doubts:
        known = None if elsewhere else reach
        return _naming(best, Band.REVIEW, tuple(doubts), rules, known)
    return _naming(best, Band.MATCH, (Reason.SECOND_LOOK_AGREES,), rules, reach)


def _naming(
    who: Candidate, band: Band, reasons: tuple[Reason, ...], rules: FaceRules, reach: float | None = None
) -> Decision:
    return Decision(band, reasons, rules.name, who.subscriber_id, who.template_id, reach)


def _gate(rules: FaceRules, gallery_size: int) -> float:
    """Where a face becomes worth a second look; grows with the gallery so that the share of strangers here
    stays small.
    """
    return rules.look_again + rules.grown(gallery_size)


def _margin(candidates: Sequence[Candidate], second: bool) -> float:
    """Distance from the best to the next subscriber; infinite when there is no other."""
    if len(candidates) < 2:
        return math.inf
    one, other = candidates[:2]
    return _second(one) - _second(other) if second else one.score - other.score


def _second(candidate: Candidate) -> float:
    """The second opinion; a template without one ranks below every other."""
    return -1.0 if candidate.second is None else candidate.second
