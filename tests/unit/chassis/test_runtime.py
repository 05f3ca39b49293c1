"""A service that starts before its database or the broker waits for them, and not for what refuses it."""

from __future__ import annotations

import pytest

from services.chassis.runtime import once_there


class Coming:
    """A server that is there at the third try."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.tries = 0

    async def reach(self) -> None:
        self.tries += 1
        if self.tries < 3:
            raise self.error


async def test_start_waits_for_a_server_that_comes_up_later() -> None:
    server = Coming(ConnectionRefusedError())
    await once_there(server.reach)
    assert 3 == server.tries


async def test_start_does_not_wait_for_a_server_that_refuses() -> None:
    server = Coming(ValueError("a wrong password stays wrong"))
    with pytest.raises(ValueError, match="wrong password"):
        await once_there(server.reach)
    assert 1 == server.tries
