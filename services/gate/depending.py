"""What do people say of the dependencies of releases?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.errors import NotFound
from services.chassis.ids import uuid7
from services.gate.domain.dependencies import DependencyChange, DependencyState, Register, Standing, standings
from services.gate.ports import Command, Shelf, Shelves


@dataclass(frozen=True)
class Depending:
    """Keeps the register of dependencies."""

    register: Register
    shelves: Shelves
    clock: Clock
    reference: Callable[[str], str]
    """Opaque reference of an actor."""

    async def all(self) -> Sequence[Standing]:
        """Every dependency by id, as it stands now."""
        async with self.shelves() as shelf:
            return standings(self.register, await shelf.dependencies.latest())

    async def change(self, dependency_id: str, state: DependencyState, reason: str, command: Command) -> Standing:
        """Notes a change of state once; the same state for another reason is a change too. Raises NotFound
        NO_SUCH_DEPENDENCY."""
        async with self.shelves() as shelf:
            before = await self._standing(shelf, dependency_id)
            if await shelf.recall(command) is not None:
                return before
            change = DependencyChange(uuid7(), dependency_id, state, reason, self.clock.now())
            await shelf.dependencies.put(before, change, self.register, self.reference(command.caller))
            await shelf.remember(command, change.change_id)
            return Standing(before.dependency, state, reason, change.create_time)

    async def _standing(self, shelf: Shelf, dependency_id: str) -> Standing:
        latest = await shelf.dependencies.latest()
        for standing in standings(self.register, latest):
            if standing.dependency.dependency_id == dependency_id:
                return standing
        raise NotFound("NO_SUCH_DEPENDENCY", "The register knows no such dependency.")
