"""What is in the document that answers a request about one's own data?

Of an ACCESS it is everything that `case` holds in the open of a person, and a list of what other services hold and how
the person sees that: nobody but its owner opens another service's data, and no service reads another's tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar

from misuse.case.v1.subscriber_service_pb2 import ConsentScope
from misuse.common.v1.access_pb2 import DataClass, Purpose, Role
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.access import AccessEntry
from services.case.domain.archive import Json, canonical
from services.case.domain.custody import iso
from services.case.domain.people import Consent
from services.case.domain.rights import Asked, RightsRequest, RightsRules, RightsState, RightsType
from services.case.handlers import subscribers
from services.case.ports import CaseFilter, CaseOrder, CasePlace, Sighting, Unit

FORMAT = "jikimi-rights-answer/1"
PAGE = 200
CAPTURES = 50
"""Captures that are opened at once: each may hold pictures."""
TEXT_CHARS = 1_000
"""Of a masked text; the whole of it lies in the evidence pack."""
Place: TypeAlias = tuple[datetime, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person decided about a request."""

    statement: str = field(default="", repr=False)
    reason: str = ""
    corrected: Sequence[str] = ()


def words_of(asked: Asked) -> bytes:
    """What was said when a request came in, as it is sealed."""
    return json.dumps({"detail": asked.detail, "reason": asked.reason}, ensure_ascii=False).encode()


def detail_in(words: bytes) -> str:
    """What was asked for, of what `words_of` wrote."""
    return str(json.loads(words).get("detail", "")) if words else ""


async def answer_document(
    unit: Unit, request: RightsRequest, answer: Answer, rules: RightsRules
) -> tuple[bytes, bytes]:
    """(the document, canonical JSON; its SHA-256)."""
    facts: dict[str, Json] = {
        "format": FORMAT,
        "rights_request_id": request.rights_request_id,
        "type": request.type.value,
        "answer": request.state.value,
        "received": iso(request.create_time),
        "due": iso(request.due_time),
        "answered": iso(request.answer_time) if request.answer_time else "",
        "law": rules.types[request.type].law,
        "rule_version": rules.version,
        "statement": answer.statement,
        "corrected": list(answer.corrected),
    }
    if request.state is RightsState.REJECTED:
        refusal = rules.refusals[answer.reason]
        facts["reason"] = {"code": answer.reason, "law": refusal.law, **refusal.words}
        facts["objection"] = dict(rules.objection)
    elif request.type in (RightsType.ACCESS, RightsType.EXPLANATION):
        facts["data"] = await _Reading(unit, request.subscriber_id or "", rules.answer_rows).everything()
        facts["held_elsewhere"] = [
            {"service": each.service, "see": each.see, "keep": each.keep, **each.words} for each in rules.holdings
        ]
    document = canonical(facts)
    return document, hashlib.sha256(document).digest()


