"""How is what is wrong about a subscriber set right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.case import records
from services.case.domain.people import check_profile
from services.case.domain.rights import Correction, Entry, RightsRequest
from services.case.handlers import subscribers
from services.case.ports import Unit, Who

_FIELDS = {
    Entry.DISPLAY_NAME: "display_name",
    Entry.CONTACT_EMAIL: "contact_email",
    Entry.GUARDIAN_NAME: "guardian_name",
}


async def correct(
    unit: Unit, request: RightsRequest, corrections: Sequence[Correction], rule_version: str, now: datetime, who: Who
) -> None:
    """Puts the right values in the place of the wrong ones; which entries is recorded, the values are not. Raises
    NotFound, and what `check_profile` raises."""
    subscriber_id = request.subscriber_id or ""
    subscriber = await subscribers.locked(unit, subscriber_id)
    profile = await unit.subscribers.profile(subscriber_id)
    if profile is None:
        raise subscribers.unknown()
    right = {_FIELDS[each.entry]: each.content for each in corrections if each.entry in _FIELDS}
    languages = [each.content for each in corrections if each.entry is Entry.LANGUAGE]
    changed, language = replace(profile, **right), languages[0] if languages else subscriber.language
    check_profile(changed, language)
    if right or languages:
        await unit.subscribers.correct(subscriber_id, changed, language, now)
    for each in corrections:
        told = records.rights_follow(request, "CORRECTED", rule_version, now, who, entry=each.entry.value)
        unit.record(request.rights_request_id, told)
