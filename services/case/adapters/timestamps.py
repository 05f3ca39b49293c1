"""What time is signed into an archive today? The service's own clock under a key that signs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.case.domain.timestamps import time_token
from services.case.ports import Signer
from services.chassis.ids import uuid7

TIME_KEY_ID = "case-time"


class OwnTime:
    """The `Timestamps` of the service itself. Whoever holds its key could date back; an outside authority could not."""

    def __init__(self, signer: Signer, now: Callable[[], datetime]) -> None:
        self._signer = signer
        self._now = now

    async def stamp(self, imprint: bytes) -> bytes:
        """See `Timestamps`. The serial is a UUIDv7."""
        return time_token(imprint, uuid7(), self._now(), self._signer.key_id, self._signer.sign)
