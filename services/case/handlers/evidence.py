"""Who reads a pack, and how is that written down?"""

from __future__ import annotations

from datetime import datetime

from misuse.common.v1.access_pb2 import Purpose, Role
from services.case import records
from services.case.domain.cases import Case
from services.case.domain.custody import Touch
from services.case.domain.rules import Rules
from services.case.ports import PackSummary, Unit, Who
from services.chassis.errors import FailedPrecondition, NotFound

TOUCHES_AT_MOST = 200
"""Entries about whole packs in one chain of custody, the newest; all of them are in the case log."""


async def read_pack(
    unit: Unit, case_id: str, version: int, owner: str, rules: Rules, now: datetime, who: Who
) -> tuple[PackSummary, bytes]:
    """A pack of a case; the reading is recorded. A merged case without a pack of its own answers with its
    root's, a superseded version with its manifest and signature. Raises NotFound, FailedPrecondition
    NOT_PACKED_YET.
    """
    case = await unit.cases.get(case_id)
    if case is None or (owner and case.subscriber_id != owner):
        raise NotFound("CASE_UNKNOWN", "There is no such case.")
    found = None
    # A version is counted per case: one that was announced before a merge is asked for by the merged id.
    for candidate in (case_id, case.root_case_id) if version else (case.root_case_id, case_id):
        found = found or await unit.evidence.pack(candidate, version)
    if found is None and version:
        raise NotFound("PACK_UNKNOWN", "The case has no pack of this version.")
    if found is None:
        raise FailedPrecondition(
            "NOT_PACKED_YET", "No evidence is packed yet.", violations=[("case", "NOT_PACKED_YET")]
        )
    summary, archive = found
    await note(unit, case, summary, "READ", Purpose.Name(who.purpose), rules, now, who)
    return summary, archive


async def note(
    unit: Unit, case: Case, pack: PackSummary, action: str, why: str, rules: Rules, now: datetime, who: Who
) -> None:
    """Writes down that somebody touched a whole pack, without changing it: in the log, and in its chain of custody."""
    digest = pack.manifest_sha256
    record = records.evidence(
        case,
        pack.pack_id,
        action,
        digest,
        pack.items,
        rules.evidence_version,
        now,
        who=who,
        pack_version=pack.version,
    )
    unit.record(case.subscriber_id, record)
    touch = Touch(action, now, person(who), why, digest.hex(), digest.hex(), version=pack.version)
    await unit.evidence.touch(pack.case_id, case.subscriber_id, touch)


def person(who: Who) -> str:
    """Who acted, as a chain of custody names them."""
    role = Role.Name(who.role).removeprefix("ROLE_").lower()
    return f"{role}:{who.ref}" if who.ref else "service:case"
