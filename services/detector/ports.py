"""What the handlers need, whatever it is made of today."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from misuse.log.v1.record_pb2 import LogRecord
from services.detector.domain.calibration import GivenLabel, ThresholdInForce
from services.detector.domain.channels import Channel
from services.detector.domain.clusters import Medium, Near
from services.detector.domain.decisions import Band, Decision, FaceFinding, MatchKind
from services.detector.domain.liveness import Liveness, Pose
from services.detector.domain.ownership import Challenge, Duplicate, FaceTemplate, Watch
from services.detector.domain.picture_text import Quad, Written
from services.detector.domain.pii import Hit
from services.detector.domain.reports import Report, Scan
from services.detector.domain.signals import Signal
from services.detector.domain.uploads import Finding, LinkedAccount, Mask, RedactionCheck, Seen, UploadCheck

# --- what a transaction can read and write ---


@dataclass(frozen=True, slots=True)
class SpooledSignal:
    """A row of the spool, as it is put in or taken out. `payload` is sealed."""

    signal_ref: bytes
    key_id: str
    payload: bytes = field(repr=False)
    pictures: bool
    traceparent: str
    spool_id: int = 0
    attempts: int = 0
    """Times that it failed by itself, or that its worker died."""
    receive_time: datetime | None = None
    """Real time at which it was put in; None for one that a release before put in."""


@dataclass(frozen=True, slots=True)
class RememberedSignal:
    """A signal seen before."""

    fingerprint: bytes = field(repr=False)
    state: int
    none_decision_id: str
    kind: int


class Spool(Protocol):
    """Signals waiting, and the memory of signals seen."""

    async def remember(self, signals: Mapping[bytes, bytes], now: datetime) -> set[bytes]:
        """Notes signal_ref → fingerprint; returns the references that were new."""

    async def remembered(self, refs: Collection[bytes]) -> Mapping[bytes, RememberedSignal]:
        """What is known of signals, by reference."""

    async def put(self, rows: Sequence[SpooledSignal], now: datetime) -> None:
        """Adds rows, and notes the keys that seal them."""

    async def take(
        self, pictures: bool, most: int, lease: str, owner: str, until: datetime, *, suspects_first: bool = False
    ) -> list[SpooledSignal]:
        """Leases the oldest free rows of a lane; rows that others hold or that are parked are skipped. A row that
        failed before is taken alone: where there are no others, or before them with `suspects_first`."""

    async def release(self, *, owner: str = "", lease: str = "") -> None:
        """Frees the rows of one lease, or those that an instance held when it died: these count as failed once."""

    async def failed(self, spool_id: int, lease: str, *, park: bool) -> bool:
        """Frees a row that this lease still holds and counts a failure of its own; a parked one is not taken again
        before `unpark`. False where the lease was lost."""

    async def unpark(self, spool_id: int) -> None:
        """Lets a parked row be taken again, as if it had never failed; harmless where there is none."""

    async def size_bytes(self) -> int:
        """Bytes waiting in all."""

    async def unused_keys(self, before: datetime) -> list[str]:
        """Spool keys first used before a time whose rows are all gone."""

    async def forget_key(self, key_id: str) -> None:
        """Drops the note of a key that was destroyed."""

    async def purge_memory(self, before: datetime) -> None:
        """Forgets signals accepted before a time."""


class Channels(Protocol):
    """The channel rows."""

    async def get(self, channel: str, *, lock: bool = False) -> Channel | None:
        """One channel; locked until the transaction ends when asked."""

    async def page(self, after: str, most: int) -> list[Channel]:
        """Channels by id, from after one on."""

    async def put(self, channel: Channel) -> None:
        """Stores a channel, new or changed."""

    async def add_missing(self, channels: Sequence[Channel], now: datetime) -> None:
        """Stores those that are not there."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What the detector must know of a subscriber."""

    subscriber_id: str
    minor: bool
    suspended: bool
    consents: frozenset[int]


class Subscribers(Protocol):
    """The projection of case's subscribers."""

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """One subscriber, locked until the transaction ends."""

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """Several subscribers, locked in one order."""

    async def put(self, subscriber: Subscriber) -> None:
        """Stores a subscriber, new or changed."""

    async def remove(self, subscriber_id: str) -> None:
        """Deletes all that the tables hold of a subscriber."""


