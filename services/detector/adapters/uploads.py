"""How linked accounts, upload checks and redacted results lie in their tables: SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.detector.adapters.tables import LinkedAccountRow, RedactionRow, UploadCheckRow
from services.detector.domain.uploads import CheckState, LinkedAccount, UploadCheck
from services.detector.ports import SealedAccount, SealedCheck, SealedResult

_NO_SYNC = {"synchronize_session": False}


class SqlUploads:
    """See the port Uploads."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_account(self, account: SealedAccount) -> None:
        values = {name: getattr(account.account, name) for name in LinkedAccount.__slots__}
        await self._session.execute(insert(LinkedAccountRow).values(**values, handle=account.handle))

    async def account(self, account_id: str) -> SealedAccount | None:
        return await self._account(LinkedAccountRow.account_id == account_id)

    async def account_named(self, handle_ref: bytes) -> SealedAccount | None:
        return await self._account(LinkedAccountRow.handle_ref == handle_ref)

    async def _account(self, which: Any) -> SealedAccount | None:
        query = select(LinkedAccountRow).where(which).with_for_update()
        found = (await self._session.scalars(query.execution_options(populate_existing=True))).one_or_none()
        return None if found is None else _account(found)

    async def change_account(self, account: LinkedAccount) -> None:
        row = LinkedAccountRow
        changed = (
            update(row)
            .where(row.account_id == account.account_id)
            .values(warn_about_others=account.warn_about_others, version=account.version)
        )
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def accounts(self, subscriber_id: str, after: str, most: int) -> list[SealedAccount]:
        row = LinkedAccountRow
        query = (
            select(row)
            .where(row.subscriber_id == subscriber_id, row.account_id > after)
            .order_by(row.account_id)
            .limit(most)
        )
        return [_account(each) for each in await self._session.scalars(query)]

    async def count_accounts(self, subscriber_id: str) -> int:
        mine = select(func.count()).where(LinkedAccountRow.subscriber_id == subscriber_id)
        return int(await self._session.scalar(mine) or 0)

    async def remove_account(self, account_id: str) -> None:
        gone = delete(LinkedAccountRow).where(LinkedAccountRow.account_id == account_id)
        await self._session.execute(gone.execution_options(**_NO_SYNC))

    async def add_check(self, check: SealedCheck) -> None:
        values = {name: getattr(check.check, name) for name in UploadCheck.__slots__}
        values |= {"state": int(check.check.state), "skipped": list(check.check.skipped), "findings": check.findings}
        await self._session.execute(insert(UploadCheckRow).values(**values))

    async def check(self, upload_check_id: str) -> SealedCheck | None:
        query = select(UploadCheckRow).where(UploadCheckRow.upload_check_id == upload_check_id).with_for_update()
        found = (await self._session.scalars(query.execution_options(populate_existing=True))).one_or_none()
        return None if found is None else _check(found)

    async def change_check(self, check: UploadCheck) -> None:
        row = UploadCheckRow
        changed = (
            update(row)
            .where(row.upload_check_id == check.upload_check_id)
            .values(state=int(check.state), resolve_time=check.resolve_time, version=check.version)
        )
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def checks_since(self, subscriber_id: str, since: datetime) -> int:
        row = UploadCheckRow
        recent = select(func.count()).where(row.subscriber_id == subscriber_id, row.create_time > since)
        return int(await self._session.scalar(recent) or 0)

    async def checks(self, subscriber_id: str, after: str, most: int) -> list[str]:
        row = UploadCheckRow
        query = (
            select(row.upload_check_id)
            .where(row.subscriber_id == subscriber_id, row.upload_check_id > after)
            .order_by(row.upload_check_id)
            .limit(most)
        )
        return list(await self._session.scalars(query))

    async def remove_check(self, upload_check_id: str) -> None:
        gone = delete(UploadCheckRow).where(UploadCheckRow.upload_check_id == upload_check_id)
        await self._session.execute(gone.execution_options(**_NO_SYNC))

    async def add_result(self, result: SealedResult, now: datetime) -> None:
        values = {name: getattr(result, name) for name in SealedResult.__slots__}
        await self._session.execute(insert(RedactionRow).values(**values, create_time=now))

    async def result(self, upload_check_id: str) -> SealedResult | None:
        row = await self._session.get(RedactionRow, upload_check_id, populate_existing=True)
        return None if row is None else SealedResult(row.upload_check_id, row.subscriber_id, row.image, row.text)

    async def remove_result(self, upload_check_id: str) -> bool:
        gone = delete(RedactionRow).where(RedactionRow.upload_check_id == upload_check_id)
        found = await self._session.execute(
            gone.returning(RedactionRow.upload_check_id).execution_options(**_NO_SYNC)
        )
        return found.one_or_none() is not None


def _account(row: LinkedAccountRow) -> SealedAccount:
    account = LinkedAccount(**{name: getattr(row, name) for name in LinkedAccount.__slots__})
    return SealedAccount(account, bytes(row.handle))


def _check(row: UploadCheckRow) -> SealedCheck:
    values = {name: getattr(row, name) for name in UploadCheck.__slots__}
    values |= {"state": CheckState(row.state), "skipped": tuple(row.skipped)}
    return SealedCheck(UploadCheck(**values), bytes(row.findings))
