"""Which versioned rules this process follows, read from the rules folder at start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misuse.common.v1.signal_pb2 import CollectionBasis, SourceType
from services.chassis import yaml_text
from services.detector.adapters import images
from services.detector.adapters.covering import CoveringRules
from services.detector.adapters.gallery import GalleryRules
from services.detector.adapters.ocr import OcrRules
from services.detector.adapters.pii_hyperscan import build_scanner
from services.detector.adapters.redaction import RedactionRules
from services.detector.adapters.same_picture import DedupRules
from services.detector.adapters.same_picture import read_rules as read_dedup_rules
from services.detector.adapters.tiles import TileRules
from services.detector.domain import pii
from services.detector.domain.calibration import CalibrationRules
from services.detector.domain.channels import Channel, read_channels
from services.detector.domain.decisions import IdentifierKind, ReviewRules, scanned_kind
from services.detector.domain.faces import FaceRules, rules_from
from services.detector.domain.ownership import OwnershipRules
from services.detector.domain.reports import ReportRules
from services.detector.domain.signals import CollectionRules
from services.detector.domain.text_similarity import TextDedupRule
from services.detector.domain.uploads import UploadRules

RULES = Path(__file__).parents[1] / "rules"
_REASONS = {
    images.TOO_MANY_BYTES: "IMAGE_TOO_LARGE",
    # The header is cut or broken: to the collector it is no picture.
    images.TRUNCATED: "NOT_AN_IMAGE",
    images.CORRUPT: "NOT_AN_IMAGE",
}
_MASKS = {recogniser.kind: recogniser.mask for recogniser in reversed(pii.RECOGNISERS)}


@dataclass(frozen=True)
class Rules:
    """All rules of the detector."""

    channels: Sequence[Channel]
    ownership: OwnershipRules
    review: ReviewRules
    faces: FaceRules
    gallery: GalleryRules
    tiles: TileRules
    covering: CoveringRules
    collection: CollectionRules
    pictures: DedupRules
    texts: TextDedupRule
    ocr: OcrRules
    pii_file: Path
    uploads: UploadRules
    redaction: RedactionRules
    calibration: CalibrationRules
    reports: ReportRules

    def scanner(self) -> pii.Scanner:
        """A scanner by these rules; takes a second to make and serves one thread at a time."""
        return build_scanner(self.pii_file)


def read_rules(folder: Path | None = None) -> Rules:
    """Reads every file, the operator's below `folder` or the shipped one. Raises ValueError, KeyError or OSError."""

    def chosen(name: str) -> Path:
        return yaml_text.in_force(RULES / name, folder, "detector")

    def load(name: str) -> Any:
        return yaml_text.read(RULES / name, folder, "detector")

    uploads = load("uploads.yaml")
    return Rules(
        channels=read_channels(load("channels.yaml"), _source_types()),
        ownership=OwnershipRules.read(load("ownership.yaml")),
        review=ReviewRules.read(load("review.yaml")),
        faces=rules_from(load("faces.yaml")),
        gallery=GalleryRules.read(load("gallery.yaml")),
        tiles=TileRules.read(load("tiles.yaml")),
        covering=CoveringRules.read(load("covering.yaml")),
        collection=CollectionRules.read(load("collection.yaml"), _source_types(), _bases()),
        pictures=read_dedup_rules(chosen("dedup.yaml")),
        texts=TextDedupRule.parse(chosen("dedup_text.yaml").read_text(encoding="utf-8")),
        ocr=OcrRules.read(load("ocr.yaml")),
        pii_file=chosen("pii.yaml"),
        uploads=UploadRules.read(uploads),
        redaction=RedactionRules.read(uploads["redaction"]),
        calibration=CalibrationRules.read(load("calibration.yaml")),
        reports=_report_rules(load("reports.yaml"), load("channels.yaml")),
    )


def _report_rules(data: Any, channels: Any) -> ReportRules:
    """Raises ValueError for a host that belongs to no channel that is shipped."""
    rules = ReportRules.read(data)
    known = {row["channel"] for row in channels["channels"]}
    if not {*rules.hosts.values(), rules.elsewhere} <= known:
        raise ValueError("reports.yaml: a host belongs to an unknown channel")
    return rules


def _source_types() -> dict[str, int]:
    return {name.removeprefix("SOURCE_TYPE_"): number for name, number in SourceType.items()}


def _bases() -> dict[str, int]:
    return {name.removeprefix("COLLECTION_BASIS_"): number for name, number in CollectionBasis.items()}


def refusal_of_picture(data: bytes) -> str | None:
    """Looks at a picture's header: None when it may come in, else why not, in the words of the door."""
    try:
        images.check_header(data)
    except images.UnreadableImage as problem:
        return _REASONS.get(problem.reason, problem.reason)
    return None


def mask_value(kind: IdentifierKind, value: str) -> str:
    """The value as its owner may see it again: separators and what the kind's mask rule keeps."""
    scanned = scanned_kind(kind)
    rule = _MASKS.get(scanned, pii.MaskRule.ALL) if scanned else pii.MaskRule.ALL
    hit = pii.Hit(
        kind=scanned or pii.Kind.PERSON,
        rule_id="value",
        rule_version=0,
        field="value",
        start=0,
        end=len(value),
        confidence=pii.Confidence.HIGH,
        check=pii.Check.UNKNOWN,
        mask_rule=rule,
        national=False,
        personal=True,
    )
    return pii.mask(value, [hit])
