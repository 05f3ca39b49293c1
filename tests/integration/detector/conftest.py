"""What the detector's integration tests share: the service wired on a real database, and its callers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message
from nacl.signing import SigningKey
from sqlalchemy import text

from misuse.case.v1.subscriber_service_pb2 import ConsentScope
from misuse.common.v1 import signal_pb2 as common
from misuse.common.v1.access_pb2 import Purpose, Role
from misuse.detector.v1 import (
    channel_service_pb2_grpc,
    enrollment_service_pb2_grpc,
    signal_service_pb2_grpc,
    upload_service_pb2_grpc,
)
from misuse.detector.v1 import (
    enrollment_service_pb2 as enrolment,
)
from misuse.detector.v1 import (
    events_pb2 as events,
)
from misuse.detector.v1 import (
    signal_service_pb2 as signals,
)
from misuse.log.v1.record_pb2 import LogRecord
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key
from services.chassis.outbox import Outbox
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from services.detector.__main__ import LARGEST_MESSAGE, Detector, UploadParts, wire
from services.detector.adapters.models import FaceModels, open_models
from services.detector.adapters.rules import Rules, read_rules
from services.detector.adapters.tables import Base
from services.detector.domain.pii import Scanner, WholeText
from services.detector.handlers.deciding import PICTURES, TEXTS
from services.detector.ports import TextReader
from tests.integration.databases import connected, empty

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MODELS = Path(__file__).parents[3] / ".cache" / "models"
PROVIDER = "demo-identity"

_TYPES: dict[str, type[Message]] = {
    "signal_matched": events.SignalMatched,
    "review_needed": events.ReviewNeeded,
    "template_verified": events.TemplateVerified,
    "template_erased": events.TemplateErased,
    "erasure_completed": events.ErasureCompleted,
    "channel_switched": events.ChannelSwitched,
    "upload_warned": events.UploadWarned,
    "upload_resolved": events.UploadResolved,
    "recorded": LogRecord,
}


@dataclass
class World:
    """A running detector and everybody around it."""

    detector: Detector
    database: Database
    keys: FileKeyStore
    clock: ManualClock
    issuer: Issuer
    provider: SigningKey
    channel: grpc.aio.Channel
    home: Path
    _numbers: Iterator[int]

    def metadata(self, role: str, purpose: str, subject: str = "tester") -> list[tuple[str, str]]:
        """What a call by this actor carries."""
        token = self.issuer.issue(
            subject, Role.Value(f"ROLE_{role}"), Purpose.Value(f"PURPOSE_{purpose}"), "detector", 600
        )
        return [("authorization", f"Bearer {token}")]

    @property
    def signals(self) -> Any:
        return signal_service_pb2_grpc.SignalServiceStub(self.channel)

    @property
    def enrolment(self) -> Any:
        return enrollment_service_pb2_grpc.EnrollmentServiceStub(self.channel)

    @property
    def channels(self) -> Any:
        return channel_service_pb2_grpc.ChannelServiceStub(self.channel)

    @property
    def uploads(self) -> Any:
        return upload_service_pb2_grpc.UploadServiceStub(self.channel)

    @property
    def collector(self) -> list[tuple[str, str]]:
        return self.metadata("COLLECTOR", "COLLECTION")

    @property
    def backend(self) -> list[tuple[str, str]]:
        return self.metadata("APP_BACKEND", "ENROLMENT")

    @property
    def case(self) -> list[tuple[str, str]]:
        return self.metadata("SERVICE_CASE", "CASE_HANDLING")

    def signal(self, *parts: str | bytes, **changes: Any) -> signals.Signal:
        """A well-formed signal with these parts."""
        number = next(self._numbers)
        message = signals.Signal(
            signal_id=f"s-{number}",
            channel="community",
            source_type=common.SOURCE_TYPE_FORUM,
            source_url=f"https://board.example/posts/{number}",
            post_id=f"post-{number}",
            parts=[
                signals.SignalPart(text=part) if isinstance(part, str) else signals.SignalPart(image=part)
                for part in parts
            ],
            collection_basis=common.COLLECTION_BASIS_PUBLIC_ACCESS,
        )
        message.discover_time.FromDatetime(self.clock.now() - timedelta(seconds=2))
        for name, value in changes.items():
            if isinstance(value, datetime):
                getattr(message, name).FromDatetime(value)
            elif value is None:
                message.ClearField(name)
            else:
                setattr(message, name, value)
        return message

    async def submit(self, signal: signals.Signal) -> Any:
        """Submits one signal."""
        return await self.signals.SubmitSignal(
            signals.SubmitSignalRequest(signal=signal), metadata=self.collector, timeout=20
        )

    async def decide(self) -> int:
        """Decides all that is spooled; returns how many signals were taken."""
        taken = 0
        while count := await self.detector.deciding.batch(TEXTS) + await self.detector.deciding.batch(PICTURES):
            taken += count
        return taken

    async def register(self, *scopes: str, minor: bool = False) -> str:
        """A subscriber with consents, as the events of `case` tell it."""
        who = uuid7()
        async with self.database.begin() as session:
            work = self.detector.store.within(session)
            await self.detector.following.registered(work, who, minor)
            for scope in scopes or ("SERVICE", "FACE_TEMPLATE", "WATCHED_IDENTIFIER"):
                number = ConsentScope.Value(f"CONSENT_SCOPE_{scope}")
                await self.detector.following.consent(work, who, number, True)
        return who

    async def follow(self, change: Callable[[Any], Awaitable[None]]) -> None:
        """Applies an event of `case` in a transaction of its own."""
        async with self.database.begin() as session:
            await change(self.detector.store.within(session))
        await self.detector.feed.refresh()

    async def watch(self, who: str, kind: int, value: str) -> enrolment.WatchedIdentifier:
        """A PENDING watched identifier."""
        request = enrolment.WatchIdentifierRequest(subscriber_id=who, request_id=uuid7(), kind=kind, value=value)
        return (await self.enrolment.WatchIdentifier(request, metadata=self.backend)).identifier

    def claims(self, who: str, target: str, value: str = "", **changes: Any) -> enrolment.OwnershipClaims:
        """What the provider would assert."""
        claims = enrolment.OwnershipClaims(
            provider=PROVIDER,
            key_id="demo-identity-1",
            audience="jikimi.detector",
            subscriber_id=who,
            target_id=target,
            value=value,
            possession=True,
            real_name=True,
            nonce=uuid7().encode(),
        )
        claims.issue_time.FromDatetime(self.clock.now())
        claims.expire_time.FromDatetime(self.clock.now() + timedelta(minutes=5))
        for name, change in changes.items():
            if isinstance(change, datetime):
                getattr(claims, name).FromDatetime(change)
            else:
                setattr(claims, name, change)
        return claims

    async def prove(self, who: str, claims: enrolment.OwnershipClaims, *, face: bool = False) -> Any:
        """Hands in the provider's assertion."""
        content = claims.SerializeToString()
        request = enrolment.VerifyOwnershipRequest(
            subscriber_id=who, claims=content, signature=self.provider.sign(content).signature
        )
        if face:
            request.template_id = claims.target_id
        else:
            request.watch_id = claims.target_id
        return await self.enrolment.VerifyOwnership(request, metadata=self.backend)

    async def watched(self, who: str, kind: int, value: str) -> str:
        """A proved watched identifier."""
        identifier = await self.watch(who, kind, value)
        await self.prove(who, self.claims(who, identifier.watch_id, value))
        return str(identifier.watch_id)

    async def enrol(self, who: str, *pictures: bytes) -> enrolment.FaceTemplate:
        """A PENDING template."""
        request = enrolment.EnrollFaceRequest(subscriber_id=who, request_id=uuid7(), pictures=pictures)
        return (await self.enrolment.EnrollFace(request, metadata=self.backend, timeout=30)).template

    async def enrolled(self, who: str, *pictures: bytes) -> str:
        """A proved template."""
        template = await self.enrol(who, *pictures)
        await self.prove(who, self.claims(who, template.template_id), face=True)
        return str(template.template_id)

    async def published(self, name: str) -> list[Any]:
        """The events of one name in the outbox, in order."""
        async with self.database.begin() as session:
            rows = await session.execute(
                text("SELECT payload FROM outbox WHERE event = :event ORDER BY seq"), {"event": name}
            )
            return [_TYPES[name].FromString(bytes(row[0])) for row in rows]

    async def facts(self, name: str = "signal_matched") -> list[events.MatchFacts]:
        """The facts of SignalMatched or ReviewNeeded."""
        return [event.facts for event in await self.published(name)]

    async def records(self, body: str) -> list[Any]:
        """The log records of one kind."""
        return [
            getattr(record, body) for record in await self.published("recorded") if record.WhichOneof("body") == body
        ]

    async def count(self, table: str) -> int:
        """Rows of a table."""
        async with self.database.begin() as session:
            return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


