"""What removal does: prepare requests, send them, follow the cases, obey commands. One use case, one function."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.removal.ports import CaseFile, Policies, Store, Ways

PREPARE = "PREPARE"
"""Due work: make requests of the packed sightings of a case (entity: the case)."""
SUBMIT = "SUBMIT"
"""Due work: send a request (entity: the request)."""
SUBMIT_AGAIN = "SUBMIT_AGAIN"
"""The same after a pause. A kind of its own: a running job that schedules itself would run at once."""

DRY_RUN = "DRY_RUN"
ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"


@dataclass(frozen=True)
class Needs:
    """What the use cases need."""

    store: Store
    case_file: CaseFile
    policies: Policies
    ways: Ways
    clock: Clock
