"""Finding personal data in text: what callers need of the package."""

from __future__ import annotations

from services.detector.domain.pii.canonical import canonicalise
from services.detector.domain.pii.hits import Combination, Hit, ScanResult
from services.detector.domain.pii.mask import mask, snippet
from services.detector.domain.pii.model import (
    Check,
    Confidence,
    Kind,
    MaskRule,
    NotWatchable,
    TextPart,
    TextTooLong,
)
from services.detector.domain.pii.rules import Rules
from services.detector.domain.pii.scan import RECOGNISERS, Engine, Scanner, WholeText

__all__ = [
    "RECOGNISERS",
    "Check",
    "Combination",
    "Confidence",
    "Engine",
    "Hit",
    "Kind",
    "MaskRule",
    "NotWatchable",
    "Rules",
    "ScanResult",
    "Scanner",
    "TextPart",
    "TextTooLong",
    "WholeText",
    "canonicalise",
    "mask",
    "snippet",
]