@dataclass(frozen=True, slots=True)
class SealedTemplate:
    """A template with its sealed columns; None where erased, or kept without consent."""

    template: FaceTemplate
    vectors: bytes | None = field(repr=False)
    crop: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """What the gallery must know of a template's last change."""

    index_version: int
    template_id: str
    subscriber_id: str
    minor: bool
    verified_until: datetime | None
    """None unless it is VERIFIED."""
    vectors: bytes | None = field(repr=False)
    """Sealed; None unless it is VERIFIED."""


class Templates(Protocol):
    """Enrolled faces. Every change takes the next gallery version."""

    async def add(self, template: FaceTemplate, vectors: bytes, crop: bytes | None) -> None:
        """Stores a new template."""

    async def get(self, template_id: str) -> SealedTemplate | None:
        """One template, locked until the transaction ends."""

    async def of_subscriber(self, subscriber_id: str, after: str, most: int) -> list[FaceTemplate]:
        """A subscriber's templates, oldest first."""

    async def live(self, subscriber_id: str) -> int:
        """How many templates of a subscriber are not erased."""

    async def change(self, template: FaceTemplate) -> None:
        """Stores all but whose it is and its contents; ERASED drops vectors and crop."""

    async def reembed(self, template: FaceTemplate, vectors: bytes) -> None:
        """Stores a template with vectors of other models."""

    async def without_model(self, model_id: str, after: str, most: int) -> list[str]:
        """Ids of templates that are not erased and have no vector of a model, from after one on."""

    async def drop_crops(self, subscriber_id: str) -> None:
        """Deletes the crops of a subscriber's templates."""

    async def index_version(self) -> int:
        """The gallery's version: that of the last change of any template; 0 before the first."""

    async def changed_since(self, index_version: int, most: int) -> list[TemplateChange]:
        """Templates whose last change came after a version, in the order of these changes."""


@dataclass(frozen=True, slots=True)
class SealedWatch:
    """A watched identifier with its sealed columns."""

    watch: Watch
    value_ref: bytes | None
    sealed_value: bytes | None = field(repr=False)
    masked_value: bytes | None = field(repr=False)


class Watches(Protocol):
    """Watched identifiers."""

    async def add(self, watch: Watch, value_ref: bytes, sealed_value: bytes, masked_value: bytes) -> None:
        """Stores a new identifier."""

    async def get(self, watch_id: str) -> SealedWatch | None:
        """One identifier, locked until the transaction ends."""

    async def of_subscriber(self, subscriber_id: str, after: str, most: int) -> list[SealedWatch]:
        """A subscriber's identifiers, oldest first."""

    async def live(self, subscriber_id: str) -> int:
        """How many identifiers of a subscriber are not erased."""

    async def change(self, watch: Watch) -> None:
        """Stores state, expiry, device and version; ERASED drops the value."""

    async def also_held(self, watch_id: str) -> list[tuple[str, str]]:
        """(subscriber_id, watch_id) of other subscribers' identifiers with the same value that are VERIFIED, or will be
        again when their owner is resumed. Locks nothing."""

    async def matching(self, value_refs: Collection[bytes], now: datetime) -> list[tuple[bytes, str, str]]:
        """(value_ref, subscriber_id, watch_id) of identifiers whose proof holds now."""


@dataclass(frozen=True, slots=True)
class KnownContent:
    """An earlier content of a subscriber; the fingerprint is sealed."""

    content_id: int
    cluster_id: str
    medium: Medium
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PurgedContent:
    """A content that was deleted: its cluster, and when it was last seen."""

    cluster_id: str
    seen_time: datetime


@dataclass(frozen=True, slots=True)
class NewContent:
    """A content to remember."""

    subscriber_id: str
    cluster_id: str
    medium: Medium
    content_ref: bytes
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a subscriber's contents begin."""

    after: int
    """The id after which those begin that were asked for; 0 where there are no more."""
    oldest: datetime | None
    """When the content was last seen that was not seen longest; None where there is none."""


