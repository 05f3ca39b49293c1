"""How the detector's transactions read and write their tables: SQL."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Row, Text, bindparam, case, delete, func, null, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from misuse.log.v1.record_pb2 import LogRecord
from services.chassis import dead_letters, due
from services.chassis.database import Database, insert_rows, table_of
from services.chassis.idempotency import RequestMemory
from services.chassis.outbox import Outbox
from services.detector.adapters import tables
from services.detector.adapters.batches import SqlBatches, decision_rows
from services.detector.adapters.calibration import SqlCalibration
from services.detector.adapters.reports import SqlReports, SqlScans
from services.detector.adapters.spool import SqlSpool
from services.detector.adapters.uploads import SqlUploads
from services.detector.domain.channels import Channel, ChannelLevel
from services.detector.domain.clusters import Medium
from services.detector.domain.decisions import Band, IdentifierKind, MatchKind
from services.detector.domain.liveness import Liveness, Pose
from services.detector.domain.ownership import (
    Challenge,
    Duplicate,
    DuplicateState,
    FaceTemplate,
    OwnershipState,
    TemplateSource,
    Watch,
)
from services.detector.ports import (
    Beginning,
    KnownContent,
    PurgedContent,
    SealedTemplate,
    SealedWatch,
    StoredDecision,
    Subscriber,
    TemplateChange,
    Work,
)

_NO_SYNC = {"synchronize_session": False}
_DECISION = table_of(tables.DecisionRow)


def _any(values: Collection[Any], kind: Any) -> Any:
    """`= ANY(array)`: one statement text, and so one plan, whatever the number of values."""
    return func.any(bindparam(None, list(values), ARRAY(kind), unique=True))


class SqlChannels:
    """See the port Channels."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, channel: str, *, lock: bool = False) -> Channel | None:
        row = await self._session.get(tables.ChannelRow, channel, with_for_update=lock or None)
        return None if row is None else _channel(row)

    async def page(self, after: str, most: int) -> list[Channel]:
        row = tables.ChannelRow
        query = select(row).where(row.channel > after).order_by(row.channel).limit(most)
        return [_channel(each) for each in await self._session.scalars(query)]

    async def put(self, channel: Channel) -> None:
        await self._session.merge(tables.ChannelRow(**_channel_values(channel)))

    async def add_missing(self, channels: Sequence[Channel], now: datetime) -> None:
        values = [_channel_values(channel) | {"update_time": now} for channel in channels]
        await self._session.execute(insert(tables.ChannelRow).values(values).on_conflict_do_nothing())


def _channel(row: tables.ChannelRow) -> Channel:
    return Channel(
        row.channel,
        row.channel_group,
        row.display_name,
        row.source_type,
        ChannelLevel(row.level),
        row.paused,
        row.platform,
        row.version,
        row.update_time,
    )


def _channel_values(channel: Channel) -> dict[str, Any]:
    names = ("channel", "channel_group", "display_name", "source_type", "paused", "platform", "version", "update_time")
    return {name: getattr(channel, name) for name in names} | {"level": int(channel.level)}


