"""Do pieces of work that run side by side share a transaction, and does each get what is its own?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from services.chassis.together import LEFT, Left, Piece, Together

WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Rounds:
    """Does pieces in rounds that end when the test says so."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.may_end = asyncio.Semaphore(0)

    def let_end(self, number: int = 100) -> None:
        for _ in range(number):
            self.may_end.release()

    async def do(self, pieces: Sequence[Piece[str]], alone: bool) -> Sequence[str | Left]:
        self.rounds.append([piece.item for piece in pieces])
        await self.may_end.acquire()
        if any(piece.item == "bad" for piece in pieces):
            raise ValueError("bad")
        return [LEFT if piece.item == "held" and not alone else piece.item.upper() for piece in pieces]


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


async def ask(queue: Together[str], rounds: Rounds, *items: str) -> list[asyncio.Task[str]]:
    """Has pieces wait in their order."""
    tasks = []
    for item in items:
        tasks.append(asyncio.create_task(queue(item, rounds.do)))
        await asyncio.sleep(0)
    return tasks


async def test_what_waits_while_one_runs_is_done_together(rounds: Rounds) -> None:
    tasks = await ask(Together(), rounds, "a", "b", "c")
    rounds.let_end()
    assert ["A", "B", "C"] == await asyncio.gather(*tasks)
    assert [["a"], ["b", "c"]] == rounds.rounds


async def test_the_bound_is_one_of_sizes_and_a_piece_may_be_larger(rounds: Rounds) -> None:
    tasks = await ask(Together(most=3, size=len), rounds, "a", "b", "cc", "dddd", "e")
    rounds.let_end()
    await asyncio.gather(*tasks)
    assert [["a"], ["b", "cc"], ["dddd"], ["e"]] == rounds.rounds


async def test_after_a_calm_the_patient_let_others_come(rounds: Rounds) -> None:
    tasks = await ask(Together(moment=0.05, patient=True), rounds, "a", "b", "c")
    rounds.let_end()
    await asyncio.gather(*tasks)
    assert [["a", "b", "c"]] == rounds.rounds


async def test_no_more_than_the_bound_share(rounds: Rounds) -> None:
    tasks = await ask(Together(most=2), rounds, "a", "b", "c", "d")
    rounds.let_end()
    await asyncio.gather(*tasks)
    assert [["a"], ["b", "c"], ["d"]] == rounds.rounds


async def test_one_that_fails_fails_alone(rounds: Rounds) -> None:
    tasks = await ask(Together(), rounds, "a", "b", "bad", "c")
    rounds.let_end()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert ["A", "B", ValueError, "C"] == [type(one) if isinstance(one, Exception) else one for one in found]
    assert [["a"], ["b", "bad", "c"]] == rounds.rounds[:2]
    assert [["b"], ["bad"], ["c"]] == sorted(rounds.rounds[2:])


async def test_what_somebody_else_holds_is_done_alone_afterwards(rounds: Rounds) -> None:
    tasks = await ask(Together(), rounds, "a", "b", "held", "c")
    rounds.let_end()
    assert ["A", "B", "HELD", "C"] == await asyncio.gather(*tasks)
    assert [["a"], ["b", "held", "c"], ["held"]] == rounds.rounds


async def test_one_that_is_called_off_while_it_waits_is_left_out(rounds: Rounds) -> None:
    first, second, third = await ask(Together(), rounds, "a", "b", "c")
    second.cancel()
    await asyncio.sleep(0)
    rounds.let_end()
    assert ["A", "C"] == await asyncio.gather(first, third)
    assert [["a"], ["c"]] == rounds.rounds


async def test_the_others_go_on_when_the_one_that_leads_is_called_off(rounds: Rounds) -> None:
    first, leading, third = await ask(Together(), rounds, "a", "b", "c")
    rounds.let_end(1)
    assert "A" == await first
    while len(rounds.rounds) < 2:
        await asyncio.sleep(0)
    leading.cancel()
    await asyncio.sleep(0)
    rounds.let_end()
    assert "C" == await third
    assert leading.cancelled()
    assert [["a"], ["b", "c"], ["c"]] == rounds.rounds


async def test_each_is_done_as_whoever_asked_for_it() -> None:
    async def mine() -> str:
        return WHO.get()

    async def do(pieces: Sequence[Piece[str]], alone: bool) -> Sequence[str]:
        return [await piece.within(mine()) for piece in pieces]

    async def as_one(name: str) -> str:
        WHO.set(name)
        return await queue(name, do)

    queue: Together[str] = Together()
    assert ["a", "b", "c"] == await asyncio.gather(as_one("a"), as_one("b"), as_one("c"))


async def test_pieces_that_come_steadily_are_let_gather(rounds: Rounds) -> None:
    rounds.let_end()
    queue: Together[str] = Together(moment=0.01)
    for _ in range(5):
        await queue("before", rounds.do)
    tasks = await ask(queue, rounds, "a", "b", "c")
    await asyncio.gather(*tasks)
    assert ["a", "b", "c"] == rounds.rounds[-1]


async def test_a_single_one_that_has_to_wait_for_others_is_tried_and_then_done_alone(rounds: Rounds) -> None:
    first, second = await ask(Together(), rounds, "held", "b")
    rounds.let_end()
    assert ["HELD", "B"] == await asyncio.gather(first, second)
    assert [["b"], ["held"], ["held"]] == sorted(rounds.rounds)