class Contents(Protocol):
    """Contents that concerned a subscriber."""

    async def beginnings(self, subscriber_ids: Collection[str], most: int) -> Mapping[str, Beginning]:
        """Where to begin reading the contents of each subscriber, to read the newest so many."""

    async def since(self, subscriber_id: str, content_id: int, most: int) -> list[KnownContent]:
        """A subscriber's contents, the first so many after an id, in order."""

    async def purge(self, subscriber_id: str, before: datetime, most: int) -> list[PurgedContent]:
        """Deletes at most so many contents that were not seen since; what they were."""

    async def next_purge(self, subscriber_id: str) -> datetime | None:
        """When the content was last seen that was not seen longest; None where there is none."""


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision that concerns a subscriber. `scores` and `capture` are sealed."""

    decision_id: str
    signal_ref: bytes
    subscriber_id: str
    band: Band
    kind: MatchKind
    template_id: str
    scores: bytes = field(repr=False)
    capture: bytes | None = field(repr=False)


class Decisions(Protocol):
    """Decisions with their captures."""

    async def add(self, decisions: Sequence[StoredDecision], now: datetime) -> None:
        """Stores decisions."""

    async def some(self, decision_ids: Collection[str]) -> list[StoredDecision]:
        """Those of the decisions that are kept."""

    async def of_signal(self, signal_ref: bytes) -> list[StoredDecision]:
        """The decisions of a signal, at most 64."""

    async def release(self, decision_ids: Collection[str]) -> None:
        """Deletes the captures of decisions."""

    async def purge(self, before: datetime) -> None:
        """Deletes decisions made before a time whose capture is released."""

    async def purge_captures(self, before: datetime, most: int) -> list[tuple[str, datetime]]:
        """Deletes captures that nobody released, of decisions made before a time, the oldest first; returns the
        decisions' ids and times."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a batch may decide."""

    spool_ids: Collection[int]
    """Rows of the spool that its lease still held; they are removed."""
    suspended: Mapping[str, bool]
    """Subscribers, locked: id → whether suspended."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the decision of a batch depends on."""

    value_refs: Collection[bytes] = ()
    template_ids: Collection[str] = ()
    content_refs: Collection[bytes] = ()
    after: Mapping[str, int] = field(default_factory=dict)
    """Subscriber → id of the last content that is known here."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How that stands."""

    watch_ids: Collection[str]
    """Identifiers with the values asked for whose proof holds now."""
    template_ids: Collection[str]
    """Those of the templates whose proof holds now."""
    clusters: Mapping[bytes, str]
    """The cluster of contents that were seen byte for byte."""
    unseen: Collection[bytes]
    """Those of them that were not seen for a day."""
    newer: Mapping[str, Sequence[KnownContent]]
    """The first contents of each subscriber after the last known one, in order; who has none is left out."""


@dataclass(slots=True)
class Outcome:
    """What the decision of a batch leaves."""

    contents: list[NewContent] = field(default_factory=list)
    seen_again: set[bytes] = field(default_factory=set)
    """References of contents that are kept longer."""
    decisions: list[StoredDecision] = field(default_factory=list)
    signals: list[tuple[bytes, int, str | None, int]] = field(default_factory=list)
    """(signal_ref, state, id of the NONE decision, its kind)"""
    due: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """(kind, entity id) → when something is due; where it is already, the earlier time holds."""


class Batches(Protocol):
    """What the decision of a batch of signals reads and writes: one statement each, however many they are."""

    async def claim(self, spool_ids: Collection[int], lease: str, subscriber_ids: Collection[str]) -> Claimed:
        """Removes rows that this lease still holds from the spool, and locks subscribers, in one order."""

    async def look(self, asked: Asked, most: int, now: datetime) -> Standing:
        """How things stand, at most so many contents of each subscriber. Under the locks of `claim`: whoever changes
        any of it takes the same locks."""

    async def write(self, outcome: Outcome, now: datetime) -> None:
        """Stores what was decided, and the events and records added so far."""


class Proving(Protocol):
    """What stands around proofs: devices, challenges, faces on two accounts."""

    async def note_device(self, subscriber_id: str, device_ref: bytes, now: datetime) -> tuple[bool, int]:
        """Notes a device; returns whether it was new, and how many the subscriber had before."""

    async def forget_devices(self, subscriber_id: str, keep: int) -> None:
        """Forgets those known longest, so that `keep` are left."""

    async def add_challenge(self, challenge: Challenge) -> None:
        """Stores a new challenge."""

    async def challenge(self, challenge_id: str) -> Challenge | None:
        """One challenge, locked until the transaction ends."""

    async def conclude(self, challenge_id: str, outcome: str) -> None:
        """Stores how it was answered."""

    async def challenges_since(self, subscriber_id: str, since: datetime) -> int:
        """How many a subscriber has asked for."""

    async def duplicates(self, template_id: str) -> list[Duplicate]:
        """What reviewers were asked about a template."""

    async def duplicate(self, decision_id: str) -> Duplicate | None:
        """One of them, as it is now; not locked."""

    async def put_duplicate(self, duplicate: Duplicate) -> None:
        """Stores one, new or changed."""