class SqlSubscribers:
    """See the port Subscribers."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, subscriber_id: str) -> Subscriber | None:
        return (await self.lock([subscriber_id])).get(subscriber_id)

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        row = tables.SubscriberRow
        columns = (row.subscriber_id, row.minor, row.suspended, row.consents)
        query = select(*columns).where(row.subscriber_id == _any(subscriber_ids, Text))
        rows = await self._session.execute(query.order_by(row.subscriber_id).with_for_update())
        return {r[0]: Subscriber(r[0], r[1], r[2], frozenset(r[3])) for r in rows}

    async def put(self, subscriber: Subscriber) -> None:
        values = {
            "minor": subscriber.minor,
            "suspended": subscriber.suspended,
            "consents": sorted(subscriber.consents),
        }
        statement = insert(tables.SubscriberRow).values(subscriber_id=subscriber.subscriber_id, **values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["subscriber_id"], set_=values))

    async def remove(self, subscriber_id: str) -> None:
        for row in (
            tables.ContentRow,
            tables.DecisionRow,
            tables.WatchedIdentifierRow,
            tables.KnownDeviceRow,
            tables.LivenessChallengeRow,
            tables.DuplicateFaceRow,
            tables.LinkedAccountRow,
            tables.UploadCheckRow,
            tables.RedactionRow,
            tables.SightingReportRow,
            tables.SubscriberRow,
        ):
            mine = delete(row).where(row.subscriber_id == subscriber_id)
            await self._session.execute(mine.execution_options(**_NO_SYNC))
        held = delete(tables.DuplicateFaceRow).where(tables.DuplicateFaceRow.holder_id == subscriber_id)
        await self._session.execute(held.execution_options(**_NO_SYNC))
        # An erased template's row stays, for replicas that have not dropped it from memory yet; whose it was goes.
        template = tables.FaceTemplateRow
        nobodys = update(template).where(template.subscriber_id == subscriber_id)
        await self._session.execute(
            nobodys.values(subscriber_id="", device_ref=b"").execution_options(**_NO_SYNC)
        )


class SqlTemplates:
    """See the port Templates."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, template: FaceTemplate, vectors: bytes, crop: bytes | None) -> None:
        values = _template_values(template) | {"vectors": vectors, "crop": crop}
        await self._session.execute(
            insert(tables.FaceTemplateRow).values(**values, index_version=await self._next_version())
        )

    async def get(self, template_id: str) -> SealedTemplate | None:
        row = tables.FaceTemplateRow
        query = select(row).where(row.template_id == template_id).with_for_update()
        found = (await self._session.scalars(query.execution_options(populate_existing=True))).one_or_none()
        return None if found is None else _sealed_template(found)

    async def of_subscriber(self, subscriber_id: str, after: str, most: int) -> list[FaceTemplate]:
        row = tables.FaceTemplateRow
        query = (
            select(row)
            .where(row.subscriber_id == subscriber_id, row.template_id > after)
            .order_by(row.template_id)
            .limit(most)
        )
        return [_template(each) for each in await self._session.scalars(query)]

    async def live(self, subscriber_id: str) -> int:
        row = tables.FaceTemplateRow
        mine = (row.subscriber_id == subscriber_id, row.state != OwnershipState.ERASED)
        return int(await self._session.scalar(select(func.count()).select_from(row).where(*mine)) or 0)

    async def change(self, template: FaceTemplate) -> None:
        values = _template_values(template) | {"index_version": await self._next_version()}
        if template.state is OwnershipState.ERASED:
            values |= {"vectors": null(), "crop": null()}
        row = tables.FaceTemplateRow
        changed = update(row).where(row.template_id == template.template_id).values(**values)
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def reembed(self, template: FaceTemplate, vectors: bytes) -> None:
        values = _template_values(template) | {"index_version": await self._next_version(), "vectors": vectors}
        row = tables.FaceTemplateRow
        changed = update(row).where(row.template_id == template.template_id).values(**values)
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def without_model(self, model_id: str, after: str, most: int) -> list[str]:
        row = tables.FaceTemplateRow
        query = (
            select(row.template_id)
            .where(
                row.template_id > after,
                row.state != OwnershipState.ERASED,
                bindparam(None, model_id, Text, unique=True) != func.all(row.model_ids),
            )
            .order_by(row.template_id)
            .limit(most)
        )
        return list(await self._session.scalars(query))

    async def drop_crops(self, subscriber_id: str) -> None:
        row = tables.FaceTemplateRow
        changed = update(row).where(row.subscriber_id == subscriber_id).values(crop=null())
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def index_version(self) -> int:
        row = tables.GalleryVersionRow
        return int(await self._session.scalar(select(row.version).where(row.one == 1)) or 0)

    async def changed_since(self, index_version: int, most: int) -> list[TemplateChange]:
        row, owner = tables.FaceTemplateRow, tables.SubscriberRow
        verified = row.state == OwnershipState.VERIFIED
        query = (
            select(
                row.index_version,
                row.template_id,
                row.subscriber_id,
                func.coalesce(owner.minor, False),
                case((verified, row.expire_time)),
                case((verified, row.vectors)),
            )
            .outerjoin(owner, owner.subscriber_id == row.subscriber_id)
            .where(row.index_version > index_version)
            .order_by(row.index_version)
            .limit(most)
        )
        return [TemplateChange(*each) for each in await self._session.execute(query)]

    async def _next_version(self) -> int:
        """The next gallery version; whoever holds the row commits before anybody else gets one."""
        statement = text(
            "INSERT INTO gallery_version (one, version) VALUES (1, 1) "
            "ON CONFLICT (one) DO UPDATE SET version = gallery_version.version + 1 RETURNING version"
        )
        return int((await self._session.execute(statement)).scalar_one())


