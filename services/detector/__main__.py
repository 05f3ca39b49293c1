"""How the detector is put together: `python -m services.detector serve|migrate|eval|model|scan`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc.aio
import numpy as np

from misuse.common.v1.signal_pb2 import CollectionBasis
from misuse.detector.v1 import (
    calibration_service_pb2_grpc,
    channel_service_pb2_grpc,
    enrollment_service_pb2_grpc,
    signal_service_pb2_grpc,
    upload_service_pb2_grpc,
)
from services.chassis.clock import Clock
from services.chassis.config import Config, ConfigError, integer, setting
from services.chassis.database import Database, is_transient
from services.chassis.due import DueHandler
from services.chassis.fetch import Fetcher, read_fetch_rules
from services.chassis.grants import GrantVerifier
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Loop, Runtime
from services.chassis.server import run
from services.chassis.telemetry import logger
from services.detector.adapters import backlog
from services.detector.adapters.analysis import SignalAnalyst
from services.detector.adapters.calibration import calibrated
from services.detector.adapters.engines import AUTO, UnusableEngine, known_engine
from services.detector.adapters.enrolled import DatabaseFeed, EnrolledFaces, publish_freshness
from services.detector.adapters.enroller import FaceEnroller
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.likeness import CascadeLikeness
from services.detector.adapters.liveness import PassiveLiveness
from services.detector.adapters.model_files import UnusableModel
from services.detector.adapters.models import Embedder, FaceModels, open_models
from services.detector.adapters.ocr import OFF, OcrUnavailable, known_mode, open_reader
from services.detector.adapters.pages import PublicPages
from services.detector.adapters.providers import ProviderKeys
from services.detector.adapters.rules import Rules, mask_value, read_rules, refusal_of_picture
from services.detector.adapters.spool import spool_topic
from services.detector.adapters.store import Store
from services.detector.adapters.triton import TritonEmbedders, address_from_env, read_triton_rules
from services.detector.adapters.uploads_look import PictureRedactor, QuickEye
from services.detector.consumer import case_handlers, label_handlers, notify_handlers
from services.detector.domain.faces import FaceRules
from services.detector.domain.pii import Scanner
from services.detector.domain.signals import Door
from services.detector.handlers.calibrating import GRANT_KIND, Calibrating
from services.detector.handlers.deciding import DECIDE_SIGNAL, LANES, Deciding, Turns
from services.detector.handlers.enrolling import EXPIRE_TEMPLATE, EXPIRE_WATCH, Enrolling
from services.detector.handlers.following import Following
from services.detector.handlers.freshness import Reporting
from services.detector.handlers.intake import Counter, Intake, KnownChannels
from services.detector.handlers.proving import Challenging, Devices, Reembedding, Resolving
from services.detector.handlers.remembering import PURGE_CONTENTS, Remembering
from services.detector.handlers.scanning import SCAN_ENDS, Scanning
from services.detector.handlers.serving import Looking, Sweeping, Watching
from services.detector.handlers.sightings import LOOK_AT_REPORT, Sightings
from services.detector.handlers.uploading import NO_ANSWER, PURGE_CHECK, PURGE_RESULT, Checking, Linking, UploadLane
from services.detector.handlers.uploading_answers import Answering
from services.detector.ports import Pages, TextReader
from services.detector.sealing import References, Vault
from services.detector.servicer import (
    CalibrationServicer,
    ChannelServicer,
    EnrollmentServicer,
    SignalServicer,
    UploadServicer,
)

# Run as a program this module has another name, below which lines are not asked for.
log = logger("services.detector.__main__")

MIGRATIONS = Path(__file__).parent / "migrations"
MIB = 1024 * 1024
LARGEST_MESSAGE = 24 * MIB
TEXTS_IN_PICTURES = "detector.ocr"
"""What health answers for: SERVING where texts in pictures are read."""
FAST_SCAN = "detector.fast_scan"
"""What health answers for: SERVING where texts are scanned by the compiled engine, not by the slower reference."""
FOLLOW_SECONDS = 1.0
SWEEP_SECONDS = 30.0
REEMBED_SECONDS = 3600.0
REEMBED_RETRY_SECONDS, REEMBED_MOST_RETRY_SECONDS = 2.0, 60.0
READY_SECONDS = 1.0
_NICE = 10
"""How far collected content steps back behind uploads: to a tenth of their share where both want the processor."""


@dataclass(frozen=True)
class Tuning:
    """What may be set for a machine."""

    workers: int = 2
    """Batches of each lane that are worked on at once."""
    threads: int = 2
    """Threads for what is heavy; each runs one-threaded models."""
    model_threads: int = 1
    """Threads inside one model run."""
    engine: str = AUTO
    """What works out the models that gain by it: one of engines.ENGINES."""
    spool_bytes: int = 2048 * MIB
    """Sealed content that may wait."""
    ocr: str = AUTO
    """Whether texts in pictures are read: one of ocr.MODES."""
    look: bool = False
    """Whether addresses that subscribers report are fetched; this service holds faces, so it has no way out unasked."""
    uploads: int = 2
    """Uploads that are looked at at once, each in a thread of its own; more are refused."""

    @classmethod
    def from_env(cls) -> Tuning:
        """Reads JIKIMI_DETECTOR_WORKERS, _THREADS, _MODEL_THREADS, _ENGINE, _SPOOL_MIB, _UPLOADS, _LOOK and JIKIMI_OCR.
        Raises ConfigError."""
        number = integer(1, 64)
        return cls(
            workers=setting(os.environ, "JIKIMI_DETECTOR_WORKERS", cls.workers, number),
            threads=setting(os.environ, "JIKIMI_DETECTOR_THREADS", cls.threads, number),
            model_threads=setting(os.environ, "JIKIMI_DETECTOR_MODEL_THREADS", cls.model_threads, number),
            engine=setting(os.environ, "JIKIMI_DETECTOR_ENGINE", cls.engine, known_engine),
            spool_bytes=MIB
            * setting(os.environ, "JIKIMI_DETECTOR_SPOOL_MIB", cls.spool_bytes // MIB, integer(1, 10**6)),
            ocr=setting(os.environ, "JIKIMI_OCR", cls.ocr, known_mode),
            look=setting(os.environ, "JIKIMI_DETECTOR_LOOK", cls.look, _switch),
            uploads=setting(os.environ, "JIKIMI_DETECTOR_UPLOADS", cls.uploads, number),
        )


@dataclass(frozen=True)
class UploadParts:
    """What uploads have for themselves, so that nothing else delays them."""

    executor: Executor
    places: int
    scanner: Scanner
    reader: TextReader | None = None


@dataclass(frozen=True)
class Detector:
    """The service, wired; what `main` runs and tests drive."""

    store: Store
    rules: Rules
    clock: Clock
    enrolled: EnrolledFaces
    feed: DatabaseFeed
    reporting: Reporting
    enrolling: Enrolling
    reembedding: Reembedding
    following: Following
    devices: Devices
    resolving: Resolving
    deciding: Deciding
    sweeping: Sweeping
    signals: SignalServicer
    enrolment: EnrollmentServicer
    channels: ChannelServicer
    embedders_ready: Callable[[], bool]
    uploads: UploadServicer
    answering: Answering
    lane: UploadLane
    calibrating: Calibrating
    scanning: Scanning
    sightings: Sightings

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers."""
        signal_service_pb2_grpc.add_SignalServiceServicer_to_server(self.signals, server)
        enrollment_service_pb2_grpc.add_EnrollmentServiceServicer_to_server(self.enrolment, server)
        channel_service_pb2_grpc.add_ChannelServiceServicer_to_server(self.channels, server)
        upload_service_pb2_grpc.add_UploadServiceServicer_to_server(self.uploads, server)
        calibration = CalibrationServicer(self.calibrating)
        calibration_service_pb2_grpc.add_CalibrationServiceServicer_to_server(calibration, server)

    async def start(self) -> None:
        """What must be there before the first call: channels, freed leases. The gallery comes by `follow`."""
        async with self.store.begin() as work:
            await work.channels.add_missing(self.rules.channels, self.clock.now())
        await self.deciding.start()

    def ready(self) -> bool:
        """Whether the gallery is loaded and no lane has stopped."""
        return self.enrolled.loaded.is_set() and not self.deciding.stopped

    async def follow(self) -> None:
        """Fills the gallery, then keeps it up with changes of other replicas and of the consumer, for ever."""
        await _for_ever(self.feed.refresh, FOLLOW_SECONDS, at_once=True)

    async def rebuild(self) -> None:
        """Builds the gallery anew whenever the database was restored to an earlier day or somebody asks, for ever."""
        await _for_ever(self.feed.rebuild, FOLLOW_SECONDS)

    async def report(self) -> None:
        """Says how current the gallery is, for ever."""
        await _for_ever(self.reporting.report, FOLLOW_SECONDS)

    async def sweep(self) -> None:
        """Sweeps for ever."""
        await _for_ever(self.sweeping.sweep, SWEEP_SECONDS)

    async def reembed(self) -> None:
        """Brings templates to today's models, now and for ever: replicas of the release before may still run."""
        await _patiently(self.reembedding.run, self.embedders_ready)

    def due_handlers(self) -> Mapping[str, DueHandler]:
        """What each kind of due row runs."""
        return {
            EXPIRE_TEMPLATE: lambda item: self.enrolling.expire_template(item.entity_id),
            EXPIRE_WATCH: lambda item: self.enrolling.expire_watch(item.entity_id),
            DECIDE_SIGNAL: lambda item: self.deciding.free(item.entity_id),
            NO_ANSWER: lambda item: self.answering.no_answer(item.entity_id),
            PURGE_CHECK: lambda item: self.answering.purge_check(item.entity_id, item.due_time),
            PURGE_CONTENTS: lambda item: self.deciding.remembering.purge(item.entity_id),
            PURGE_RESULT: lambda item: self.answering.purge_result(item.entity_id, item.due_time),
            SCAN_ENDS: lambda item: self.scanning.end(item.entity_id),
        }

    def looking(self) -> Mapping[str, DueHandler]:
        """What waits for strangers' servers, and so keeps nothing else waiting."""
        return {LOOK_AT_REPORT: lambda item: self.sightings.look(item.entity_id)}