@dataclass(frozen=True, slots=True)
class SealedAccount:
    """A linked account with its sealed name."""

    account: LinkedAccount
    handle: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedCheck:
    """A check with its sealed findings."""

    check: UploadCheck
    findings: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedResult:
    """What a BLUR made, sealed under a key of its own; None where there was no such part."""

    upload_check_id: str
    subscriber_id: str
    image: bytes | None = field(repr=False)
    text: bytes | None = field(repr=False)


class Uploads(Protocol):
    """Linked accounts, checks before uploads, redacted results. Holds nothing of what was checked."""

    async def add_account(self, account: SealedAccount) -> None:
        """Stores a new account."""

    async def account(self, account_id: str) -> SealedAccount | None:
        """One account, locked until the transaction ends."""

    async def account_named(self, handle_ref: bytes) -> SealedAccount | None:
        """The account with this keyed hash of its name, locked."""

    async def change_account(self, account: LinkedAccount) -> None:
        """Stores choice and version."""

    async def accounts(self, subscriber_id: str, after: str, most: int) -> list[SealedAccount]:
        """A subscriber's accounts, oldest first."""

    async def count_accounts(self, subscriber_id: str) -> int:
        """How many accounts a subscriber has linked."""

    async def remove_account(self, account_id: str) -> None:
        """Deletes an account."""

    async def add_check(self, check: SealedCheck) -> None:
        """Stores a new check."""

    async def check(self, upload_check_id: str) -> SealedCheck | None:
        """One check, locked until the transaction ends."""

    async def change_check(self, check: UploadCheck) -> None:
        """Stores state, time and version."""

    async def checks_since(self, subscriber_id: str, since: datetime) -> int:
        """How many checks a subscriber has asked for."""

    async def checks(self, subscriber_id: str, after: str, most: int) -> list[str]:
        """Ids of a subscriber's checks, oldest first."""

    async def remove_check(self, upload_check_id: str) -> None:
        """Deletes a check."""

    async def add_result(self, result: SealedResult, now: datetime) -> None:
        """Stores a result."""

    async def result(self, upload_check_id: str) -> SealedResult | None:
        """The result of a check."""

    async def remove_result(self, upload_check_id: str) -> bool:
        """Deletes a result; False where there was none."""


@dataclass(frozen=True, slots=True)
class LabelledDecision:
    """A label beside the decision about a face that it is about. `scores` are sealed."""

    label: GivenLabel
    subscriber_id: str
    band: Band
    scores: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeptEvaluation:
    """An evaluation, as a serialised ThresholdEvaluation."""

    evaluation_id: str
    body: bytes = field(repr=False)
    adopted: bool = False


class Calibration(Protocol):
    """Labels, what was made of them, and the thresholds that came of that."""

    async def label(self, label: GivenLabel) -> None:
        """Keeps a label of a decision about a face; a repeat changes nothing, and neither does one of a decision that
        is not kept."""

    async def labelled(self, sample_id: str, most: int) -> Sequence[LabelledDecision]:
        """Labels of MATCH decisions given for a sample and of REVIEW decisions given for none, by decision."""

    async def put(self, evaluation: KeptEvaluation, now: datetime) -> None:
        """Stores an evaluation."""

    async def get(self, evaluation_id: str) -> KeptEvaluation | None:
        """One evaluation."""

    async def page(self, before: str, most: int) -> Sequence[KeptEvaluation]:
        """Evaluations, newest first, below an id if given."""

    async def in_force(self, rules_sha256: bytes) -> ThresholdInForce | None:
        """The last change of the rules with these values; None before there is one."""

    async def change(
        self,
        evaluation_id: str,
        number: int,
        rules: str,
        rules_sha256: bytes,
        to_milli: int,
        proposal_id: str,
        now: datetime,
    ) -> None:
        """Stores a change."""