def _template_values(template: FaceTemplate) -> dict[str, Any]:
    return {
        "template_id": template.template_id,
        "subscriber_id": template.subscriber_id,
        "state": int(template.state),
        "create_time": template.create_time,
        "expire_time": template.expire_time,
        "pictures": template.pictures,
        "model_ids": list(template.model_ids),
        "version": template.version,
        "source": int(template.source),
        "liveness": int(template.liveness),
        "device_ref": template.device_ref,
    }


def _template(row: tables.FaceTemplateRow) -> FaceTemplate:
    return FaceTemplate(
        row.template_id,
        row.subscriber_id,
        OwnershipState(row.state),
        row.create_time,
        row.expire_time,
        row.pictures,
        tuple(row.model_ids),
        row.version,
        TemplateSource(row.source),
        Liveness(row.liveness),
        bytes(row.device_ref),
    )


def _sealed_template(row: tables.FaceTemplateRow) -> SealedTemplate:
    return SealedTemplate(_template(row), row.vectors, row.crop)


# The literal 2 (VERIFIED) lets the planner use the partial index.
_MATCHING = text(
    "SELECT value_ref, subscriber_id, watch_id FROM watched_identifier "
    "WHERE value_ref = ANY(CAST(:refs AS bytea[])) AND state = 2 AND expire_time > :now ORDER BY watch_id"
)