async def _for_ever(round_: Callable[[], Awaitable[object]], seconds: float, *, at_once: bool = False) -> None:
    """Runs a round after each pause; a database that is away for a while is waited for."""
    pause = 0.0 if at_once else seconds
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            await round_()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("store_unreachable", error=error)


async def _patiently(
    round_: Callable[[], Awaitable[object]],
    ready: Callable[[], bool],
    every: float = REEMBED_SECONDS,
    retry: float = REEMBED_RETRY_SECONDS,
) -> None:
    """Runs a round at intervals, for ever, and only while what it needs is ready. One that broke off is repeated soon:
    after `retry` seconds, then twice as long each time, at most REEMBED_MOST_RETRY_SECONDS.
    """
    wait = retry
    while True:
        while not ready():
            await asyncio.sleep(min(retry, READY_SECONDS))
        try:
            await round_()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("reembedding_broke_off", retry_seconds=wait, error=error)
            await asyncio.sleep(wait)
            wait = min(2 * wait, REEMBED_MOST_RETRY_SECONDS)
        else:
            wait = retry
            await asyncio.sleep(every)


def wire(
    config: Config,
    rules: Rules,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    models: FaceModels,
    scanner: Scanner,
    executor: Executor,
    spool_bytes: int = Tuning.spool_bytes,
    embedders_ready: Callable[[], bool] = lambda: True,
    reader: TextReader | None = None,
    uploads: UploadParts | None = None,
    shipped: FaceRules | None = None,
    pages: Pages | None = None,
) -> Detector:
    """Puts the parts together; connects to nothing. While the embedders are away, pictures wait in the spool. Without
    a reader, what stands written in pictures is not looked for.

    Without `uploads`, uploads share threads with everything else, and have a scanner made for them here. `shipped` are
    the rules of faces as their file has them, where `rules` hold those that labels have moved since. Without `pages`
    nothing that subscribers report is looked at.
    """
    secret = pepper(config.keys_dir, "references")
    references, vault = References(secret), Vault(keys)
    store = Store(database, outbox, RequestMemory(secret, clock))
    engine = FaceEngine(models, tiles=rules.tiles, covering=rules.covering)
    known = KnownChannels()
    enrolled = EnrolledFaces(engine.model_id, engine.second_model_id, _dimension(models.embedder), rules.gallery)
    feed = DatabaseFeed(store.quietly, vault, enrolled, clock.now)
    enrolling = Enrolling(
        store.begin,
        vault,
        clock,
        references,
        rules.ownership,
        FaceEnroller(
            engine,
            enrolled,
            rules.faces,
            rules.ownership.liveness,
            PassiveLiveness(config.models_dir),
            models.pose,
            {each.model_id: _dimension(each) for each in (models.embedder, models.second_embedder)},
        ),
        feed,
        mask_value,
        ProviderKeys(
            rules.ownership, config.home / "tokens" / "providers", test_profile=config.profile == "test"
        ).check,
        executor,
        asyncio.Lock(),
        rules.faces.name,
    )
    likeness = CascadeLikeness(rules.pictures, rules.texts)
    remembering = Remembering(store.begin, vault, clock, likeness, rules.review)
    deciding = Deciding(
        store.begin,
        store.quietly,
        keys,
        vault,
        clock,
        references,
        SignalAnalyst(engine, enrolled, rules.faces, scanner, reader),
        likeness,
        remembering,
        enrolled,
        rules.review,
        executor,
        known,
        config.listen,
        lambda lane: lane.pictures and not embedders_ready(),
    )
    devices = Devices(enrolling)
    parts = uploads or UploadParts(executor, Tuning.uploads, rules.scanner())
    lane = UploadLane(parts.executor, parts.places)
    linking = Linking(store.begin, vault, clock, references, rules.uploads)
    eye = QuickEye(models, enrolled, rules.faces, parts.scanner, rules.uploads, reader)
    checking = Checking(
        store.begin, vault, clock, references, rules.uploads, eye, lane, lambda: enrolled.loaded.is_set()
    )
    redactor = PictureRedactor(models, rules.redaction, reader)
    answering = Answering(store.begin, vault, keys, clock, references, rules.uploads, redactor, lane, linking)
    verifier = GrantVerifier(config.token_keys_dir, config.service)
    calibrating = Calibrating(
        store.begin,
        vault,
        clock,
        references,
        shipped or rules.faces,
        rules.calibration,
        lambda grant, body, now: verifier.verify(grant, GRANT_KIND, body, now),
    )
    source_types = frozenset(rules.collection.grounds)
    door = Door(rules.collection, frozenset(CollectionBasis.values()) - {0}, refusal_of_picture)
    intake = Intake(store.begin, keys, clock, door, references, known, spool_bytes)
    scanning = Scanning(store.begin, clock, references, rules.reports)
    looked_at = pages or PublicPages(read_fetch_rules(config.rules_dir), None)
    sightings = Sightings(store.begin, vault, references, clock, rules.reports, looked_at, intake)
    return Detector(
        store=store,
        rules=rules,
        clock=clock,
        enrolled=enrolled,
        feed=feed,
        reporting=Reporting(
            store.begin, clock, enrolled, _replica(config.listen), timedelta(seconds=rules.gallery.report_seconds)
        ),
        enrolling=enrolling,
        reembedding=Reembedding(enrolling),
        devices=devices,
        resolving=Resolving(enrolling),
        following=Following(enrolling, keys, clock, remembering.memory.forget, answering),
        uploads=UploadServicer(linking, checking, answering, clock),
        answering=answering,
        calibrating=calibrating,
        lane=lane,
        deciding=deciding,
        sweeping=Sweeping(store.begin, keys, clock, rules.review),
        signals=SignalServicer(Counter(intake), Looking(store.quietly, vault, references)),
        enrolment=EnrollmentServicer(
            enrolling, Challenging(enrolling, random.SystemRandom()), devices
        ),
        channels=ChannelServicer(Watching(store.begin, clock, references, source_types, known), scanning, sightings),
        scanning=scanning,
        sightings=sightings,
        embedders_ready=embedders_ready,
    )


