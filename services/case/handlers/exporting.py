"""How does a case leave as one archive that anybody can check?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.json_format import MessageToDict

from misuse.log.v1.record_pb2 import LogRecord
from services.case import records
from services.case.domain.archive import MANIFEST, SUPERSEDED, Json, canonical, read_json, walk
from services.case.domain.case_archive import HEADS, LOG, MAX_EXPORT_BYTES, PACKS, Export, build_export, log_line
from services.case.domain.cases import Case
from services.case.domain.custody import Touch, iso
from services.case.domain.rules import Rules
from services.case.handlers.cases import unknown
from services.case.handlers.evidence import TOUCHES_AT_MOST, note, person
from services.case.ports import PackSummary, Sighting, Signer, Timestamps, Unit, Who
from services.chassis.errors import FailedPrecondition, Internal, InvalidInput
from services.chassis.ids import uuid7

_PAGE = 500
_SIGHTINGS_AT_MOST = 10_000


@dataclass(frozen=True)
class Exporting:
    """What an export is sealed with."""

    signer: Signer
    timestamps: Timestamps
    most_bytes: int = MAX_EXPORT_BYTES
    """Size of the largest export."""


async def export_case(
    unit: Unit,
    needs: Exporting,
    rules: Rules,
    case_id: str,
    reason: str,
    head_documents: Sequence[bytes],
    now: datetime,
    who: Who,
) -> tuple[str, bytes]:
    """(Export id, archive) of a case with all that were merged into it; recorded with who and why. Raises NotFound,
    InvalidInput HEADS_MALFORMED, FailedPrecondition EXPORT_TOO_LARGE.
    """
    asked = await unit.cases.get(case_id)
    if asked is None:
        raise unknown()
    tree, _ = await unit.cases.tree(asked.root_case_id)
    root = tree[asked.root_case_id]
    sightings = (await unit.cases.sightings([root.case_id], _SIGHTINGS_AT_MOST))[root.case_id]
    files = {f"{HEADS}{number}.json": _checked(each) for number, each in enumerate(head_documents)}
    for each in sorted(tree):
        files[f"{LOG}{each}.jsonl"] = await _log(unit, each, needs.most_bytes)
    room = needs.most_bytes - sum(map(len, files.values()))
    left_out = await _add_packs(unit, files, tree, room, rules, now, who)
    # Last, for its chain of custody tells of the packs that were checked for it.
    files["case.json"] = canonical(await _case_json(unit, root, tree, sightings))
    if sum(map(len, files.values())) > needs.most_bytes:
        raise FailedPrecondition(
            "EXPORT_TOO_LARGE", "The case is larger than one export.", violations=[("case", "EXPORT_TOO_LARGE")]
        )
    export = Export(uuid7(), root.case_id, now, rules.evidence_version, needs.signer.key_id, reason, left_out)
    built = build_export(export, files, needs.signer.sign)
    archive = built.finished(await needs.timestamps.stamp(built.imprint))
    await _note_export(unit, root, export, built.manifest_sha256, len(sightings), rules, now, who)
    return export.export_id, archive


async def _note_export(
    unit: Unit, root: Case, export: Export, digest: bytes, sightings: int, rules: Rules, now: datetime, who: Who
) -> None:
    version = rules.evidence_version
    record = records.evidence(root, export.export_id, "EXPORTED", digest, sightings, version, now, who=who)
    unit.record(root.subscriber_id, record)
    touch = Touch("EXPORTED", now, person(who), export.reason, after=digest.hex())
    await unit.evidence.touch(root.case_id, root.subscriber_id, touch)


def _checked(document: bytes) -> bytes:
    """A document of heads as it came: whoever checks the archive checks its signature."""
    try:
        value = read_json(document)
        if not isinstance(value, dict) or canonical(value) != document:
            raise ValueError("not canonical")
    except (ValueError, RecursionError):
        bad = [("head_documents", "HEADS_MALFORMED")]
        raise InvalidInput("HEADS_MALFORMED", "Heads are not as the gate gives them.", violations=bad) from None
    return document


async def _log(unit: Unit, chain_id: str, most_bytes: int) -> bytes:
    chain = await unit.log.chain(chain_id)
    lines: list[bytes] = []
    after = size = 0
    while page := await unit.log.entries(chain_id, after, _PAGE):
        for item in page:
            record = await unit.log.open_record(chain.key_owner, item)
            lines.append(log_line(item.entry, None if record is None else _record_json(record)))
            size += len(lines[-1]) + 1
        if size > most_bytes:
            raise FailedPrecondition(
                "EXPORT_TOO_LARGE", "The log is larger than one export.", violations=[("case", "EXPORT_TOO_LARGE")]
            )
        after = page[-1].entry.sequence
    return b"\n".join(lines)


def _record_json(record: LogRecord) -> Json:
    values: Json = MessageToDict(record, preserving_proto_field_name=True)
    return values


async def _add_packs(
    unit: Unit,
    files: dict[str, bytes],
    tree: Mapping[str, Case],
    room: int,
    rules: Rules,
    now: datetime,
    who: Who,
) -> list[str]:
    """Adds packs, the newest first, while there is room. Returns those that had none."""
    left_out = []
    summaries = [summary for case_id in sorted(tree) for summary in await unit.evidence.versions(case_id)]
    for summary in sorted(summaries, key=lambda summary: summary.create_time, reverse=True):
        path = f"{PACKS}{summary.case_id}-v{summary.version}.zip"
        found = await unit.evidence.pack(summary.case_id, summary.version) if summary.size_bytes <= room else None
        if found is None:
            left_out.append(f"{path} {summary.manifest_sha256.hex()}")
            continue
        files[path] = found[1]
        room -= len(found[1])
        if _is_whole(summary, found[1]):
            await note(unit, tree[summary.case_id], summary, "VERIFIED", "before an export", rules, now, who)
    return left_out


def _is_whole(summary: PackSummary, archive: bytes) -> bool:
    """Whether a pack holds its contents; its manifest must be the one that was announced. Raises Internal."""
    there = {member.name: member.content for member in walk(archive).members}
    manifest = there.get(MANIFEST) or b""
    if hashlib.sha256(manifest).digest() != summary.manifest_sha256:
        raise Internal("EVIDENCE_CHANGED", "A stored pack is not the one that was built.")
    return SUPERSEDED not in there


async def _case_json(
    unit: Unit, root: Case, tree: Mapping[str, Case], sightings: Sequence[Sighting]
) -> Json:
    attachments = (await unit.cases.attachments([root.case_id]))[root.case_id]
    custody = (await unit.evidence.touches([root.case_id], TOUCHES_AT_MOST))[root.case_id]
    guidance = (await unit.evidence.guidance([root.case_id]))[root.case_id]
    return {
        "case": _case(root),
        "merged": [_case(case) for case_id, case in sorted(tree.items()) if case_id != root.case_id],
        "sightings": [_sighting(sighting) for sighting in sightings],
        "removal_request_ids": list(attachments.removal_request_ids),
        "guidance": [
            {
                "path_id": path.path_id,
                "guidance_version": path.version,
                "attach_time": iso(path.attach_time),
                "outcome": path.outcome.name,
                "answer_time": iso(path.answer_time) if path.answer_time else "",
            }
            for path in guidance
        ],
        "custody": [touch.as_json() for touch in custody],
    }


def _case(case: Case) -> Json:
    return {
        "case_id": case.case_id,
        "root_case_id": case.root_case_id,
        "subscriber_id": case.subscriber_id,
        "kinds": [kind.name for kind in case.kinds],
        "state": case.state.name,
        "resolution": case.resolution.name,
        "verdict": case.verdict.name,
        "channel_groups": list(case.channel_groups),
        "sighting_count": case.sighting_count,
        "discover_time": iso(case.discover_time),
        "create_time": iso(case.create_time),
        "update_time": iso(case.update_time),
        "latency_ms": case.latency_ms,
        "occurrence": case.occurrence,
        "version": case.version,
    }


def _sighting(sighting: Sighting) -> Json:
    return {
        "sighting_id": sighting.sighting_id,
        "decision_id": sighting.decision_id,
        "case_id": sighting.case_id,
        "kind": sighting.kind.name,
        "channel": sighting.channel,
        "channel_group": sighting.channel_group,
        "platform": sighting.platform,
        "discover_time": iso(sighting.discover_time),
        "create_time": iso(sighting.create_time),
        "rule": sighting.rule,
        "pack_version": sighting.pack_version or 0,
    }
