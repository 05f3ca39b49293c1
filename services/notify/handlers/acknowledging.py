"""How is it noted what devices have shown?

Calls that arrive while a transaction commits share the next one: thousands of devices acknowledge at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.database import is_transient
from services.chassis.errors import Unavailable
from services.notify.domain.delivery import Path
from services.notify.handlers.streaming import not_registered
from services.notify.ports import Unit, Units

CALLS_AT_ONCE = 256


@dataclass(eq=False)
class _Call:
    subscriber_id: str
    device_id: str
    shown: Sequence[str]
    arrived: Sequence[str]
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Acknowledging:
    """Takes what devices say."""

    def __init__(self, units: Units, clock: Clock) -> None:
        self._units = units
        self._clock = clock
        self._waiting: list[_Call] = []
        self._arrival = asyncio.Event()
        self._stopped = False

    async def acknowledge(
        self, subscriber_id: str, device_id: str, shown: Sequence[str], arrived: Sequence[str]
    ) -> int:
        """Ends deliveries of what was shown and notes what has arrived; how many of those shown are acknowledged now.

        Returns after the commit. Raises FailedPrecondition DEVICE_NOT_REGISTERED, and Unavailable when this process
        stops.
        """
        if self._stopped:
            raise _stopping()
        call = _Call(subscriber_id, device_id, shown, arrived)
        self._waiting.append(call)
        self._arrival.set()
        return await call.answer

    async def run(self) -> None:
        """Works until cancelled; whoever still waits then is told to try again."""
        try:
            while True:
                await self._arrival.wait()
                self._arrival.clear()
                while self._waiting:
                    calls, self._waiting = self._waiting[:CALLS_AT_ONCE], self._waiting[CALLS_AT_ONCE:]
                    await self._settle(calls)
        finally:
            self._stopped = True
            for call in self._waiting:
                call.fail(_stopping())

    async def _settle(self, calls: Sequence[_Call]) -> None:
        """One that cannot be settled fails by itself."""
        try:
            await self._apply(calls)
        except Exception as error:
            if is_transient(error) or len(calls) == 1:
                for call in calls:
                    call.fail(error)
                return
            for call in calls:
                await self._settle([call])
        except asyncio.CancelledError:
            for call in calls:
                call.fail(_stopping())
            raise

    async def _apply(self, calls: Sequence[_Call]) -> None:
        now = self._clock.now()
        async with self._units() as unit:
            known = await unit.store.device_keys({(call.subscriber_id, call.device_id) for call in calls})
            keys = [known.get((call.subscriber_id, call.device_id), "") for call in calls]
            shown = {(key, each) for key, call in zip(keys, calls, strict=True) if key for each in call.shown}
            arrived = {(key, each) for key, call in zip(keys, calls, strict=True) if key for each in call.arrived}
            await self._note(unit, shown, arrived, now)
            done = await unit.store.acknowledged_among(shown)
        for key, call in zip(keys, calls, strict=True):
            if not key:
                call.fail(not_registered())
            elif not call.answer.done():
                call.answer.set_result(sum((key, each) in done for each in set(call.shown)))

    async def _note(
        self, unit: Unit, shown: set[tuple[str, str]], arrived: set[tuple[str, str]], now: datetime
    ) -> None:
        ended, came = await unit.store.take_words(shown, arrived, now)
        if not ended and not came:
            return
        devices = await unit.store.devices_by_key({each.notification.device_key for each in (*ended, *came)})
        for notification, untold in came:
            device = devices[notification.device_key]
            if untold:
                unit.journal.handed_over(notification, device, Path.PUSH, first=True)
            unit.journal.noted(notification, device, "DELIVERED", path=notification.path)
        for notification, untold in ended:
            device = devices[notification.device_key]
            if untold:
                unit.journal.handed_over(notification, device, Path.PUSH, first=True)
            unit.journal.acknowledged(notification, device, now)


def _stopping() -> Unavailable:
    return Unavailable("STOPPING", "This replica stops; another one takes the call.")