class SqlWatches:
    """See the port Watches."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, watch: Watch, value_ref: bytes, sealed_value: bytes, masked_value: bytes) -> None:
        values = {"value_ref": value_ref, "sealed_value": sealed_value, "masked_value": masked_value}
        await self._session.execute(insert(tables.WatchedIdentifierRow).values(**_watch_values(watch), **values))

    async def get(self, watch_id: str) -> SealedWatch | None:
        row = tables.WatchedIdentifierRow
        query = select(row).where(row.watch_id == watch_id).with_for_update()
        found = (await self._session.scalars(query.execution_options(populate_existing=True))).one_or_none()
        return None if found is None else _sealed_watch(found)

    async def of_subscriber(self, subscriber_id: str, after: str, most: int) -> list[SealedWatch]:
        row = tables.WatchedIdentifierRow
        query = (
            select(row)
            .where(row.subscriber_id == subscriber_id, row.watch_id > after)
            .order_by(row.watch_id)
            .limit(most)
        )
        return [_sealed_watch(each) for each in await self._session.scalars(query)]

    async def live(self, subscriber_id: str) -> int:
        row = tables.WatchedIdentifierRow
        mine = (row.subscriber_id == subscriber_id, row.state != OwnershipState.ERASED)
        return int(await self._session.scalar(select(func.count()).select_from(row).where(*mine)) or 0)

    async def change(self, watch: Watch) -> None:
        values = _watch_values(watch)
        if watch.state is OwnershipState.ERASED:
            values |= {"value_ref": null(), "sealed_value": null(), "masked_value": null()}
        row = tables.WatchedIdentifierRow
        changed = update(row).where(row.watch_id == watch.watch_id).values(**values)
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def also_held(self, watch_id: str) -> list[tuple[str, str]]:
        mine, row = aliased(tables.WatchedIdentifierRow), tables.WatchedIdentifierRow
        query = (
            select(row.subscriber_id, row.watch_id)
            .join(mine, mine.value_ref == row.value_ref)
            .where(
                mine.watch_id == watch_id,
                row.subscriber_id != mine.subscriber_id,
                # Literals (VERIFIED, SUSPENDED) let the planner use the partial index.
                text("watched_identifier.state IN (2, 4)"),
            )
        )
        return [(r[0], r[1]) for r in await self._session.execute(query.order_by(row.watch_id))]

    async def matching(self, value_refs: Collection[bytes], now: datetime) -> list[tuple[bytes, str, str]]:
        rows = await self._session.execute(_MATCHING, {"refs": list(value_refs), "now": now})
        return [(bytes(row[0]), row[1], row[2]) for row in rows]


def _watch_values(watch: Watch) -> dict[str, Any]:
    return {
        "watch_id": watch.watch_id,
        "subscriber_id": watch.subscriber_id,
        "kind": int(watch.kind),
        "state": int(watch.state),
        "create_time": watch.create_time,
        "expire_time": watch.expire_time,
        "version": watch.version,
        "device_ref": watch.device_ref,
    }


def _sealed_watch(row: tables.WatchedIdentifierRow) -> SealedWatch:
    watch = Watch(
        row.watch_id,
        row.subscriber_id,
        IdentifierKind(row.kind),
        OwnershipState(row.state),
        row.create_time,
        row.expire_time,
        row.version,
        bytes(row.device_ref),
    )
    return SealedWatch(watch, row.value_ref, row.sealed_value, row.masked_value)


_SOME = text(
    "SELECT decision_id, signal_ref, subscriber_id, band, kind, template_id, scores, capture FROM decision "
    "WHERE decision_id = ANY(CAST(:ids AS text[]))"
)
_RELEASE = text("UPDATE decision SET capture = NULL WHERE decision_id = ANY(CAST(:ids AS text[]))")
_BEGINNINGS = text(
    """
    SELECT q.person,
        (SELECT content_id FROM content WHERE subscriber_id = q.person
         ORDER BY content_id DESC OFFSET :most LIMIT 1),
        (SELECT min(coalesce(seen_time, create_time)) FROM content WHERE subscriber_id = q.person)
    FROM unnest(CAST(:people AS text[])) AS q(person)
    """
)


class SqlContents:
    """See the port Contents."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def beginnings(self, subscriber_ids: Collection[str], most: int) -> Mapping[str, Beginning]:
        values = {"people": sorted(subscriber_ids), "most": most}
        rows = await self._session.execute(_BEGINNINGS, values)
        return {row[0]: Beginning(row[1] or 0, row[2]) for row in rows}

    async def since(self, subscriber_id: str, content_id: int, most: int) -> list[KnownContent]:
        row = tables.ContentRow
        query = (
            select(row.content_id, row.cluster_id, row.medium, row.fingerprint)
            .where(row.subscriber_id == subscriber_id, row.content_id > content_id)
            .order_by(row.content_id)
            .limit(most)
        )
        rows = await self._session.execute(query)
        return [KnownContent(r[0], r[1], Medium(r[2]), bytes(r[3])) for r in rows]

    async def purge(self, subscriber_id: str, before: datetime, most: int) -> list[PurgedContent]:
        row = tables.ContentRow
        old = (row.subscriber_id == subscriber_id) & (_last_seen() <= before)
        chosen = select(row.content_id).where(old).order_by(row.content_id).limit(most)
        gone = delete(row).where(row.content_id.in_(chosen)).returning(row.cluster_id, _last_seen())
        return [PurgedContent(*each) for each in await self._session.execute(gone.execution_options(**_NO_SYNC))]

    async def next_purge(self, subscriber_id: str) -> datetime | None:
        query = select(func.min(_last_seen())).where(tables.ContentRow.subscriber_id == subscriber_id)
        return await self._session.scalar(query)


def _last_seen() -> ColumnElement[datetime]:
    return func.coalesce(tables.ContentRow.seen_time, tables.ContentRow.create_time)


