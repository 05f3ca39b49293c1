"""Where are the services, and who calls them, when the system is not one of this machine's homes?

A job in a cluster is told by its environment: JIKIMI_PEER_<SERVICE>=host:port, JIKIMI_TOKEN_FILE (an actor token for
the service it calls, made elsewhere), JIKIMI_TLS_DIR (tls.crt, tls.key, ca.crt). Nothing is asked of a person.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.console.output import CannotDo

_PEER = "JIKIMI_PEER_"


@dataclass(frozen=True)
class Remote:
    """What the environment says of services elsewhere; empty for a home on this machine."""

    peers: Mapping[str, tuple[str, int]]
    """Service → host and port."""
    token: str = field(repr=False)
    """Actor token for all calls; empty where the home's issuer makes one."""
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Remote:
        """Raises CannotDo for a variable that cannot be used; it names the variable, never its value."""
        peers = {
            name.removeprefix(_PEER).lower(): _address(name, value)
            for name, value in environ.items()
            if name.startswith(_PEER) and value
        }
        token = _text("JIKIMI_TOKEN_FILE", environ)
        folder = environ.get("JIKIMI_TLS_DIR", "")
        return cls(peers, token, _tls(Path(folder)) if folder else None)


def _address(name: str, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise CannotDo(f"{name} is not host:port.")
    return host, int(port)


def _text(name: str, environ: Mapping[str, str]) -> str:
    file = environ.get(name, "")
    try:
        return Path(file).read_text(encoding="ascii").strip() if file else ""
    except (OSError, ValueError) as error:
        raise CannotDo(f"{name} names a file that cannot be read ({type(error).__name__}).") from None


def _tls(folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except OSError as error:
        raise CannotDo(f"JIKIMI_TLS_DIR cannot be used ({type(error).__name__}).") from None
    context.set_alpn_protocols(["h2"])
    return context
