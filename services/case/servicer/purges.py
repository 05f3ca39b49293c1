"""How does PrivacyService reach the list of purges?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from misuse.case.v1 import privacy_service_pb2 as pb
from services.case.domain.purges import PurgeItem, PurgeState
from services.case.domain.rights import wrong
from services.case.handlers.purging import Purging
from services.case.records import stamp
from services.case.servicer.calls import Needs, page_size, position_of, token_of

_SHOWN = {"": PurgeState.DUE} | {state.value: state for state in PurgeState if state is not PurgeState.OVERDUE}


class PurgeCalls:
    """The part of PrivacyService that lists purges."""

    _needs: Needs
    _purging: Purging

    async def ListPurgeItems(self, request: pb.ListPurgeItemsRequest, context: Any) -> Any:
        """See the contract."""
        state = _SHOWN.get(request.state)
        if state is None:
            raise wrong("state", "STATE_UNKNOWN")
        size, place = page_size(request.page_size), position_of(request.page_token)
        async with self._needs.units() as unit:
            found = await self._purging.page(unit, state, size, place)
        now = self._needs.now()
        token = token_of(_time(found[-1]), found[-1].entry_id) if len(found) == size else ""
        items = [_message(each, state, now) for each in found]
        return pb.ListPurgeItemsResponse(items=items, next_page_token=token)


def _time(item: PurgeItem) -> datetime:
    return item.purge_time or item.due_time


def _message(item: PurgeItem, asked: PurgeState, now: datetime) -> pb.PurgeItem:
    message = pb.PurgeItem(
        service=item.service,
        item_kind=item.item_kind,
        item_id=item.item_id,
        due_time=stamp(item.due_time),
        state=(PurgeState.HELD if asked is PurgeState.HELD else item.state(now)).value,
        rule=item.rule,
        purge_time=stamp(item.purge_time) if item.purge_time else None,
        record_id=item.record_id,
    )
    if item.proof is not None:
        message.chain_id = item.proof.chain_id
        message.sequence = item.proof.sequence
        message.entry_hash = item.proof.entry_hash
    return message