class Work(Protocol):
    """One transaction: all of it is committed, or nothing."""

    @property
    def spool(self) -> Spool: ...

    @property
    def channels(self) -> Channels: ...

    @property
    def subscribers(self) -> Subscribers: ...

    @property
    def templates(self) -> Templates: ...

    @property
    def watches(self) -> Watches: ...

    @property
    def contents(self) -> Contents: ...

    @property
    def decisions(self) -> Decisions: ...

    @property
    def batches(self) -> Batches: ...

    @property
    def proving(self) -> Proving: ...

    @property
    def uploads(self) -> Uploads: ...

    @property
    def calibration(self) -> Calibration: ...

    @property
    def scans(self) -> Scans: ...

    @property
    def reports(self) -> Reports: ...

    async def one_at_a_time(self, what: bytes) -> None:
        """Waits until no other transaction, of whatever replica, holds this; holds it to the end. Call it first."""

    async def first_use(self, nonce_ref: bytes, until: datetime) -> bool:
        """Notes a nonce; False when it was used before."""

    async def purge_nonces(self, before: datetime) -> None:
        """Forgets nonces whose claims have run out, and challenges a day later."""

    def event(self, key: str, message: Message) -> None:
        """Adds an event; events of one key keep their order."""

    def record(self, key: str, record: LogRecord) -> None:
        """Adds a log record."""

    async def schedule(self, kind: str, entity_id: str, due_time: datetime) -> None:
        """Makes something due."""

    async def cancel(self, kind: str, entity_id: str) -> None:
        """Takes it back."""

    def set_aside(self, kind: str, entity_id: str, reason: str, traceparent: str) -> None:
        """Lists something as a dead letter; its replay makes a due row of this kind."""

    async def recall(self, caller: str, method: str, request: Message) -> str | None:
        """What this very request (`request_id`) made before; see the chassis' request memory."""

    async def remember(self, caller: str, method: str, request: Message, resource_id: str) -> None:
        """Notes what this request made."""


Begin = Callable[[], AbstractAsyncContextManager[Work]]
"""Opens a transaction."""


# --- what looks at content ---


@dataclass(frozen=True, slots=True)
class Content:
    """What is kept of a part to recognise it. `fingerprint` is its comparable form, `data` the same as bytes."""

    medium: Medium
    sha256: bytes
    data: bytes = field(repr=False)
    fingerprint: object = field(repr=False)


class Analysis(Protocol):
    """What one signal shows. Holds its content until the decision is made."""

    @property
    def faces(self) -> Sequence[FaceFinding]:
        """Findings of every face of every picture."""

    @property
    def hits(self) -> Sequence[Hit]:
        """Personal data in texts, metadata and what pictures say of themselves."""

    @property
    def doxing(self) -> bool:
        """Whether together they expose one person."""

    @property
    def unreadable(self) -> Sequence[tuple[int, str]]:
        """(part, reason) of pictures that could not be read."""

    @property
    def faces_found(self) -> int:
        """Faces in all pictures."""

    @property
    def all_read(self) -> bool:
        """False where a bound left text in a picture unread."""

    def keep(self, decision: Decision) -> Kept:
        """What to keep for one decision: contents, masked text, thumbnail, crop. Heavy: runs beside the event loop."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a signal for one decision."""

    contents: tuple[Content, ...] = field(repr=False)
    masked_text: str = field(default="", repr=False)
    thumbnail: bytes = field(default=b"", repr=False)
    candidate_crop: bytes = field(default=b"", repr=False)


class Analyst(Protocol):
    """Looks at signals: pictures for enrolled faces, texts for personal data."""

    def analyse(self, signals: Sequence[Signal]) -> Sequence[Analysis]:
        """One analysis per signal. Heavy: runs beside the event loop. Never raises for what a signal holds."""

    @property
    def model_id(self) -> str:
        """Model of the face decisions; empty where faces are not looked at."""

    @property
    def engine_id(self) -> str:
        """Runtime of that model."""

    @property
    def reader_id(self) -> str:
        """Rules, models and runtime that read texts in pictures; empty where they are not read."""

    @property
    def text_rule_version(self) -> str:
        """Version of the text rules."""

    @property
    def face_rule_version(self) -> str:
        """Version of the face thresholds."""


