"""What do the handlers of `case` need from the world?

A `Unit` is one transaction: what is read, changed, told and recorded through it commits together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import Purpose, Role
from misuse.log.v1.record_pb2 import LogRecord
from services.case.domain.cases import Case
from services.case.domain.chain import Entry, Head
from services.case.domain.incidents import Book, Facts
from services.case.domain.people import Consent, Profile, Subscriber
from services.case.domain.removals import RemovalState
from services.case.domain.words import CaseKind, CaseState, Label, SubscriberState


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts, as records show it; the system by default."""

    role: Role.ValueType = Role.ROLE_UNSPECIFIED
    ref: str = ""
    """Keyed hash of the actor's subject, 16 hex digits."""
    purpose: Purpose.ValueType = Purpose.PURPOSE_CASE_HANDLING


SYSTEM = Who()


@dataclass(frozen=True, slots=True)
class Link:
    """The case of a decision."""

    case_id: str
    root_case_id: str
    subscriber_id: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """One time the content was seen."""

    sighting_id: str
    decision_id: str
    case_id: str
    subscriber_id: str
    kind: CaseKind
    channel: str
    channel_group: str
    platform: str
    discover_time: datetime
    create_time: datetime
    rule: str
    pack_version: int | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """A merge in force."""

    merged_case_id: str
    into_case_id: str
    rule: str


@dataclass(frozen=True, slots=True)
class PackSummary:
    """Evidence of a case at a glance."""

    pack_id: str
    case_id: str
    version: int
    manifest_sha256: bytes
    size_bytes: int
    items: int
    """Sightings that it names, packed or omitted."""
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Attachments:
    """What hangs on a root case."""

    evidence: PackSummary | None = None
    removal_request_ids: tuple[str, ...] = ()
    merged_case_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases a list shows; empty fields show all."""

    subscriber_id: str = ""
    states: tuple[CaseState, ...] = ()
    kind: CaseKind | None = None
    decision_id: str = ""
    channel_group: str = ""


@dataclass(frozen=True, slots=True)
class StoredCapture:
    """A capture that was fetched; `content` is a serialised Capture, empty where the detector had none."""

    decision_id: str
    content: bytes = field(repr=False)
    sha256: bytes
    fetch_time: datetime
    released: bool


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """An entry of the case log with the sealed record."""

    chain_id: str
    record_id: str
    decision_id: str | None
    entry: Entry = field(repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that lies in a day's chain because its decision had no case yet."""

    decision_id: str
    record: LogRecord


@dataclass(frozen=True, slots=True)
class Chain:
    """The head row of a chain."""

    chain_id: str
    key_owner: str
    head: Head


@dataclass(slots=True)
class ReviewItem:
    """What a person decides; `facts` is a serialised MatchFacts."""

    review_item_id: str
    decision_id: str
    subscriber_id: str
    facts: bytes
    create_time: datetime
    lease_ref: str = ""
    lease_expire_time: datetime | None = None
    done: bool = False
    case_id: str | None = None


