"""How are requests about one's own data stored?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import RIGHTS_REQUEST, among
from services.case.domain.rights import Requester, RightsRequest, RightsState, RightsType

_R = RIGHTS_REQUEST.c
_KEPT = "answer_kept"
_NAMES = tuple(field.name for field in fields(RightsRequest) if field.name != _KEPT)
_COLUMNS = (*(_R[name] for name in _NAMES), _R.sealed_answer.is_not(None).label(_KEPT))
_ORDER = (_R.due_time, _R.rights_request_id)
_OPEN = _R.state == RightsState.RECEIVED.value


class SqlRights:
    """The `RightsStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def add(self, request: RightsRequest, words: bytes) -> None:
        """See `RightsStore`."""
        row = _row(request) | {"sealed_words": self._seal(request, words, "sealed_words")}
        await self._session.execute(insert(RIGHTS_REQUEST).values(row))

    async def get(self, rights_request_id: str) -> RightsRequest | None:
        """See `RightsStore`."""
        found = await self._some(_R.rights_request_id == rights_request_id)
        return found[0] if found else None

    async def lock(self, rights_request_id: str) -> RightsRequest | None:
        """See `RightsStore`."""
        found = await self._locked(_R.rights_request_id == rights_request_id)
        return found[0] if found else None

    async def update(self, request: RightsRequest) -> None:
        """See `RightsStore`."""
        await self._set(request.rights_request_id, _row(request))

    async def words(self, request: RightsRequest) -> bytes:
        """See `RightsStore`."""
        return await self._opened(request, "sealed_words") or b""

    async def keep_answer(self, request: RightsRequest, document: bytes) -> None:
        """See `RightsStore`."""
        sealed = self._seal(request, document, "sealed_answer")
        await self._set(request.rights_request_id, {"sealed_answer": sealed})
        request.answer_kept = True

    async def answer(self, request: RightsRequest) -> bytes | None:
        """See `RightsStore`."""
        return await self._opened(request, "sealed_answer")

    async def drop_answer(self, rights_request_id: str) -> None:
        """See `RightsStore`."""
        await self._set(rights_request_id, {"sealed_answer": None})

    async def open_of(self, subscriber_id: str) -> Sequence[RightsRequest]:
        """See `RightsStore`."""
        return await self._locked((_R.subscriber_id == subscriber_id) & _OPEN)

    async def of_erasure(self, erasure_id: str) -> Sequence[RightsRequest]:
        """See `RightsStore`."""
        return await self._locked((_R.erasure_id == erasure_id) & (_R.erasure_id != "") & _OPEN)

    async def answered_of(self, subscriber_id: str) -> Sequence[RightsRequest]:
        """See `RightsStore`."""
        return await self._locked((_R.subscriber_id == subscriber_id) & _R.sealed_answer.is_not(None))

    async def page(
        self, subscriber_id: str, state: RightsState | None, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        """See `RightsStore`."""
        which = [_R.subscriber_id == subscriber_id] if subscriber_id else []
        which += [_R.state == state.value] if state else []
        return await self._page(which, size, after)

    async def held(
        self, reasons: Collection[str], size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        """See `RightsStore`."""
        deletion = _R.type == RightsType.DELETION.value
        return await self._page([deletion, among(_R.reason, reasons), _R.subscriber_id.is_not(None)], size, after)

    async def forget_subscriber(self, subscriber_id: str) -> None:
        """See `RightsStore`."""
        gone = {"subscriber_id": None, "sealed_words": None, "sealed_answer": None}
        await self._session.execute(
            update(RIGHTS_REQUEST).where(_R.subscriber_id == subscriber_id).values(**gone, document_sha256=b"")
        )

    async def _page(
        self, which: Sequence[ColumnElement[bool]], size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        query = select(*_COLUMNS).where(*which).order_by(*_ORDER).limit(size)
        if after is not None:
            query = query.where(tuple_(*_ORDER) > after)
        return [_request(row) for row in await self._session.execute(query)]

    async def _some(self, which: ColumnElement[bool]) -> Sequence[RightsRequest]:
        return [_request(row) for row in await self._session.execute(select(*_COLUMNS).where(which))]

    async def _locked(self, which: ColumnElement[bool]) -> Sequence[RightsRequest]:
        query = select(*_COLUMNS).where(which).order_by(_R.rights_request_id).with_for_update()
        return [_request(row) for row in await self._session.execute(query)]

    async def _set(self, rights_request_id: str, values: dict[str, Any]) -> None:
        statement = update(RIGHTS_REQUEST).where(_R.rights_request_id == rights_request_id)
        await self._session.execute(statement.values(values))

    def _seal(self, request: RightsRequest, plaintext: bytes, column: str) -> bytes:
        assert request.subscriber_id is not None  # nothing is written for somebody who was erased
        return self._sealing.seal(request.subscriber_id, plaintext, _place(request, column))

    async def _opened(self, request: RightsRequest, column: str) -> bytes | None:
        query = select(_R[column]).where(_R.rights_request_id == request.rights_request_id)
        sealed = await self._session.scalar(query)
        if sealed is None or request.subscriber_id is None:
            return None
        return self._sealing.open(request.subscriber_id, sealed, _place(request, column))


def _place(request: RightsRequest, column: str) -> str:
    return f"rights_request/{request.rights_request_id}/{column}"


def _row(request: RightsRequest) -> dict[str, Any]:
    values = {name: getattr(request, name) for name in _NAMES}
    return values | {name: values[name].value for name in ("type", "requester", "state")}


def _request(row: Any) -> RightsRequest:
    values = {name: getattr(row, name) for name in (*_NAMES, _KEPT)}
    parsed = {"type": RightsType(row.type), "requester": Requester(row.requester), "state": RightsState(row.state)}
    return RightsRequest(**values | parsed)
