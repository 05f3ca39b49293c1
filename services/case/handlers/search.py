"""How do masked texts become searchable, and how is that made good after the tags were lost?"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.rules import Rules
from services.case.domain.search import search_words
from services.case.domain.words import SubscriberState
from services.case.ports import COVER, Unit, Units
from services.chassis.errors import InvalidInput, Unavailable

MOST_CHARACTERS = 128
"""Of what may be searched for."""
_BATCH = 50
SEARCH = "search"
"""Entity of the due work COVER."""


async def _cover_case(units: Units, case_id: str, rules: Rules) -> None:
    """Makes the texts of an incident searchable whose captures are stored; harmless to repeat."""
    done = _BATCH
    while done == _BATCH:
        async with units() as unit:
            done = await _cover(unit, case_id, rules)


async def _cover(unit: Unit, case_id: str, rules: Rules) -> int:
    root = await unit.cases.get(case_id)
    if root is None:
        return 0
    # Under the lock an erasure is either over, or takes away what is written here.
    owner = (await unit.subscribers.lock([root.subscriber_id])).get(root.subscriber_id)
    if owner is None or owner.state in (SubscriberState.LEAVING, SubscriberState.ERASED):
        return 0
    missing = await unit.search.missing(case_id, _BATCH)
    stored = await unit.evidence.captures([sighted.decision_id for sighted in missing])
    texts = []
    for sighted in missing:
        capture = stored.get(sighted.decision_id)
        text = Capture.FromString(capture.content).masked_text if capture else ""
        texts.append(replace(sighted, words=search_words(text, rules.search_words)))
    await unit.search.add(texts)
    return len(missing)


async def cover_all(units: Units, rules: Rules) -> None:
    """Makes every text searchable that is not: the tags do not outlive a crash of the database."""
    after = ""
    while True:
        async with units() as unit:
            roots = await unit.search.incomplete(after, _BATCH)
        for case_id in roots:
            await _cover_case(units, case_id, rules)
        if len(roots) < _BATCH:
            break
        after = roots[-1]
    async with units() as unit:
        await unit.search.mark_complete()


async def asked_words(units: Units, text: str, rules: Rules, now: datetime) -> frozenset[str] | None:
    """The words of a question; None where nothing is asked. Raises InvalidInput TEXT_TOO_LONG or TEXT_WITHOUT_WORDS,
    Unavailable SEARCH_BEING_REBUILT: an answer would leave cases out.
    """
    if not text:
        return None
    words = search_words(text, rules.search_words) if len(text) <= MOST_CHARACTERS else frozenset()
    if not words:
        reason = "TEXT_WITHOUT_WORDS" if len(text) <= MOST_CHARACTERS else "TEXT_TOO_LONG"
        raise InvalidInput(reason, "The text cannot be searched for.", violations=[("text", reason)])
    async with units() as unit:
        if await unit.search.complete():
            return words
        if not await unit.search.incomplete("", 1):
            await unit.search.mark_complete()
            return words
        await unit.remind(COVER, {SEARCH: (now, "")})
    raise Unavailable("SEARCH_BEING_REBUILT", "The search is being made anew.")
