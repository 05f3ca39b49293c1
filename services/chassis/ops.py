"""What does every service offer to those who run it, and to the consumers of its events?"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from misuse.common.v1.access_pb2 import Role
from misuse.ops.v1 import ops_pb2, ops_pb2_grpc
from services.chassis import dead_letters, due
from services.chassis.broker import Broker
from services.chassis.bus import Consumer
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.chassis.outbox import republish
from services.chassis.rules import RuleFolders
from services.chassis.telemetry import logger
from services.chassis.tokens import current_actor

log = logger(__name__)

REPLAY_AT_MOST = 200
NO_RULES = RuleFolders(())


@dataclass(frozen=True)
class IndexState:
    """What a replica's index in memory is now."""

    version: int
    entries: int
    update_time: datetime | None
    """When it was last changed."""
    head_version: int
    """Newest committed version that the replica has heard of."""
    age_ms: int
    """Since it was known to hold everything committed."""
    rebuild_version: int | None = None
    """Version that the index being built beside it has reached; None while none is."""


class Index(Protocol):
    """An index that a service holds in memory."""

    def state(self) -> IndexState:
        """Its state now."""

    def ask_for_rebuild(self) -> bool:
        """Has it built anew beside the one served; False where that is being done. Raises FailedPrecondition."""