def _replica(listen: str) -> str:
    """An opaque name of this process: the same while it stays where it is."""
    return hashlib.sha256(f"{socket.gethostname()} {listen}".encode()).hexdigest()[:16]


def _dimension(embedder: Embedder) -> int:
    """Length of an embedder's vectors."""
    return int(embedder.embed(np.empty((0, 112, 112, 3), np.uint8)).shape[1])


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


async def serve() -> None:
    """Runs the service until SIGTERM."""
    if not Tuning.from_env().look:
        await _serve(None)
        return
    async with Fetcher(read_fetch_rules(Config.from_env().rules_dir)) as fetcher:
        await _serve(fetcher)


async def _serve(fetcher: Fetcher | None) -> None:
    # A core file would hold what must never be written: uploads, keys, vectors.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config = Config.from_env(max_message_bytes=LARGEST_MESSAGE)
    tuning = Tuning.from_env()
    rules = read_rules(config.rules_dir)
    models = _open(config, tuning, rules)
    runtime = await Runtime.open(config)
    remote = await _on_triton(config, models)
    models = remote.models if remote else models
    reader = text_reader(config.models_dir, tuning, rules)
    with (
        ThreadPoolExecutor(tuning.threads, "heavy", initializer=_step_back) as executor,
        ThreadPoolExecutor(tuning.uploads, "upload") as for_uploads,
    ):
        scanner = rules.scanner()
        tell_scan_engine(scanner)
        faces = await calibrated(rules.faces, runtime.database)
        detector = wire(
            config,
            replace(rules, faces=faces),
            runtime.database,
            runtime.outbox,
            runtime.keys,
            runtime.clock,
            models,
            scanner,
            executor,
            tuning.spool_bytes,
            remote.ready if remote else lambda: True,
            reader,
            UploadParts(for_uploads, tuning.uploads, rules.scanner()),
            rules.faces,
            PublicPages(read_fetch_rules(config.rules_dir), fetcher),
        )
        await detector.start()
        following = runtime.consume("case", case_handlers(detector.following, detector.store.within))
        labels = label_handlers(detector.resolving, detector.calibrating, detector.store.within)
        runtime.consume("case", labels, yields_to=following)
        runtime.consume("notify", notify_handlers(detector.devices, detector.store.within))
        runtime.due(detector.due_handlers())
        runtime.due(detector.looking())
        publish_freshness(detector.enrolled)
        runtime.loops += [detector.follow, detector.rebuild, detector.report, detector.sweep, detector.reembed]
        runtime.loops += _workers(detector, runtime.database, tuning.workers)
        runtime.loops += [remote.watch] if remote else []

        runtime.looks.append(backlog.look)
        def ready() -> bool:
            return detector.ready() and (remote is None or remote.ready())

        await runtime.serve(
            detector.register,
            ready=ready,
            index=detector.feed,
            parts={TEXTS_IN_PICTURES: reader is not None, FAST_SCAN: not scanner.fallback_reason},
        )