class Known(Protocol):
    """Contents of one subscriber in comparable form, in the order in which they were decided."""

    def __len__(self) -> int:
        """How many."""

    def add(self, medium: Medium, cluster_id: str, form: object) -> None:
        """One more, by its comparable form."""

    def forget(self, most: int) -> None:
        """Drops the oldest of each medium where there are more, a tenth more are borne. Heavy."""


class Likeness(Protocol):
    """Says which contents are the same content."""

    @property
    def rule_version(self) -> str:
        """Version of the rules."""

    def read(self, medium: Medium, data: bytes) -> object:
        """The comparable form of what was kept as bytes."""

    def nothing_known(self) -> Known:
        """Where contents are gathered to be compared with."""

    def near(self, new: Content, known: Known) -> list[Near]:
        """The clusters of known contents that a new one is near to. Heavy."""


class Gallery(Protocol):
    """The index of verified templates that this replica serves."""

    @property
    def version(self) -> int:
        """Gallery version that it has caught up with."""

    def __len__(self) -> int:
        """Templates in it."""


class NotEnrollable(Exception):
    """Pictures that make no template; `reason` is UPPER_SNAKE."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EnrolledFace:
    """What enrolment makes of one face: a vector for each model, as bytes, the best crop (empty for a template made on
    a device), and how live it looked."""

    vectors: bytes = field(repr=False)
    model_ids: tuple[str, ...]
    crop: bytes = field(repr=False)
    liveness: Liveness


class Enroller(Protocol):
    """Makes templates, and compares faces with one template. Its answers hold no score. All but `current` is heavy."""

    def enrol(self, pictures: Sequence[bytes]) -> EnrolledFace:
        """Exactly one good face per picture, all of one person. Raises NotEnrollable."""

    def accept(self, vectors: Sequence[tuple[str, bytes]]) -> EnrolledFace:
        """Takes over (model_id, vector) that a device made. Raises NotEnrollable."""

    def answer(self, pictures: Sequence[bytes], poses: Sequence[Pose], vectors: bytes) -> str:
        """PASSED where the pictures show the template's face, live and in these poses; else why not."""

    def same_face_elsewhere(
        self, vectors: bytes, subscriber_id: str, apart: Collection[str] = ()
    ) -> tuple[str, str] | None:
        """(subscriber_id, template_id) of another subscriber's verified template that shows this face; those told
        `apart` by reviewers do not count."""

    def reembed(self, crop: bytes) -> EnrolledFace | None:
        """Vectors of today's models from a kept crop; None where it cannot be read."""

    def current(self, model_ids: Collection[str]) -> bool:
        """Whether a template with vectors of these models can be matched today."""

    @property
    def model_id(self) -> str:
        """The model that templates must have a vector of."""


@dataclass(frozen=True, slots=True)
class GalleryFacts:
    """How current the gallery served is."""

    version: int
    head_version: int
    """Newest committed version that was heard of."""
    age_ms: int
    """Since it was known to hold everything committed: the longest since `age_reported`."""
    templates: int


class ServedGallery(Protocol):
    """The gallery of this process, as others should know it."""

    def facts(self) -> GalleryFacts | None:
        """What is served now; None before it was loaded once."""

    def age_reported(self) -> None:
        """Notes that the longest age is written down: a new stretch begins."""


class GalleryFeed(Protocol):
    """Brings the gallery up to the database."""

    async def refresh(self) -> None:
        """Takes in what changed since the last time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands written in a picture. `complete` is False where a bound left lines unlooked at or unread; those found
    and not read have their region and no text."""

    written: Written
    complete: bool


