"""By which doors does word of messages come back? What the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from services.chassis.config import ConfigError, setting
from services.chassis.maildir import Maildir
from services.chassis.runtime import Loop
from services.notify.adapters.receipts import ReceiptHook, Take, take_mail


@dataclass(frozen=True)
class Intake:
    """What this process was told about receipts."""

    listen: str = ""
    """host:port where the SMS gateway calls back; empty: nowhere."""
    secret: bytes = field(default=b"", repr=False)
    """With which it signs."""
    maildir: Path | None = None
    """Into which the relay delivers what mail servers report."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], secret: bytes) -> Intake:
        """`secret`: of the gateways. Raises ConfigError."""
        listen = setting(environ, "JIKIMI_NOTIFY_RECEIPTS_LISTEN", "", _host_port)
        if listen and not secret:
            raise ConfigError("JIKIMI_NOTIFY_RECEIPTS_LISTEN", "needs JIKIMI_NOTIFY_HOOK_SECRET_FILE")
        return cls(listen, secret, setting(environ, "JIKIMI_NOTIFY_BOUNCE_MAILDIR", None, Path))

    def loops(self, take: Take) -> list[Loop]:
        """What runs as long as the service does."""
        found: list[Loop] = []
        if self.listen:
            found.append(partial(ReceiptHook(self.secret, take).run, self.listen))
        if self.maildir is not None:
            found.append(Maildir(self.maildir, partial(take_mail, take)).run)
        return found


def _host_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError
    return text
