"""What does a pack say of itself? `EvidencePackReport.json` for programs, `report.html` for people."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.archive import Json, canonical
from services.case.domain.cases import Case
from services.case.domain.custody import iso
from services.case.domain.evidence import PAGE, REPORT, Item, Pack, custody_of
from services.case.domain.guidance import Attached, Guidance
from services.case.domain.requirements import Claimant, Have, Requirements, pack_report
from services.case.ports import Pages, Sighting, StoredCapture
from services.case.translate import capture_json, decision_json

TEXT_AT_MOST = 1_000
"""Characters of a masked text shown in the page; the whole text lies in the pack beside it."""
PICTURES_AT_MOST = 24
"""Pictures shown in the page, of the newest sightings; the others lie in the pack beside it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of one sighting, read once for all documents."""

    sighting: Sighting
    capture: Mapping[str, Json] = field(repr=False)
    decision: Mapping[str, Json] = field(repr=False)
    masked_text: str = field(repr=False)
    thumbnail: bytes = field(repr=False)

    @property
    def source_type(self) -> str:
        """Kind of source, without its prefix; empty where nothing was taken over."""
        return str(self.capture.get("source_type", "")).removeprefix("SOURCE_TYPE_")

    @property
    def kind(self) -> str:
        """FACE or PII."""
        return self.sighting.kind.name


@dataclass(frozen=True, slots=True)
class Reporting:
    """What the documents of a pack are made of."""

    requirements: Requirements
    guidance: Guidance
    pages: Pages
    root: Case
    pack: Pack
    founds: Sequence[Found]
    claimant: Claimant
    attached: Sequence[Attached]


def found_of(sighting: Sighting, stored: StoredCapture) -> Found:
    """What the detector handed over of a sighting."""
    capture = Capture.FromString(stored.content)
    return Found(
        sighting, capture_json(capture), decision_json(capture), capture.masked_text, capture.redacted_thumbnail
    )


def documents_of(needs: Reporting, packed: Sequence[Item], omitted: Sequence[Item]) -> Mapping[str, bytes]:
    """Both documents. With fewer items packed they become smaller."""
    there = {item.sighting_id for item in packed}
    haves = [_have(found, found.sighting.sighting_id in there) for found in needs.founds]
    report: dict[str, Json] = {
        "report": "EvidencePackReport",
        "case_id": needs.root.case_id,
        "pack_id": needs.pack.pack_id,
        "pack_version": needs.pack.version,
        "create_time": iso(needs.pack.create_time),
        "rule_version": needs.pack.rule_version,
        "verdict": needs.root.verdict.name,
        **pack_report(haves, needs.claimant, needs.requirements),
        "guidance": [_guidance_json(path, needs.guidance) for path in needs.attached],
    }
    page = needs.pages.evidence(_page_facts(needs, report, packed, omitted))
    return {REPORT: canonical(report), PAGE: page}


def _have(found: Found, packed: bool) -> Have:
    return Have(
        sighting_id=found.sighting.sighting_id,
        platform=found.sighting.platform,
        capture=found.capture,
        has_masked_text=bool(found.masked_text),
        has_thumbnail=bool(found.thumbnail),
        packed=packed,
    )


def _guidance_json(attached: Attached, guidance: Guidance) -> Json:
    path = guidance.path(attached.path_id)
    return {
        "path_id": attached.path_id,
        "guidance_version": attached.version,
        "name": dict(path.name) if path else {"ko": attached.path_id, "en": attached.path_id},
        "offers": dict(path.offers) if path else {"ko": "", "en": ""},
        "url": path.url if path else "",
        "phone": path.phone if path else "",
        "attach_time": iso(attached.attach_time),
        "outcome": attached.outcome.name,
        "answer_time": iso(attached.answer_time) if attached.answer_time else "",
    }


def _page_facts(
    needs: Reporting, report: Mapping[str, Json], packed: Sequence[Item], omitted: Sequence[Item]
) -> dict[str, object]:
    root, pack = needs.root, needs.pack
    founds = {found.sighting.sighting_id: found for found in needs.founds}
    judged = report["sightings"]
    assert isinstance(judged, list)  # `pack_report` has made it
    fields = {each["sighting_id"]: each["fields"] for each in judged if isinstance(each, dict)}
    custody = [*pack.touches, *(touch for item in packed for touch in custody_of(pack, item))]
    return {
        "report": report,
        "case": {
            "case_id": root.case_id,
            "kinds": [kind.name for kind in root.kinds],
            "state": root.state.name,
            "verdict": root.verdict.name,
            "discover_time": iso(root.discover_time),
            "create_time": iso(root.create_time),
            "sightings": root.sighting_count,
            "merged_case_ids": sorted(pack.merged_case_ids),
        },
        "pack": {
            "pack_id": pack.pack_id,
            "version": pack.version,
            "create_time": iso(pack.create_time),
            "rule_version": pack.rule_version,
            "key_id": pack.key_id,
            "previous_sha256": pack.previous_sha256,
        },
        "sightings": [
            _sighting_facts(founds[item.sighting_id], fields[item.sighting_id], number)
            for number, item in enumerate(packed)
        ],
        "omitted": [item.sighting_id for item in omitted],
        "custody": [touch.as_json() for touch in sorted(custody, key=lambda touch: touch.time)],
    }


def _sighting_facts(found: Found, fields: Json, number: int) -> dict[str, object]:
    shown = found.thumbnail if number < PICTURES_AT_MOST else b""
    sighting = found.sighting
    return {
        "sighting_id": sighting.sighting_id,
        "kind": sighting.kind.name,
        "channel": sighting.channel,
        "channel_group": sighting.channel_group,
        "platform": sighting.platform,
        "rule": sighting.rule,
        "discover_time": iso(sighting.discover_time),
        "capture": found.capture,
        "decision": found.decision,
        "fields": fields,
        "masked_text": found.masked_text[:TEXT_AT_MOST] + ("…" if len(found.masked_text) > TEXT_AT_MOST else ""),
        "picture": base64.b64encode(shown).decode(),
    }
