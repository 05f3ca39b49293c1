"""How does a process prove on the wire who it is, and how does it know its peers?

A folder holds `tls.crt`, `tls.key` and `ca.crt` in PEM: the layout of a cert-manager secret. Both sides of every call
and of the way to the broker show a certificate that the same authority signed. Who may call what is decided by actor
tokens; certificates only keep strangers off the wire. Renewed files are taken up by a restart: `until_renewed`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
LOOK_SECONDS = 60.0
SPREAD_SECONDS = 4 * 3600.0
"""Replicas that see renewed files at the same time restart within so long of each other, not at once."""


def add_port(server: grpc.aio.Server, listen: str, folder: Path | None) -> int:
    """Has the server listen on host:port, with a certificate and asking for the caller's; without a folder in the
    clear. Returns the port. Raises OSError for a missing file, RuntimeError for an occupied port."""
    if folder is None:
        return server.add_insecure_port(listen)
    pair = ((folder / KEY).read_bytes(), (folder / CERTIFICATE).read_bytes())
    authority = (folder / AUTHORITY).read_bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    return server.add_secure_port(listen, credentials)


def open_channel(target: str, folder: Path | None, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
    """A channel to host:port. With a folder the peer's certificate has to bear the host's name. Raises OSError."""
    if folder is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, channel_credentials(folder), options=options)


def channel_credentials(folder: Path) -> grpc.ChannelCredentials:
    """What a gRPC client shows and whom it trusts. Raises OSError."""
    return grpc.ssl_channel_credentials(
        root_certificates=(folder / AUTHORITY).read_bytes(),
        private_key=(folder / KEY).read_bytes(),
        certificate_chain=(folder / CERTIFICATE).read_bytes(),
    )


def client_context(folder: Path | None) -> ssl.SSLContext | None:
    """The same for what uses Python's own TLS (the broker's client); None in the clear. Raises OSError."""
    if folder is None:
        return None
    context = ssl.create_default_context(cafile=str(folder / AUTHORITY))
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context


async def until_renewed(
    folder: Path, look_seconds: float = LOOK_SECONDS, spread_seconds: float = SPREAD_SECONDS
) -> None:
    """Returns some time after the certificate was replaced; the old one is still valid for long."""
    file = folder / CERTIFICATE
    first = file.read_bytes()
    # A moment without the file is the middle of a replacement.
    while not file.exists() or file.read_bytes() == first:
        await asyncio.sleep(look_seconds)
    await asyncio.sleep(random.uniform(0, spread_seconds))  # spreads a load, keeps no secret