def _open(config: Config, tuning: Tuning, rules: Rules) -> FaceModels:
    """The networks, both embedders as the rules name them. Raises ConfigError, which says what to do."""
    try:
        return open_models(config.models_dir, tuning.model_threads, tuning.engine, rules.faces.model_ids)
    except UnusableModel as problem:
        raise ConfigError("JIKIMI_MODELS_DIR", str(problem)) from None
    except UnusableEngine as problem:
        raise ConfigError("JIKIMI_DETECTOR_ENGINE", str(problem)) from None


def _step_back() -> None:
    """Lets a thread that works on collected content yield the processor to uploads: somebody waits for those."""
    if sys.platform == "linux":
        # Niceness belongs to a thread on Linux (setpriority(2)).
        mine = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, mine, os.getpriority(os.PRIO_PROCESS, mine) + _NICE)


async def _on_triton(config: Config, models: FaceModels) -> TritonEmbedders | None:
    """The embedders where JIKIMI_EMBEDDER says triton, looked at once; None where they run in this process."""
    address = address_from_env()
    if address is None:
        return None
    remote = TritonEmbedders(address, models, config.models_dir, read_triton_rules(config.rules_dir))
    await remote.look()
    return remote


def text_reader(models_dir: Path, tuning: Tuning, rules: Rules) -> TextReader | None:
    """What reads texts in pictures; None, said once, where it is off or not installed."""
    if tuning.ocr == OFF:
        log.info("texts_in_pictures_not_read", reason="OCR_OFF")
        return None
    try:
        reader = open_reader(models_dir, tuning.model_threads, tuning.engine, rules.ocr)
    except OcrUnavailable as problem:
        log.warning("texts_in_pictures_not_read", reason=problem.reason, remedy=str(problem))
        return None
    log.info("texts_in_pictures_read", reader=reader.reader_id)
    return reader