class TextReader(Protocol):
    """Reads text in pictures: uint8 [H,W,3] RGB, upright; regions are in its pixels. Heavy; threads may share it."""

    @property
    def reader_id(self) -> str:
        """Models and runtime that read."""

    @property
    def rule_version(self) -> str:
        """Version of the rules that say what is looked for."""

    def find(self, rgb: NDArray[np.uint8]) -> list[Quad]:
        """Where lines of text stand, unread, the largest first: about a third of the cost of reading five."""

    def read(
        self,
        rgb: NDArray[np.uint8],
        sharper: Callable[[], NDArray[np.uint8]] | None = None,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reading:
        """What its lines say. `sharper` gives the same picture with more pixels, asked only when there are lines to
        read. After `seconds`, or once `stopped` says so, no further line is read."""

# --- what looks at uploads ---


class UnreadableUpload(Exception):
    """A picture that cannot be looked at; `reason` is UPPER_SNAKE."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UploadLook(Protocol):
    """What one upload shows, as far as it was looked at. Holds its content until `forget`."""

    @property
    def seen(self) -> Seen:
        """What was found so far."""

    @property
    def reads(self) -> bool:
        """Whether there is a picture, and something that can read text in it."""

    def find_faces(self, own: Collection[str]) -> None:
        """Adds faces to `seen`; `own` are the subscriber's own templates whose proof holds. Heavy."""

    def read_text(self, seconds: float) -> None:
        """Reads text in the picture and adds what it holds to `seen`; after `seconds` no further line is read. Heavy
        and slow."""

    @property
    def all_read(self) -> bool:
        """Whether text in the picture was read, and all of it."""

    def forget(self) -> None:
        """Overwrites decoded pixels and drops the rest."""


class UploadEye(Protocol):
    """Looks at uploads. All of it is heavy: runs beside the event loop."""

    def look(self, image: bytes, text: str) -> UploadLook:
        """Opens an upload, and sees data in its text and in what its picture's file says. Raises UnreadableUpload."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """What a BLUR made, and everything that is needed to make it again."""

    image: bytes = field(repr=False)
    """Empty where there was no picture."""
    text: str = field(repr=False)
    spans: tuple[tuple[int, int], ...]
    masks: tuple[Mask, ...]
    size: tuple[int, int]
    """Width and height; 0, 0 without a picture."""
    format: str
    algorithm: str
    rule_version: str
    parameters: tuple[tuple[str, str], ...]
    model_ids: tuple[str, ...]
    zeroed_bytes: int
    """Decoded pixels that were overwritten."""


class Redactor(Protocol):
    """Covers what findings name, and proves later that it is covered. Heavy: runs beside the event loop."""

    def redact(self, image: bytes, text: str, findings: Sequence[Finding]) -> Redacted:
        """Raises UnreadableUpload."""

    def prove(self, made: Redacted) -> Sequence[RedactionCheck]:
        """Looks at a stored result again: `made` is what its record says, with the stored bytes in `image` and
        `text`."""


# --- what is reported, and what is asked for ---


class Scans(Protocol):
    """Scans that were asked for."""

    async def add(self, scan: Scan) -> None:
        """Stores a new one."""

    async def get(self, scan_id: str, *, lock: bool = False) -> Scan | None:
        """One scan; locked until the transaction ends when asked."""

    async def running(self, channels: Collection[str], now: datetime) -> dict[str, Scan]:
        """Channel → its scan that runs; channels without one are left out."""

    async def asked_since(self, channel: str, since: datetime) -> list[datetime]:
        """When scans of a channel were asked for after a time, in order."""

    async def count(self, brought: Mapping[tuple[str, str], tuple[int, int]]) -> None:
        """Adds what signals state: (scan, channel) → (accepted, refused). Unknown and ended scans count nothing."""

    async def end(self, scan_id: str) -> None:
        """Ends one."""

    async def purge(self, before: datetime) -> None:
        """Forgets scans that ended before a time."""


class Reports(Protocol):
    """Where subscribers saw something."""

    async def add(self, report: Report) -> None:
        """Stores a new one."""

    async def get(self, report_id: str, *, lock: bool = False) -> Report | None:
        """One report; locked until the transaction ends when asked."""

    async def put(self, report: Report) -> None:
        """Writes a changed one."""

    async def remove(self, report_id: str) -> None:
        """Forgets one."""

    async def since(self, subscriber_id: str, since: datetime) -> int:
        """How many a subscriber has made since a time."""


@dataclass(frozen=True, slots=True)
class Page:
    """What was seen at an address. `verdict` is ALLOW, DEFER or REFUSE, `rule_id` the rule behind it; texts and picture
    are set where something was seen."""

    verdict: str
    rule_id: str
    rules_version: str = ""
    status: int = 0
    retry_after_ms: int = 0
    text: str = field(default="", repr=False)
    title: str = field(default="", repr=False)
    image: bytes = field(default=b"", repr=False)


class Pages(Protocol):
    """Looks at addresses of the public web, by the policy of fetching alone."""

    def refusal(self, address: str) -> str:
        """The rule that an address breaks by its form; empty where it breaks none."""

    async def look(self, address: str) -> Page:
        """What is there. Never raises for what a stranger's server does."""