class OpsServicer(ops_pb2_grpc.OpsServiceServicer):
    """OpsService, the same in every service."""

    def __init__(
        self,
        service: str,
        database: Database,
        broker: Broker,
        clock: Clock,
        consumers: Sequence[Consumer],
        index: Index | None = None,
        rules: RuleFolders = NO_RULES,
    ) -> None:
        self._service = service
        self._database = database
        self._broker = broker
        self._clock = clock
        self._consumers: Mapping[tuple[str, int], Consumer] = {
            (consumer.publisher, partition): consumer for consumer in consumers for partition in consumer.partitions
        }
        self._index = index
        self._rules = rules

    async def ListDeadLetters(self, request: ops_pb2.ListDeadLettersRequest, context: Any) -> Any:
        """See the contract."""
        size = min(max(request.page_size, 0) or 50, 200)
        async with self._database.begin() as session:
            rows, total = await dead_letters.page(session, size, _after(request.page_token))
        response = ops_pb2.ListDeadLettersResponse(total=total)
        for row in rows:
            letter = response.dead_letters.add(
                dead_letter_id=row.dead_letter_id,
                publisher=row.publisher,
                partition=row.partition,
                position=row.position,
                type_name=row.event,
                reason=row.reason,
                parked=row.parked,
            )
            letter.create_time.FromDatetime(row.create_time)
        if len(rows) == size:
            response.next_page_token = _token(rows[-1].create_time, rows[-1].dead_letter_id)
        return response

    async def ReplayDeadLetters(self, request: ops_pb2.ReplayDeadLettersRequest, context: Any) -> Any:
        """See the contract. Each letter is a transaction of its own; an entity stops at its first failure. A named
        letter brings all letters of its entity."""
        if len(request.dead_letter_ids) > REPLAY_AT_MOST:
            raise InvalidInput("TOO_MANY", "At most 200 letters are replayed at once.")
        ids = list(request.dead_letter_ids)
        async with self._database.begin() as session:
            named, wanted = await dead_letters.entities(session, ids) if ids else (0, [])
            letters = await dead_letters.in_order(session, wanted, REPLAY_AT_MOST)
        if named < len(set(ids)):
            raise NotFound("NO_SUCH_DEAD_LETTER", "A named letter does not exist.")
        replayed = rejected = 0
        while letters:
            applied = await self._replay_in_order(letters)
            replayed, rejected = replayed + len(applied), rejected + len(letters) - len(applied)
            letters = await self._parked_meanwhile(letters, applied)
        return ops_pb2.ReplayDeadLettersResponse(replayed=replayed, rejected=rejected)

    async def _replay_in_order(self, letters: Sequence[Any]) -> set[str]:
        applied, failed = set[str](), set[tuple[str, int, bytes]]()
        for letter in letters:
            entity = _entity(letter)
            if letter.publisher and entity in failed:
                continue
            if await self._replay(letter):
                applied.add(letter.dead_letter_id)
            else:
                failed.add(entity)
        for letter in letters:
            consumer = self._consumers.get((letter.publisher, letter.partition))
            if consumer is not None:
                consumer.unblock(letter.partition)
        return applied

    async def _parked_meanwhile(self, letters: Sequence[Any], applied: set[str]) -> Sequence[Any]:
        """Letters that a reader parked behind these while they were replayed, where none of the entity was rejected."""
        stuck = {_entity(row) for row in letters if row.dead_letter_id not in applied}
        freed = {_entity(row): dead_letters.envelope_of(row) for row in letters if row.publisher}
        async with self._database.begin() as session:
            ids = await dead_letters.ids_of(session, [freed[entity] for entity in freed.keys() - stuck])
            return await dead_letters.in_order(session, ids, REPLAY_AT_MOST) if ids else []

    async def _replay(self, letter: Any) -> bool:
        try:
            async with self._database.begin() as session:
                if not await dead_letters.in_order(session, [letter.dead_letter_id], 1):
                    return True
                await dead_letters.remove(session, letter.dead_letter_id)
                if letter.publisher:
                    consumer = self._consumers[letter.publisher, letter.partition]
                    await consumer.replay(session, dead_letters.envelope_of(letter))
                else:
                    await due.schedule(session, letter.event, letter.event_id, self._clock.now())
        except Exception as error:
            # The letter stays: its removal was rolled back with the failed effects.
            log.error("replay_failed", event_name=letter.event, reason=dead_letters.reason_of(error), error=error)
            return False
        return True

    async def Republish(self, request: ops_pb2.RepublishRequest, context: Any) -> Any:
        """See the contract."""
        events, head = await republish(
            self._database, self._broker, self._service, request.partition, request.from_position
        )
        return ops_pb2.RepublishResponse(events=events, head_position=head)

    async def GetIndexVersion(self, request: ops_pb2.GetIndexVersionRequest, context: Any) -> Any:
        """See the contract."""
        response = ops_pb2.GetIndexVersionResponse()
        if self._index is not None:
            state = self._index.state()
            response.version, response.entries = state.version, state.entries
            response.head_version, response.age_ms = state.head_version, state.age_ms
            response.rebuilding = state.rebuild_version is not None
            response.rebuild_version = state.rebuild_version or 0
            if state.update_time is not None:
                response.update_time.FromDatetime(state.update_time.astimezone(UTC))
        return response

    async def RebuildIndex(self, request: ops_pb2.RebuildIndexRequest, context: Any) -> Any:
        """See the contract."""
        if self._index is None:
            raise FailedPrecondition("NO_INDEX", "This service has no index.")
        return ops_pb2.RebuildIndexResponse(started=self._index.ask_for_rebuild())

    async def ListRules(self, request: ops_pb2.ListRulesRequest, context: Any) -> Any:
        """See the contract."""
        role = Role.Name(current_actor().role).removeprefix("ROLE_")
        response = ops_pb2.ListRulesResponse()
        for seen in self._rules.seen_by(role):
            response.rules.add(
                name=seen.name,
                versions=seen.versions,
                sha256=seen.sha256,
                shipped=seen.shipped,
                readable=seen.readable,
                text=seen.text,
            )
        return response


def _entity(letter: Any) -> tuple[str, int, bytes]:
    """Whose events a letter holds up: those of an entity in one lane."""
    return letter.publisher, letter.partition, bytes(letter.entity_ref)


def _token(create_time: datetime, dead_letter_id: str) -> str:
    return base64.urlsafe_b64encode(f"{create_time.isoformat()} {dead_letter_id}".encode()).decode()


def _after(token: str) -> tuple[datetime, str] | None:
    if not token:
        return None
    try:
        time_text, dead_letter_id = base64.urlsafe_b64decode(token.encode()).decode().split(" ")
        return datetime.fromisoformat(time_text), dead_letter_id
    except ValueError:
        raise InvalidInput("BAD_PAGE_TOKEN", "The page token is not one of ours.") from None