def tell_scan_engine(scanner: Scanner) -> None:
    """Says once which engine scans texts, and why where it is the slower one."""
    if scanner.fallback_reason:
        log.warning("scan_engine", engine="reference", reason=scanner.fallback_reason)
    else:
        log.info("scan_engine", engine="compiled")


def _workers(detector: Detector, database: Database, each: int) -> list[Loop]:
    def loop(turns: Turns) -> Loop:
        async def run() -> None:
            # Without the gallery every face would be a stranger's.
            await detector.enrolled.loaded.wait()
            await detector.deciding.run(turns)

        return run

    lanes = [Turns(lane, database.wakeup(spool_topic(lane.pictures))) for lane in LANES]
    return [loop(turns) for turns in lanes for _ in range(each)]


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def evaluate(arguments: list[str]) -> int:
    """Measures one part against data; 2 for an unknown part."""
    from services.detector import (
        evaluate_covering,
        evaluate_dedup,
        evaluate_faces,
        evaluate_ocr,
        evaluate_pii,
        evaluate_redaction,
    )

    parts: dict[str, Callable[[list[str]], int]] = {
        "faces": evaluate_faces.run,
        "covering": evaluate_covering.run,
        "dedup": evaluate_dedup.run,
        "pii": evaluate_pii.run,
        "ocr": evaluate_ocr.run,
        "redaction": evaluate_redaction.run,
    }
    if not arguments or arguments[0] not in parts:
        print(f"usage: python -m services.detector eval {'|'.join(parts)} …", file=sys.stderr)
        return 2
    return parts[arguments[0]](arguments[1:])


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    if arguments[:1] == ["eval"]:
        return evaluate(arguments[1:])
    if arguments[:1] == ["model"]:
        from services.detector import model_command

        return model_command.run(arguments[1:])
    if arguments[:1] == ["scan"]:
        from services.detector import scan_command

        return scan_command.run(arguments[1:])
    verbs = {"serve": serve, "migrate": migrate_database}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m services.detector {'|'.join(verbs)}|eval|model|scan", file=sys.stderr)
        return 2
    run(verbs[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
