"""Who is enrolled before a load, and as whom does the load call?"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from misuse.case.v1 import subscriber_service_pb2 as subscribers
from misuse.case.v1.subscriber_service_pb2_grpc import SubscriberServiceStub
from misuse.common.v1.signal_pb2 import IDENTIFIER_KIND_EMAIL
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1.enrollment_service_pb2_grpc import EnrollmentServiceStub
from misuse.notify.v1 import notify_service_pb2 as notify
from misuse.notify.v1.notify_service_pb2_grpc import NotifyServiceStub
from services.console import commands, upload_commands
from services.console.client import Caller, connections, staff
from services.console.demo.corpus import FOREIGN_POSTS, NEUTRAL_POSTS
from services.console.demo.pictures import jpeg, opened
from services.console.provider import TestProvider
from tests.load.plan import Person
from tests.scenario.doors import COLLECTOR
from tests.scenario.system import System, reason_of

AT_ONCE = 24
LINKED = 8
"""People with a linked account, for upload checks."""
PATIENCE = 200
PICTURE_PIXELS, QUALITIES = 480, (90, 80, 70, 60)
"""Small copies of the demo's pictures, each in several qualities: no two the same file."""
ENROLLED = ("obama", "biden")
KNOWN = ("obama2", "obama3")
ABOUT = (
    "연락처 {mail} 입니다, 퍼가지 마세요",
    "이 사람 메일 {mail} 맞나요? 제보 받습니다",
    "신상 공개: {mail} 로 항의 메일 보냅시다",
    "Found it: {mail} is the account, same password everywhere.",
)
TEXTS = {"neutral": tuple(NEUTRAL_POSTS), "others": tuple(FOREIGN_POSTS), "about": ABOUT}
TOKEN_SECONDS = 43_000
EACH = 4
"""Addresses that each subscriber watches: enrolling takes most of what comes before a load."""
_SCOPES = (
    subscribers.CONSENT_SCOPE_SERVICE,
    subscribers.CONSENT_SCOPE_WATCHED_IDENTIFIER,
    subscribers.CONSENT_SCOPE_REMOVAL,
    subscribers.CONSENT_SCOPE_LINKED_ACCOUNT,
)
_PASSING = ("CONSENT_MISSING", "SUBSCRIBER_UNKNOWN")


def tokens_of(system: System) -> dict[str, str]:
    """Bearer tokens for the load, by what they are for."""

    def issue(caller: Caller, service: str) -> str:
        return system.issuer.issue(caller.subject, caller.role, caller.purpose, service, TOKEN_SECONDS)

    backend = "APP_BACKEND"
    return {
        "detector": issue(COLLECTOR, "detector"),
        "enrolment": issue(staff(backend, "ENROLMENT", "load"), "case"),
        "watching": issue(staff(backend, "ENROLMENT", "load"), "detector"),
        "uploads": issue(staff(backend, "PROTECTION", "load"), "detector"),
        "notify": issue(staff(backend, "PROTECTION", "load"), "notify"),
    }


async def populate(system: System, count: int, say: Callable[[str], None], *, faces: bool = True) -> list[Person]:
    """So many addresses, watched and proved, EACH of them a subscriber's with a device; some subscribers with linked
    accounts, two more with faces."""
    turn = asyncio.Semaphore(AT_ONCE)
    registrar = _Registrar(system)
    run = secrets.token_hex(4)
    done = 0

    async def one(number: int) -> list[Person]:
        nonlocal done
        async with turn:
            made = await registrar.enrol(f"{run}-{number}", min(EACH, count - number))
            done += len(made)
            if done % 400 == 0:
                say(f"  {done} of {count} addresses are watched")
            return made

    try:
        made = await asyncio.gather(*(one(number) for number in range(0, count, EACH)))
    finally:
        await registrar.close()
    people = [person for some in made for person in some]
    async with connections(system.home) as services:
        for number in range(0, min(count, LINKED * EACH), EACH):
            account = await upload_commands.link(services, people[number].subscriber_id, "meta", f"load{number}")
            people[number] = replace(people[number], account_id=account)
        if faces:
            provider = TestProvider(system.home)
            for name in ENROLLED:
                subscriber_id = await commands.register(services, name, "", "en")
                await commands.enrol(services, provider, subscriber_id, [(_pictures() / f"{name}.jpg").read_bytes()])
    return people


