"""Finding personal data in text: what callers need of the package."""

from __future__ import annotations

from services.detector.domain.pii.canonical import canonicalise
from services.detector.domain.pii.mask import mask, snippet
from services.detector.domain.pii.model import (
    Check,
    Combination,
    Confidence,
    Hit,
    Kind,
    MaskRule,
    NotWatchable,
    ScanResult,
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
