"""By which doors do replies come in here? What the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis.config import ConfigError, setting
from services.removal.adapters.ways import host_port, read_secrets


@dataclass(frozen=True)
class Intake:
    """What this process was told about replies."""

    hook_listen: str = ""
    """host:port of the web hook; empty: none."""
    hook_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Platform → the secret with which it signs."""
    maildir: Path | None = None
    authserv_id: str = ""
    """Name of our relay in Authentication-Results."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Intake:
        """Raises ConfigError."""
        listen = setting(environ, "JIKIMI_REMOVAL_HOOK_LISTEN", "", host_port)
        secrets = read_secrets(environ, "hook_secret")
        if listen and not secrets:
            raise ConfigError("JIKIMI_REMOVAL_HOOK_LISTEN", "needs a hook_secret in JIKIMI_REMOVAL_SECRETS")
        return cls(
            hook_listen=listen,
            hook_secrets=secrets,
            maildir=setting(environ, "JIKIMI_REMOVAL_MAILDIR", None, Path),
            authserv_id=setting(environ, "JIKIMI_REMOVAL_AUTHSERV_ID", "", str),
        )
