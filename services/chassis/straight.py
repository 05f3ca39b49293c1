"""How does a statement that is written as text get to the driver on the short way?

Of what a small statement costs in Python, SQLAlchemy's way to the driver is four fifths: it serves statements that are
built, rows that are mapped, drivers that block. A text needs none of that. So texts are handed to SQLAlchemy's own
adapter of the driver, which begins the transaction where there is none yet, keeps prepared statements and names errors,
and what comes back is a result like any other. Everything else goes the usual way, in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Result, TextClause
from sqlalchemy.engine import Dialect, IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

_CONNECTION = "jikimi.connection"


@dataclass(frozen=True)
class _Plan:
    """A text as the driver takes it."""

    words: str
    names: Sequence[str]
    """The parameters by place."""
    written: Mapping[str, Callable[[Any], Any]]
    """How those are written whose type says it."""

    def parameters(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        if not self.written:
            return tuple([values[name] for name in self.names])
        return tuple(
            [self.written[name](values[name]) if name in self.written else values[name] for name in self.names]
        )


_PLANS: WeakKeyDictionary[TextClause, _Plan] = WeakKeyDictionary()
_SHAPES: dict[tuple[str, ...], SimpleResultMetaData] = {}


class StraightSession(AsyncSession):
    """A session of one transaction whose texts go the short way, unless they bring values of their own."""

    async def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """See AsyncSession.execute."""
        bare = type(statement) is TextClause and all(each.required for each in statement._bindparams.values())
        if not bare or options or not isinstance(params, Mapping | None):
            return await super().execute(statement, params, **options)
        connection: AsyncConnection | None = self.info.get(_CONNECTION)
        if connection is None:
            connection = self.info[_CONNECTION] = await self.connection()
        return await execute(connection, statement, params or {})

    async def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """See AsyncSession.scalar."""
        if type(statement) is not TextClause:
            return await super().scalar(statement, params, **options)
        return (await self.execute(statement, params, **options)).scalar()

    async def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """See AsyncSession.scalars."""
        if type(statement) is not TextClause:
            return await super().scalars(statement, params, **options)
        return (await self.execute(statement, params, **options)).scalars()


async def execute(connection: AsyncConnection, statement: TextClause, values: Mapping[str, Any]) -> Result[Any]:
    """Executes a text on a connection. Raises DBAPIError as the connection itself does."""
    dialect, link = connection.dialect, connection.sync_connection
    assert link is not None
    plan = _plan(statement, dialect)
    cursor: Any = link.connection.cursor()
    try:
        await cursor._prepare_and_execute(plan.words, plan.parameters(values))
    except asyncio.CancelledError:
        # What the server does with it is not known: nobody else is to find out.
        await connection.invalidate()
        raise
    except dialect.loaded_dbapi.Error as error:
        if cursor._connection.is_closed():
            # On the usual way it fails too, and the connection is put away.
            return await connection.execute(statement, values)
        base = dialect.loaded_dbapi.Error
        raise DBAPIError.instance(plan.words, None, error, base, hide_parameters=True, dialect=dialect) from error
    return IteratorResult(_shape(cursor.description), iter(cursor._rows))


def _plan(statement: TextClause, dialect: Dialect) -> _Plan:
    plan = _PLANS.get(statement)
    if plan is None:
        compiled: Any = statement.compile(dialect=dialect)
        written = {name: write for name, write in compiled._bind_processors.items() if callable(write)}
        plan = _PLANS[statement] = _Plan(compiled.string, tuple(compiled.positiontup or ()), written)
    return plan


def _shape(description: Sequence[Sequence[Any]] | None) -> SimpleResultMetaData:
    names = tuple([column[0] for column in description or ()])
    shape = _SHAPES.get(names)
    if shape is None:
        shape = _SHAPES[names] = SimpleResultMetaData(names)
    return shape