class SubscriberStore(Protocol):
    """Subscribers and the consent ledger."""

    async def add(self, subscriber: Subscriber, profile: Profile) -> None:
        """Stores a new subscriber; the profile is sealed."""

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """Locks the rows in the order of their ids until the transaction ends; unknown ids are left out."""

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """Reads a subscriber without a lock."""

    async def profile(self, subscriber_id: str) -> Profile | None:
        """The profile; None when its key was destroyed."""

    async def set_state(self, subscriber_id: str, state: SubscriberState, now: datetime) -> None:
        """Changes the state; the version rises."""

    async def give(self, subscriber_id: str, consent: Consent) -> None:
        """Adds a consent."""

    async def withdraw(
        self, subscriber_id: str, scope: int | None, now: datetime
    ) -> Sequence[Consent]:
        """Marks standing consents (of one scope, or all) as withdrawn and returns them."""

    async def standing(self, subscriber_id: str, scope: int) -> Consent | None:
        """The consent of a scope that stands."""

    async def latest(self, subscriber_id: str, scope: int) -> Consent | None:
        """The last consent of a scope, standing or not."""

    async def consents(
        self, subscriber_id: str, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[Consent]:
        """A page of the ledger, oldest first."""


class CaseStore(Protocol):
    """Cases, their keys, sightings and aliases."""

    async def linked(self, decision_ids: Collection[str]) -> Mapping[str, Link]:
        """The cases of decisions; unknown decisions are left out."""

    async def owners(self, case_ids: Collection[str]) -> Mapping[str, str]:
        """Case id → subscriber id, for known cases."""

    async def books(self, facts: Sequence[Facts], window: timedelta) -> Mapping[str, Book]:
        """What the facts may touch, by subscriber."""

    async def save(
        self,
        books: Collection[Book],
        opened: Sequence[Case],
        changed: Sequence[Case],
        sightings: Sequence[Sighting],
        merges: Sequence[Alias],
        rule_version: str,
        now: datetime,
    ) -> None:
        """Writes what assigning facts has changed, in bulk."""

    async def get(self, case_id: str) -> Case | None:
        """One case by its own id."""

    async def update(self, cases: Sequence[Case]) -> None:
        """Writes changed cases."""

    async def merge(self, aliases: Sequence[Alias], rule_version: str, now: datetime) -> None:
        """Adds aliases and forgets separations between their sides."""

    async def tree(self, root_case_id: str) -> tuple[Mapping[str, Case], Sequence[Alias]]:
        """All cases of an incident and the merges between them."""

    async def part(self, case_id: str, from_case_id: str, subtree: Collection[str], subscriber_id: str) -> None:
        """Removes an alias, moves the subtree under its own root again and remembers the separation."""

    async def unpacked(self, subscriber_id: str) -> Sequence[str]:
        """Root cases of a subscriber with sightings that are in no pack."""

    async def count(self, root_case_id: str) -> tuple[int, Sequence[CaseKind], Sequence[str], datetime | None]:
        """Sightings of an incident: number, kinds, channel groups (both in order of appearance), first time."""

    async def sightings(self, root_case_id: str, most: int) -> Sequence[Sighting]:
        """Sightings of an incident, newest first."""

    async def page(
        self, wanted: CaseFilter, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[Case]:
        """Cases, newest first."""

    async def attachments(self, root_case_ids: Collection[str]) -> Mapping[str, Attachments]:
        """What hangs on each of the root cases."""

    async def note_removal(
        self, case_ids: Sequence[str], removal_request_id: str, state: RemovalState, now: datetime
    ) -> None:
        """Remembers where a removal request stands."""

    async def removals(self, root_case_id: str) -> Sequence[RemovalState]:
        """Where the removal requests of an incident stand, each once."""


class EvidenceStore(Protocol):
    """Captures and packs."""

    async def captures(self, decision_ids: Collection[str]) -> Mapping[str, StoredCapture]:
        """Captures that were fetched, opened."""

    async def keep(
        self, subscriber_id: str, decision_id: str, content: bytes, purpose: Purpose.ValueType, now: datetime
    ) -> None:
        """Stores a capture sealed; one that is there already stays, for a pack may tell of it."""

    async def trim(self, subscriber_id: str, decision_id: str, content: bytes) -> None:
        """Leaves less of a capture; time and hash stay those of what was taken over, which custody tells of."""

    async def mark_released(self, decision_ids: Collection[str]) -> None:
        """Notes that the detector's copies are gone."""

    async def forget(self, decision_id: str) -> None:
        """Deletes a capture."""

    async def latest(self, case_id: str) -> PackSummary | None:
        """The latest pack of a case."""

    async def add_pack(
        self, subscriber_id: str, pack: PackSummary, archive: bytes, packed: Collection[str]
    ) -> None:
        """Stores a pack sealed and marks the sightings that are in a pack now."""

    async def leave_manifest(
        self, subscriber_id: str, case_id: str, version: int
    ) -> PackSummary | None:
        """Leaves of a version its manifest and signature; returns it, or None where there is none to open."""

    async def pack(self, case_id: str, version: int) -> tuple[PackSummary, bytes] | None:
        """A pack with its archive; version 0 takes the latest."""


class LogStore(Protocol):
    """The chains of the case log."""

    async def lock(self, owners: Mapping[str, str]) -> Mapping[str, Chain]:
        """Locks the heads (chain id → key owner, made where missing) in the order of their ids."""

    async def known(self, record_ids: Collection[str]) -> Collection[tuple[str, str]]:
        """(chain id, record id) of records that are in a chain already."""

    async def waiting(self, decision_ids: Collection[str]) -> Sequence[Waiting]:
        """Records of these decisions that lie in chains of days, oldest first."""

    async def append(self, entries: Sequence[ChainEntry], heads: Mapping[str, Head]) -> None:
        """Adds entries and moves heads."""

    async def heads(self, chain_ids: Collection[str]) -> Mapping[str, Head]:
        """Heads without a lock; chains that do not exist are left out."""

    async def chain(self, chain_id: str) -> Chain:
        """A chain without a lock; an empty head where there is no row."""

    async def chains(self, after: str, most: int) -> Sequence[Chain]:
        """Chains in the order of their ids, also those that have entries and lost their head row."""

    async def entries(self, chain_id: str, after: int, most: int) -> Sequence[ChainEntry]:
        """Entries of a chain in order."""

    async def open_record(self, owner: str, entry: ChainEntry) -> LogRecord | None:
        """The record of an entry; None when its key was destroyed or it was changed."""


class ReviewStore(Protocol):
    """Review items and labels."""

    async def add(self, items: Sequence[ReviewItem]) -> Sequence[ReviewItem]:
        """Adds items and returns those whose decision was new."""

    async def lease(
        self, reviewer_ref: str, most: int, now: datetime, until: datetime
    ) -> Sequence[ReviewItem]:
        """Leases open items that nobody else holds and this person has not labelled, oldest first."""

    async def lock(self, review_item_id: str) -> ReviewItem | None:
        """One item, locked."""

    async def label(self, item: ReviewItem, reviewer_ref: str, label: Label, now: datetime) -> int:
        """Adds a label and returns how many the item has."""

    async def update(self, item: ReviewItem) -> None:
        """Writes a changed item."""


class Unit(Protocol):
    """One transaction."""

    @property
    def subscribers(self) -> SubscriberStore:
        """Subscribers."""

    @property
    def cases(self) -> CaseStore:
        """Cases."""

    @property
    def evidence(self) -> EvidenceStore:
        """Evidence."""

    @property
    def log(self) -> LogStore:
        """The case log."""

    @property
    def reviews(self) -> ReviewStore:
        """Review."""

    def tell(self, key: str, message: Message, traceparent: str | None = None) -> None:
        """Publishes an event after the commit; events of one key keep their order."""

    def record(self, key: str, record: LogRecord, traceparent: str | None = None) -> None:
        """Publishes a log record after the commit."""

    def seal(self, owner: str, plaintext: bytes, place: str) -> bytes:
        """Seals under the owner's key. Raises KeyDestroyed."""

    def reference(self, value: str) -> str:
        """Keyed hash of an id, 16 hex digits, for records."""

    async def remind(self, kind: str, rows: Mapping[str, tuple[datetime, str]]) -> None:
        """Schedules work: entity id → (due time, traceparent)."""

    async def forget_reminder(self, kind: str, entity_id: str) -> None:
        """Takes scheduled work back."""

    async def recall(self, method: str, request_id: str, request: Message) -> str | None:
        """The resource of the same request, if it was done before."""

    async def remember(self, method: str, request_id: str, request: Message, resource_id: str) -> None:
        """Notes that the request was done."""


class Units(Protocol):
    """Opens transactions."""

    def __call__(self) -> AbstractAsyncContextManager[Unit]:
        """One transaction: committed at the end, rolled back on any exception."""


class Captures(Protocol):
    """The detector's captures."""

    async def fetch(self, decision_id: str, purpose: Purpose.ValueType) -> bytes | None:
        """A serialised Capture; None when the detector has none. Raises Unavailable."""

    async def release(self, decision_id: str, purpose: Purpose.ValueType) -> None:
        """Tells the detector that the copy is no longer needed."""


class Signer(Protocol):
    """Signs evidence."""

    @property
    def key_id(self) -> str:
        """Name of the key."""

    def sign(self, content: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""


PACK = "PACK"
"""Due work: pack the evidence of a root case."""
CLOSE = "CLOSE"
"""Due work: close a resolved case."""
GIVE_UP = "GIVE_UP"
"""Due work: resolve a case that nobody was asked to act on."""
RELEASE = "RELEASE"
"""Due work: tell the detector that a reviewed capture is no longer needed."""
