"""What does `jikimi probe` do? It asks every service's health on the way that clients take."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.tls import open_channel
from services.console.home import SERVICES, Home
from services.console.output import CannotDo, print_rows
from services.console.remote import Remote

SECONDS = 10.0
"""How long a service may take, its connection included."""
HEADINGS = ("service", "address", "status", "ms")


@dataclass(frozen=True)
class Answer:
    """What one instance said."""

    service: str
    address: str
    status: str
    """SERVING, NOT_SERVING, or the status of a call that failed."""
    ms: float

    @property
    def good(self) -> bool:
        """Whether calls should go there."""
        return self.status == "SERVING"


async def probe(home: Home, options: argparse.Namespace) -> int:
    """Asks health of the services named, or of all, by their real names and with this caller's certificate. Needs no
    token: health is exempt. Exit status: 0 all serve, 1 somebody does not."""
    unknown = set(options.services) - set(SERVICES)
    if unknown:
        raise CannotDo(f"There is no service {', '.join(sorted(unknown))}.")
    asked = _addresses(home, options.services or SERVICES)
    folder = os.environ.get("JIKIMI_TLS_DIR", "")
    answers = await asyncio.gather(*(ask(name, at, Path(folder) if folder else None) for name, at in asked))
    facts: list[dict[str, object]] = [
        {"service": a.service, "address": a.address, "status": a.status, "ms": a.ms} for a in answers
    ]
    print_rows(options, facts, list(HEADINGS), [[each[name] for name in HEADINGS] for each in facts])
    return 0 if all(answer.good for answer in answers) else 1


def _addresses(home: Home, services: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """(service, host:port) of everything that is to be asked."""
    named = {service: f"{host}:{port}" for service, (host, port) in Remote.from_env(environ).peers.items()}
    return [
        (service, address)
        for service in services
        for address in ([named[service]] if service in named else home.addresses(service))
    ]


async def ask(service: str, address: str, folder: Path | None) -> Answer:
    """Health of one instance, over mutual TLS where a folder of certificates is named. Raises CannotDo for certificates
    that cannot be read; a call that fails is an answer."""
    began = time.monotonic()
    try:
        channel = open_channel(address, folder, [("grpc.enable_http_proxy", 0)])
    except OSError as error:
        raise CannotDo(f"JIKIMI_TLS_DIR cannot be used ({type(error).__name__}).") from None
    async with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=False)
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
    return Answer(service, address, status, round(1000 * (time.monotonic() - began), 1))