class SqlDecisions:
    """See the port Decisions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, decisions: Sequence[StoredDecision], now: datetime) -> None:
        await insert_rows(self._session, _DECISION, decision_rows(decisions, now))

    async def some(self, decision_ids: Collection[str]) -> list[StoredDecision]:
        return [_decision(row) for row in await self._session.execute(_SOME, {"ids": list(decision_ids)})]

    async def of_signal(self, signal_ref: bytes) -> list[StoredDecision]:
        row = tables.DecisionRow
        query = select(row).where(row.signal_ref == signal_ref).order_by(row.decision_id).limit(64)
        return [_decision(each) for each in await self._session.scalars(query)]

    async def release(self, decision_ids: Collection[str]) -> None:
        await self._session.execute(_RELEASE, {"ids": sorted(decision_ids)})

    async def purge(self, before: datetime) -> None:
        row = tables.DecisionRow
        old = delete(row).where(row.create_time < before, row.capture.is_(None))
        await self._session.execute(old.execution_options(**_NO_SYNC))

    async def purge_captures(self, before: datetime, most: int) -> list[tuple[str, datetime]]:
        row = tables.DecisionRow
        oldest = (
            select(row.decision_id)
            .where(row.create_time < before, row.capture.is_not(None))
            .order_by(row.create_time)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        changed = update(row).where(row.decision_id.in_(oldest)).values(capture=null())
        found = await self._session.execute(
            changed.returning(row.decision_id, row.create_time).execution_options(**_NO_SYNC)
        )
        return [(each[0], each[1]) for each in found]


def _decision(row: tables.DecisionRow | Row[Any]) -> StoredDecision:
    return StoredDecision(
        row.decision_id,
        row.signal_ref,
        row.subscriber_id,
        Band(row.band),
        MatchKind(row.kind),
        row.template_id,
        row.scores,
        row.capture,
    )


class SqlProving:
    """See the port Proving."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def note_device(self, subscriber_id: str, device_ref: bytes, now: datetime) -> tuple[bool, int]:
        row = tables.KnownDeviceRow
        known = await self._session.scalar(select(func.count()).where(row.subscriber_id == subscriber_id))
        statement = insert(row).values(subscriber_id=subscriber_id, device_ref=device_ref, note_time=now)
        added = await self._session.execute(statement.on_conflict_do_nothing().returning(row.device_ref))
        return added.one_or_none() is not None, int(known or 0)

    async def forget_devices(self, subscriber_id: str, keep: int) -> None:
        row = tables.KnownDeviceRow
        newest = select(row.device_ref).where(row.subscriber_id == subscriber_id)
        newest = newest.order_by(row.note_time.desc(), row.device_ref).limit(keep)
        old = delete(row).where(row.subscriber_id == subscriber_id, row.device_ref.not_in(newest))
        await self._session.execute(old.execution_options(**_NO_SYNC))

    async def add_challenge(self, challenge: Challenge) -> None:
        values = {name: getattr(challenge, name) for name in Challenge.__slots__}
        values["poses"] = [int(pose) for pose in challenge.poses]
        await self._session.execute(insert(tables.LivenessChallengeRow).values(**values))

    async def challenge(self, challenge_id: str) -> Challenge | None:
        row = await self._session.get(
            tables.LivenessChallengeRow, challenge_id, with_for_update=True, populate_existing=True
        )
        if row is None:
            return None
        poses = tuple(Pose(number) for number in row.poses)
        return Challenge(
            row.challenge_id,
            row.subscriber_id,
            row.template_id,
            poses,
            row.create_time,
            row.expire_time,
            row.outcome,
        )

    async def conclude(self, challenge_id: str, outcome: str) -> None:
        row = tables.LivenessChallengeRow
        changed = update(row).where(row.challenge_id == challenge_id).values(outcome=outcome)
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def challenges_since(self, subscriber_id: str, since: datetime) -> int:
        row = tables.LivenessChallengeRow
        recent = select(func.count()).where(row.subscriber_id == subscriber_id, row.create_time > since)
        return int(await self._session.scalar(recent) or 0)

    async def duplicates(self, template_id: str) -> list[Duplicate]:
        row = tables.DuplicateFaceRow
        found = await self._session.scalars(select(row).where(row.template_id == template_id).order_by(row.decision_id))
        return [_duplicate(each) for each in found]

    async def duplicate(self, decision_id: str) -> Duplicate | None:
        row = await self._session.get(tables.DuplicateFaceRow, decision_id, populate_existing=True)
        return None if row is None else _duplicate(row)

    async def put_duplicate(self, duplicate: Duplicate) -> None:
        await self._session.merge(
            tables.DuplicateFaceRow(
                decision_id=duplicate.decision_id,
                subscriber_id=duplicate.subscriber_id,
                template_id=duplicate.template_id,
                holder_id=duplicate.holder_id,
                state=int(duplicate.state),
                apart_refs=list(duplicate.apart),
                create_time=duplicate.create_time,
            )
        )


def _duplicate(row: tables.DuplicateFaceRow) -> Duplicate:
    return Duplicate(
        row.decision_id,
        row.subscriber_id,
        row.template_id,
        row.holder_id,
        DuplicateState(row.state),
        tuple(row.apart_refs),
        row.create_time,
    )


