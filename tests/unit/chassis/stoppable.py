"""A service to be stopped from outside: `python -m tests.unit.chassis.stoppable HOME ADDRESS`.

Say takes a moment, Count never ends by itself. One printed line tells each thing that happened.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from services.chassis.config import Config
from services.chassis.server import serve
from tests.unit.chassis.talk import Talk, Word


def tell(event: str) -> None:
    print(event, flush=True)


async def slow(request: Any, context: Any) -> Any:
    tell("call entered")
    await asyncio.sleep(0.3)
    tell("call done")
    return Word(text="done")


async def endless(request: Any, context: Any) -> AsyncIterator[Any]:
    tell("stream entered")
    yield Word(text="first")
    await asyncio.Event().wait()


async def background(stop: asyncio.Event) -> None:
    await stop.wait()
    tell("background done")


async def main(home: Path, address: str) -> None:
    config = Config(
        service="case", home=home, token_keys_dir=home / "public", listen=address, drain_seconds=5
    )
    talk = Talk()
    talk.say, talk.count = slow, endless
    await serve(config, talk.register, background=[background])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