@dataclass
class _Reading:
    """Reads what `case` holds of one person, at most so many rows of each list."""

    unit: Unit
    subscriber_id: str
    most: int
    cut: list[str] = field(default_factory=list)

    async def everything(self) -> Json:
        """All lists; those of which more is there than was read are named as cut."""
        cases = await self._cases()
        found: dict[str, Json] = {
            "profile": await self._profile(),
            "consents": await self._consents(),
            "cases": [case for case, _ in cases],
            "found": await self._sightings([root for _, root in cases if root]),
            "requests": await self._requests(),
            "who_read": await self._readings(),
        }
        return {**found, "cut": list(self.cut)}

    async def _all(
        self, name: str, page: Callable[[Place | None], Awaitable[Sequence[T]]], place: Callable[[T], Place]
    ) -> AsyncIterator[T]:
        """The rows of a list, page by page; at most so many."""
        after: Place | None = None
        number = 0
        while rows := await page(after):
            for row in rows:
                if number >= self.most:
                    self.cut.append(name)
                    return
                number += 1
                yield row
            if len(rows) < PAGE:
                return
            after = place(rows[-1])

    async def _profile(self) -> Json:
        found = await self.unit.subscribers.whole([self.subscriber_id])
        subscriber, profile = found.get(self.subscriber_id, (None, None))
        if subscriber is None or profile is None:
            raise subscribers.unknown()
        return {
            "display_name": profile.display_name,
            "contact_email": profile.contact_email,
            "guardian_name": profile.guardian_name,
            "language": subscriber.language,
            "minor": subscriber.minor,
            "state": subscriber.state.name,
            "registered": iso(subscriber.create_time),
        }

    async def _consents(self) -> Json:
        async def page(after: Place | None) -> Sequence[Consent]:
            return await self.unit.subscribers.consents(self.subscriber_id, PAGE, after)

        found: list[Json] = []
        async for each in self._all("consents", page, lambda c: (c.give_time, c.consent_id)):
            found.append(
                {
                    "scope": ConsentScope.Name(ConsentScope.ValueType(each.scope)).removeprefix("CONSENT_SCOPE_"),
                    "text_version": each.text_version,
                    "given": iso(each.give_time),
                    "withdrawn": iso(each.withdraw_time) if each.withdraw_time else "",
                }
            )
        return found

    async def _cases(self) -> list[tuple[Json, str]]:
        """Cases as they are shown, each with its id where it is the root of an incident."""
        wanted, found = CaseFilter(subscriber_id=self.subscriber_id), list[tuple[Json, str]]()
        place: CasePlace | None = None
        while cases := await self.unit.cases.page(wanted, CaseOrder.NEWEST, PAGE, place):
            place = CasePlace(cases[-1].create_time, cases[-1].case_id, cases[-1].priority)
            roots = {case.root_case_id for case in cases}
            attached = await self.unit.cases.attachments(roots)
            for case in cases:
                if len(found) >= self.most:
                    self.cut.append("cases")
                    return found
                more = attached.get(case.case_id)
                shown: Json = {
                    "case_id": case.case_id,
                    "kinds": [kind.name for kind in case.kinds],
                    "state": case.state.name,
                    "resolution": case.resolution.name if case.resolution else "",
                    "channel_groups": list(case.channel_groups),
                    "found": iso(case.discover_time),
                    "opened": iso(case.create_time),
                    "evidence_version": more.evidence.version if more and more.evidence else 0,
                    "removal_requests": list(more.removal_request_ids) if more else [],
                }
                found.append((shown, case.case_id if case.root_case_id == case.case_id else ""))
        return found

    async def _sightings(self, roots: Sequence[str]) -> Json:
        found: list[Json] = []
        for root in roots:
            left = self.most - len(found)
            if left <= 0:
                self.cut.append("found")
                break
            sightings = (await self.unit.cases.sightings([root], left + 1))[root]
            if len(sightings) > left:
                self.cut.append("found")
            for start in range(0, min(left, len(sightings)), CAPTURES):
                found += await self._shown(sightings[start : min(start + CAPTURES, left)])
        return found

    async def _shown(self, sightings: Sequence[Sighting]) -> list[Json]:
        """Finds with the place and the masked text that were taken over; pictures lie in the evidence packs."""
        captures = await self.unit.evidence.captures([each.decision_id for each in sightings])
        shown: list[Json] = []
        for each in sightings:
            stored = captures.get(each.decision_id)
            capture = Capture.FromString(stored.content) if stored else Capture()
            shown.append(
                {
                    "case_id": each.case_id,
                    "kind": each.kind.name,
                    "channel": each.channel,
                    "channel_group": each.channel_group,
                    "platform": each.platform,
                    "found": iso(each.discover_time),
                    "url": capture.source_url,
                    "masked_text": capture.masked_text[:TEXT_CHARS],
                }
            )
        return shown

    async def _requests(self) -> Json:
        async def page(after: Place | None) -> Sequence[RightsRequest]:
            return await self.unit.rights.page(self.subscriber_id, None, PAGE, after)

        found: list[Json] = []
        async for each in self._all("requests", page, lambda r: (r.due_time, r.rights_request_id)):
            found.append(
                {
                    "rights_request_id": each.rights_request_id,
                    "type": each.type.value,
                    "state": each.state.value,
                    "received": iso(each.create_time),
                }
            )
        return found

    async def _readings(self) -> Json:
        async def page(before: Place | None) -> Sequence[AccessEntry]:
            return await self.unit.access.page(self.subscriber_id, PAGE, before)

        found: list[Json] = []
        async for each in self._all("who_read", page, lambda e: (e.occur_time, e.entry_id)):
            found.append(
                {
                    "time": iso(each.occur_time),
                    "role": Role.Name(Role.ValueType(each.role)).removeprefix("ROLE_"),
                    "purpose": Purpose.Name(Purpose.ValueType(each.purpose)).removeprefix("PURPOSE_"),
                    "method": each.method,
                    "what": [_data_class(number) for number in each.classes],
                }
            )
        return found


def _data_class(number: int) -> str:
    return DataClass.Name(DataClass.ValueType(number)).removeprefix("DATA_CLASS_")