@dataclass(frozen=True)
class Heavy:
    """What takes long to make and serves every test."""

    rules: Rules
    models: FaceModels
    scanner: Scanner
    upload_scanner: Scanner


@pytest.fixture(scope="session")
def heavy() -> Heavy:
    """Rules, models and scanner, made once."""
    if not (MODELS / "models.json").exists():
        pytest.skip("the model files are not prepared: run `make setup`")
    rules = read_rules()
    scanner = rules.scanner()
    return Heavy(rules, open_models(MODELS), scanner, Scanner(scanner.rules, WholeText))


@pytest.fixture(scope="session")
def migrated(migrated_url: Callable[[str], str]) -> str:
    """URL of a database with the detector's schema."""
    return migrated_url("detector")


@pytest.fixture
async def empty_url(migrated: str) -> str:
    """The same database without rows."""
    database = connected(migrated)
    await empty(database, Base.metadata.sorted_tables)
    await database.close()
    return migrated


@pytest.fixture
async def world(empty_url: str, tmp_path: Path, heavy: Heavy) -> AsyncIterator[World]:
    """A detector with an empty database, served on loopback; the tests drive its workers themselves."""
    async with running(empty_url, tmp_path, heavy) as found:
        yield found


@asynccontextmanager
async def running(
    url: str, home: Path, heavy: Heavy, clock: ManualClock | None = None, reader: TextReader | None = None
) -> AsyncIterator[World]:
    """A detector on a migrated database, empty or used."""
    master = home / "keys" / "master.key"
    create_master_key(master)
    issuer = create_key_pair(home / "tokens" / "private", home / "tokens" / "public", "tests")
    provider = SigningKey(b"p" * 32)
    providers = home / "tokens" / "providers"
    providers.mkdir(exist_ok=True)
    (providers / f"{PROVIDER}.pub").write_text(provider.verify_key.encode().hex())
    config = Config(
        service="detector",
        home=home,
        keys_dir=home / "keys" / "detector",
        token_keys_dir=home / "tokens" / "public",
        models_dir=MODELS,
        profile="test",
        max_message_bytes=LARGEST_MESSAGE,
    )
    database = connected(url)
    keys = FileKeyStore(config.keys_dir, master)
    time = clock or ManualClock(START)
    with ThreadPoolExecutor(2) as executor, ThreadPoolExecutor(2) as for_uploads:
        outbox = Outbox("detector", 4, b"k" * 32)
        detector = wire(
            config,
            heavy.rules,
            database,
            outbox,
            keys,
            time,
            heavy.models,
            heavy.scanner,
            executor,
            reader=reader,
            uploads=UploadParts(for_uploads, 2, heavy.upload_scanner),
        )
        await detector.start()
        await detector.feed.refresh()
        server, port = build_server(config, detector.register)
        await server.start()
        options = [("grpc.max_send_message_length", 64 << 20)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield World(detector, database, keys, time, issuer, provider, channel, home, itertools.count(1))
        await server.stop(None)
        await database.close()


def pictures_named(names: Sequence[str]) -> list[bytes]:
    """Pictures of the demo's cache."""
    folder = Path(__file__).parents[3] / ".cache" / "pictures"
    return [(folder / name).read_bytes() for name in names]