class _Registrar:
    """Enrols people over plain gRPC."""

    def __init__(self, system: System) -> None:
        ports, self._tokens = system.home.ports(), tokens_of(system)
        self._provider = TestProvider(system.home)
        self._channels = {
            service: grpc.aio.insecure_channel(f"127.0.0.1:{ports[service]}", [("grpc.enable_http_proxy", 0)])
            for service in ("case", "detector", "notify")
        }
        self._people: Any = SubscriberServiceStub(self._channels["case"])
        self._watches: Any = EnrollmentServiceStub(self._channels["detector"])
        self._devices: Any = NotifyServiceStub(self._channels["notify"])

    async def enrol(self, name: str, addresses: int) -> list[Person]:
        """One subscriber who watches so many addresses."""
        case = self._as("enrolment")
        request = subscribers.RegisterSubscriberRequest(
            request_id=name, display_name="Load", contact_email=f"load.{name}@example.org", language="ko"
        )
        who = (await self._people.RegisterSubscriber(request, metadata=case)).subscriber.subscriber_id
        for scope in _SCOPES:
            consent = subscribers.RecordConsentRequest(
                subscriber_id=who, request_id=f"{name}-{scope}", scope=scope, text_version="load"
            )
            await self._people.RecordConsent(consent, metadata=case)
        device = notify.RegisterDeviceRequest(subscriber_id=who, device_id="phone", os="android")
        await _patiently(lambda: self._devices.RegisterDevice(device, metadata=self._as("notify")))
        return [await self._watch(who, f"load.{name}.{number}@example.com") for number in range(addresses)]

    async def _watch(self, who: str, mail: str) -> Person:
        detector = self._as("watching")
        watch = enrolment.WatchIdentifierRequest(
            subscriber_id=who, request_id=secrets.token_hex(16), kind=IDENTIFIER_KIND_EMAIL, value=mail
        )
        answer = await _patiently(lambda: self._watches.WatchIdentifier(watch, metadata=detector))
        claims, signature = self._provider.assertion(who, answer.identifier.watch_id, mail)
        proof = enrolment.VerifyOwnershipRequest(
            subscriber_id=who, watch_id=answer.identifier.watch_id, claims=claims, signature=signature
        )
        await self._watches.VerifyOwnership(proof, metadata=detector)
        return Person(who, mail)

    def _as(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._tokens[name]}"),)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


async def _patiently(call: Callable[[], Any]) -> Any:
    """A subscriber and a consent travel to other services as events."""
    for _ in range(PATIENCE):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if reason_of(error) not in _PASSING:
                raise
            await asyncio.sleep(0.1)
    return await call()


def _pictures() -> Path:
    return Path(__file__).resolve().parents[2] / ".cache" / "pictures"


def small_pictures(folder: Path) -> dict[str, tuple[str, ...]]:
    """Small copies of the demo's licensed pictures, by whether they show somebody enrolled."""
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(file.stem for file in _pictures().glob("sample*.jpg"))
    return {"known": _copies(folder, KNOWN), "others": _copies(folder, [*strangers, "astronaut"])}


def _copies(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    files = []
    for name in names:
        original = next(file for ending in (".jpg", ".png") if (file := _pictures() / f"{name}{ending}").exists())
        picture = opened(original.read_bytes(), PICTURE_PIXELS)
        for quality in QUALITIES:
            file = folder / f"{name}-{quality}.jpg"
            file.write_bytes(jpeg(picture, quality))
            files.append(str(file))
    return tuple(files)
