"""How are the chains of the case log stored?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.log.v1.record_pb2 import LogRecord
from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import LOG_CHAIN, LOG_ENTRY, among
from services.case.domain.chain import NO_HASH, Entry, Head
from services.case.ports import Chain, ChainEntry, Waiting
from services.chassis.database import Rows, write_together
from services.chassis.keys import Unsealable

# Entries whose head row is gone are a fault that must be found. Both halves walk an index as far as one page needs.
_ALL_CHAINS = text(
    """
    SELECT chain_id, coalesce(c.key_owner, '') AS key_owner, coalesce(c.sequence, 0) AS sequence,
           coalesce(c.head_hash, :nothing) AS head_hash
    FROM (
        (SELECT chain_id FROM log_chain WHERE chain_id > :after AND (CAST(:until AS text) = '' OR chain_id <= :until)
         ORDER BY chain_id LIMIT :most)
        UNION
        (SELECT chain_id FROM log_entry WHERE sequence = 1 AND chain_id > :after
         AND (CAST(:until AS text) = '' OR chain_id <= :until) ORDER BY chain_id LIMIT :most)
    ) ids LEFT JOIN (SELECT * FROM log_chain WHERE chain_id > :after) c USING (chain_id)
    ORDER BY chain_id LIMIT :most
    """
)
# A plan that is made while the log is short and unknown to the planner is kept, and would read all of it for each
# batch; so the whole transaction keeps to the indexes.
_LOCK = text(
    """
    SELECT c.* FROM log_chain c, set_config('enable_seqscan', 'off', true)
    WHERE c.chain_id = ANY(CAST(:ids AS text[])) ORDER BY c.chain_id FOR UPDATE OF c
    """
)
# Whoever has made a row holds it until the transaction ends.
_MAKE = text(
    """
    INSERT INTO log_chain (chain_id, key_owner, sequence, head_hash)
    SELECT n.chain_id, n.key_owner, 0, :nothing
    FROM unnest(CAST(:ids AS text[]), CAST(:owners AS text[])) WITH ORDINALITY AS n (chain_id, key_owner, nth)
    ORDER BY n.nth
    ON CONFLICT DO NOTHING RETURNING chain_id
    """
)
# Text, for they are part of every batch of records.
_KNOWN = text("SELECT chain_id, record_id FROM log_entry WHERE record_id = ANY(CAST(:ids AS text[]))")
_WAITING = text(
    """
    SELECT e.*, c.key_owner FROM log_entry e JOIN log_chain c USING (chain_id)
    WHERE e.decision_id = ANY(CAST(:ids AS text[])) ORDER BY e.chain_id, e.sequence
    """
)


class SqlLog:
    """The `LogStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def lock(self, owners: Mapping[str, str]) -> Mapping[str, Chain]:
        """See `LogStore`."""
        ids = sorted(owners)
        found = await self._locked(ids)
        missing = [chain_id for chain_id in ids if chain_id not in found]
        if missing:
            values = {"ids": missing, "owners": [owners[chain_id] for chain_id in missing], "nothing": NO_HASH}
            made = [row.chain_id for row in await self._session.execute(_MAKE, values)]
            found |= {chain_id: Chain(chain_id, owners[chain_id], Head()) for chain_id in made}
            if late := [chain_id for chain_id in missing if chain_id not in found]:
                # Somebody else has made them meanwhile.
                found |= await self._locked(late)
        return found

    async def _locked(self, ids: Sequence[str]) -> dict[str, Chain]:
        return {row.chain_id: _chain(row) for row in await self._session.execute(_LOCK, {"ids": ids})}

    async def known(self, record_ids: Collection[str]) -> Collection[tuple[str, str]]:
        """See `LogStore`."""
        rows = await self._session.execute(_KNOWN, {"ids": list(record_ids)})
        return {(row.chain_id, row.record_id) for row in rows}

    async def waiting(self, decision_ids: Collection[str]) -> Sequence[Waiting]:
        """See `LogStore`."""
        found = []
        for row in await self._session.execute(_WAITING, {"ids": list(decision_ids)}):
            record = await self.open_record(row.key_owner, _entry(row))
            if record is not None:
                found.append(Waiting(row.decision_id, record))
        return found

    async def append(self, entries: Sequence[ChainEntry], heads: Mapping[str, Head]) -> None:
        """See `LogStore`."""
        if not entries:
            return
        rows = [
            {
                "chain_id": item.chain_id,
                "sequence": item.entry.sequence,
                "record_id": item.record_id,
                "decision_id": item.decision_id,
                "ciphertext": item.entry.ciphertext,
                "previous_hash": item.entry.previous_hash,
                "entry_hash": item.entry.entry_hash,
            }
            for item in entries
        ]
        advanced = [
            {"chain_id": chain_id, "sequence": head.sequence, "head_hash": head.head_hash}
            for chain_id, head in heads.items()
        ]
        await write_together(self._session, [Rows(LOG_ENTRY, rows), Rows(LOG_CHAIN, advanced, key="chain_id")])

    async def heads(self, chain_ids: Collection[str]) -> Mapping[str, Head]:
        """See `LogStore`."""
        rows = await self._session.execute(select(LOG_CHAIN).where(among(LOG_CHAIN.c.chain_id, chain_ids)))
        return {row.chain_id: Head(row.sequence, row.head_hash) for row in rows}

    async def chain(self, chain_id: str) -> Chain:
        """See `LogStore`."""
        query = select(LOG_CHAIN).where(LOG_CHAIN.c.chain_id == chain_id)
        row = (await self._session.execute(query)).one_or_none()
        return _chain(row) if row else Chain(chain_id, "", Head())

    async def chains(self, after: str, until: str, most: int) -> Sequence[Chain]:
        """See `LogStore`."""
        parameters = {"nothing": NO_HASH, "after": after, "until": until, "most": most}
        return [_chain(row) for row in await self._session.execute(_ALL_CHAINS, parameters)]

    async def entries(self, chain_id: str, after: int, most: int) -> Sequence[ChainEntry]:
        """See `LogStore`."""
        query = (
            select(LOG_ENTRY)
            .where(LOG_ENTRY.c.chain_id == chain_id, LOG_ENTRY.c.sequence > after)
            .order_by(LOG_ENTRY.c.sequence)
            .limit(most)
        )
        return [_entry(row) for row in await self._session.execute(query)]

    async def open_record(self, owner: str, entry: ChainEntry) -> LogRecord | None:
        """See `LogStore`. A changed entry does not open either; verifying the chain tells where it is."""
        place = f"log_entry/{entry.chain_id}/{entry.entry.sequence}/ciphertext"
        try:
            plaintext = self._sealing.open(owner, entry.entry.ciphertext, place)
        except Unsealable:
            return None
        return None if plaintext is None else LogRecord.FromString(plaintext)


def _chain(row: Any) -> Chain:
    return Chain(row.chain_id, row.key_owner, Head(row.sequence, row.head_hash))


def _entry(row: Any) -> ChainEntry:
    entry = Entry(row.sequence, row.previous_hash, row.ciphertext, row.entry_hash)
    return ChainEntry(row.chain_id, row.record_id, row.decision_id, entry)
