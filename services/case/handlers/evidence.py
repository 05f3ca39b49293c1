"""Who reads a pack, and how is that written down?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.common.v1.access_pb2 import Purpose, Role
from services.case import records
from services.case.domain.cases import Case
from services.case.domain.custody import Touch
from services.case.domain.rules import Rules
from services.case.ports import PackSummary, Unit, Who
from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.together import Piece

TOUCHES_AT_MOST = 200
"""Entries about whole packs in one chain of custody, the newest; all of them are in the case log."""


@dataclass(frozen=True, slots=True)
class PackAsked:
    """Somebody wants a pack."""

    case_id: str
    version: int
    """0 for the latest."""
    owner: str
    """Whose cases alone the caller may see; empty for anybody's."""
    who: Who


async def read_packs(
    unit: Unit, pieces: Sequence[Piece[PackAsked]], rules: Rules, now: datetime
) -> Sequence[tuple[PackSummary, bytes]]:
    """Packs of cases; each reading is recorded, as part of what asked for it. A merged case without a pack of its own
    answers with its root's, a superseded version with its manifest and signature. Raises NotFound, FailedPrecondition
    NOT_PACKED_YET for the first that cannot be answered.
    """
    cases = await unit.cases.find({piece.item.case_id for piece in pieces})
    wanted = [_wanted(piece.item, cases.get(piece.item.case_id)) for piece in pieces]
    packs = await unit.evidence.packs({pack for _, candidates in wanted for pack in candidates})
    answers = []
    for piece, (case, candidates) in zip(pieces, wanted, strict=True):
        found = next((packs[pack] for pack in candidates if pack in packs), None)
        if found is None and piece.item.version:
            raise NotFound("PACK_UNKNOWN", "The case has no pack of this version.")
        if found is None:
            raise FailedPrecondition(
                "NOT_PACKED_YET", "No evidence is packed yet.", violations=[("case", "NOT_PACKED_YET")]
            )
        who = piece.item.who
        await piece.within(note(unit, case, found[0], "READ", Purpose.Name(who.purpose), rules, now, who))
        answers.append(found)
    return answers


def _wanted(asked: PackAsked, case: Case | None) -> tuple[Case, Sequence[tuple[str, int]]]:
    """(case, packs that answer, as case and version, the best first)."""
    if case is None or (asked.owner and case.subscriber_id != asked.owner):
        raise NotFound("CASE_UNKNOWN", "There is no such case.")
    # A version is counted per case: one that was announced before a merge is asked for by the merged id.
    sides = (case.case_id, case.root_case_id) if asked.version else (case.root_case_id, case.case_id)
    return case, [(side, asked.version) for side in sides]


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