class SqlWork:
    """One transaction; see the port Work."""

    def __init__(self, session: AsyncSession, outbox: Outbox, requests: RequestMemory) -> None:
        self._session = session
        self._outbox = outbox
        self._requests = requests
        self.spool = SqlSpool(session)
        self.channels = SqlChannels(session)
        self.subscribers = SqlSubscribers(session)
        self.templates = SqlTemplates(session)
        self.watches = SqlWatches(session)
        self.contents = SqlContents(session)
        self.decisions = SqlDecisions(session)
        self.batches = SqlBatches(session)
        self.proving = SqlProving(session)
        self.uploads = SqlUploads(session)
        self.calibration = SqlCalibration(session)
        self.scans = SqlScans(session)
        self.reports = SqlReports(session)

    async def one_at_a_time(self, what: bytes) -> None:
        """See the port. A hash collision only makes somebody wait."""
        number = int.from_bytes(hashlib.sha256(what).digest()[:8], "big", signed=True)
        await self._session.execute(select(func.pg_advisory_xact_lock(number)))

    async def first_use(self, nonce_ref: bytes, until: datetime) -> bool:
        """See the port."""
        statement = insert(tables.NonceRow).values(nonce_ref=nonce_ref, expire_time=until).on_conflict_do_nothing()
        return (await self._session.execute(statement.returning(tables.NonceRow.nonce_ref))).one_or_none() is not None

    async def purge_nonces(self, before: datetime) -> None:
        """See the port."""
        challenge = tables.LivenessChallengeRow
        for old in (
            delete(tables.NonceRow).where(tables.NonceRow.expire_time < before),
            delete(challenge).where(challenge.expire_time < before - timedelta(days=1)),
        ):
            await self._session.execute(old.execution_options(**_NO_SYNC))

    def event(self, key: str, message: Message) -> None:
        """See the port."""
        self._outbox.event(self._session, key, message)

    def record(self, key: str, record: LogRecord) -> None:
        """See the port."""
        self._outbox.record(self._session, key, record)

    async def schedule(self, kind: str, entity_id: str, due_time: datetime) -> None:
        """See the port. A later time replaces an earlier one."""
        await due.cancel(self._session, kind, entity_id)
        await due.schedule(self._session, kind, entity_id, due_time)

    async def cancel(self, kind: str, entity_id: str) -> None:
        """See the port."""
        await due.cancel(self._session, kind, entity_id)

    def set_aside(self, kind: str, entity_id: str, reason: str, traceparent: str) -> None:
        """See the port."""
        dead_letters.put_job(self._session, kind, entity_id, reason, traceparent)

    async def recall(self, caller: str, method: str, request: Message) -> str | None:
        """See the port."""
        return await self._requests.recall(self._session, caller, method, _request_id(request), request)

    async def remember(self, caller: str, method: str, request: Message, resource_id: str) -> None:
        """See the port."""
        await self._requests.remember(self._session, caller, method, _request_id(request), request, resource_id)


def _request_id(request: Message) -> str:
    return str(getattr(request, "request_id"))  # noqa: B009 -- the field of a message whose type is not known here


class Store:
    """Opens transactions."""

    def __init__(self, database: Database, outbox: Outbox, requests: RequestMemory) -> None:
        self._database = database
        self._each_alone = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._outbox = outbox
        self._requests = requests

    def begin(self) -> AbstractAsyncContextManager[Work]:
        """A new transaction: committed at the end of the block, rolled back on any exception."""
        return self._begin()

    def quietly(self) -> AbstractAsyncContextManager[Work]:
        """For looking and for leases: each statement is a transaction of its own, and wakes nobody.

        Events and records are not for it: they are written by `begin` alone.
        """
        return self._quietly()

    @asynccontextmanager
    async def _quietly(self) -> AsyncIterator[Work]:
        async with AsyncSession(self._each_alone, expire_on_commit=False) as session:
            yield self.within(session)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[Work]:
        async with self._database.begin() as session:
            yield self.within(session)

    def within(self, session: AsyncSession) -> Work:
        """The same interface on a transaction that somebody else opened (a consumer's batch)."""
        return SqlWork(session, self._outbox, self._requests)
