"""Which public guidance does a case get, and what did the subscriber do with it?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from services.case import records
from services.case.domain.cases import Case
from services.case.domain.guidance import Attached, Guidance, Outcome
from services.case.domain.rules import Rules
from services.case.handlers.cases import lock_root
from services.case.ports import PACK, Unit, Who
from services.chassis.errors import NotFound


def with_guidance(
    attached: Sequence[Attached], guidance: Guidance, finds: Collection[tuple[str, str]], now: datetime
) -> tuple[Sequence[str], Sequence[Attached]]:
    """(new paths, all paths) of a case in which that was found, as (source type, kind of match); what is attached
    already stays."""
    known = {path.path_id for path in attached}
    new = [path_id for path_id in guidance.for_finds(finds) if path_id not in known]
    return new, [*attached, *(Attached(path_id, guidance.version, now) for path_id in sorted(new))]


async def attach_guidance(unit: Unit, root: Case, new: Sequence[str], version: str, now: datetime) -> None:
    """Attaches paths to a case and records it."""
    await unit.evidence.attach_guidance(root.case_id, root.subscriber_id, new, version, now)
    unit.record(root.subscriber_id, records.guidance(root, "ATTACHED", new, version, now))


async def take_outcome(
    unit: Unit,
    subscriber_id: str,
    case_id: str,
    path_id: str,
    outcome: Outcome,
    rules: Rules,
    now: datetime,
    who: Who,
) -> str:
    """Records what the subscriber did with a path; the evidence is packed anew. Returns the root's id. Raises NotFound
    CASE_UNKNOWN, GUIDANCE_UNKNOWN.
    """
    root = await lock_root(unit, case_id, subscriber_id)
    path = await attached(unit, root.case_id, path_id)
    await unit.evidence.answer_guidance(root.case_id, path_id, outcome, now)
    record = records.guidance(root, "ANSWERED", [path_id], path.version, now, outcome=outcome.name, who=who)
    unit.record(root.subscriber_id, record)
    await unit.remind(PACK, {root.case_id: (now + rules.repack_after, "")})
    return root.case_id


async def attached(unit: Unit, case_id: str, path_id: str) -> Attached:
    """A path of a case. Raises NotFound GUIDANCE_UNKNOWN."""
    for path in (await unit.evidence.guidance([case_id]))[case_id]:
        if path.path_id == path_id:
            return path
    raise NotFound("GUIDANCE_UNKNOWN", "This guidance is not attached to the case.")
