"""Whom a signal concerns: one decision per subscriber and kind."""

from __future__ import annotations

from services.detector.domain.decisions import (
    Band,
    FaceFinding,
    IdentifierKind,
    MatchKind,
    ReviewRules,
    WatchedHit,
    decide,
    identifier_kind,
    part_of,
)
from services.detector.domain.pii import Check, Confidence, Hit, Kind, MaskRule

RULES = ReviewRules(
    version="1",
    match_from={IdentifierKind.ADDRESS: Confidence.HIGH},
    match_from_default=Confidence.LOW,
    score_retention_days=90,
    signal_memory_days=90,
    capture_days=180,
    content_days=365,
    attempts=4,
    stop_after=5,
)


def hit(kind: Kind = Kind.PHONE, confidence: Confidence = Confidence.LOW, field: str = "text.0") -> Hit:
    return Hit(kind, "r", 1, field, 0, 3, confidence, Check.YES, MaskRule.ALL, False, True, "+821023456789")


def face(who: str, band: Band, part: int = 0, index: int = 0, score: float = 0.5) -> FaceFinding:
    return FaceFinding(part, index, band, who, "t", ("R",), 900, 80, False, "faces-1", score, 0.2)


def test_several_faces_and_hits_of_one_subscriber_are_one_decision_each():
    faces = [face("a", Band.MATCH), face("a", Band.MATCH, part=1), face("", Band.NONE, index=1)]
    watched = [WatchedHit("a", "w1", hit()), WatchedHit("a", "w2", hit(field="metadata.title.0"))]
    found = [(d.subscriber_id, d.kind, d.band, d.parts) for d in decide(faces, watched, RULES)]
    assert [("a", MatchKind.FACE, Band.MATCH, (0, 1)), ("a", MatchKind.PII, Band.MATCH, (0,))] == found


def test_the_surest_face_decides():
    [decision] = decide([face("a", Band.REVIEW, score=0.9), face("a", Band.MATCH, part=1)], [], RULES)
    assert (Band.MATCH, (1,)) == (decision.band, decision.parts)


def test_an_unsure_hit_waits_for_a_person():
    found = [
        WatchedHit("b", "w", hit(Kind.ADDRESS, Confidence.LOW)),
        WatchedHit("c", "w", hit(Kind.ADDRESS, Confidence.HIGH)),
    ]
    assert [Band.REVIEW, Band.MATCH] == [d.band for d in decide([], found, RULES)]


def test_phones_are_told_apart_by_their_number():
    landline = Hit(
        Kind.PHONE, "r", 1, "text.0", 0, 3, Confidence.LOW, Check.YES, MaskRule.ALL, False, True, "+8225551234"
    )
    assert [IdentifierKind.MOBILE_PHONE, IdentifierKind.LANDLINE] == [identifier_kind(hit()), identifier_kind(landline)]


def test_a_field_names_its_part():
    names = ("text.3", "image.1.Artist.0", "metadata.title.0", "metadata.7.0")
    assert [3, 1, None, None] == [part_of(name) for name in names]


def test_scores_stay_out_of_the_repr():
    assert "0.987" not in repr(face("a", Band.MATCH, score=0.987))
