"""What do the handlers of `case` need from the world?

A `Unit` is one transaction: what is read, changed, told and recorded through it commits together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import Purpose, Role
from misuse.log.v1.record_pb2 import LogRecord
from services.case.domain.access import AccessEntry, Download, Usage
from services.case.domain.approvals import Proposal
from services.case.domain.cases import Case, Standing
from services.case.domain.chain import Entry, Head
from services.case.domain.custody import Touch
from services.case.domain.erasure import Erasure
from services.case.domain.guidance import Attached, Outcome
from services.case.domain.incidents import Book, Facts
from services.case.domain.people import Consent, Profile, Subscriber
from services.case.domain.purges import PurgeItem
from services.case.domain.removals import RemovalState
from services.case.domain.rights import RightsRequest, RightsState
from services.case.domain.rules import IncidentRules
from services.case.domain.words import CaseKind, CaseState, Label, Priority, PriorityReason, SubscriberState, Verdict


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
    reasons: tuple[PriorityReason, ...] = ()
    """What in it makes the case urgent."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A merge in force."""

    merged_case_id: str
    into_case_id: str
    rule: str
    before: Standing | None = None
    """Where the root stood before; None for a merge of which that was not noted."""
    create_time: datetime | None = None
    """When merged; None until stored."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the sightings of an incident say together; lists in order of appearance."""

    number: int = 0
    kinds: tuple[CaseKind, ...] = ()
    channel_groups: tuple[str, ...] = ()
    discover_time: datetime | None = None
    """The first discovery; None without a sighting."""
    last_time: datetime | None = None
    """Commit of the last one."""
    reasons: tuple[PriorityReason, ...] = ()


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
    verdict: Verdict = Verdict.UNSPECIFIED
    """What the subscriber had said when it was built."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """What hangs on a root case."""

    evidence: PackSummary | None = None
    removal_request_ids: tuple[str, ...] = ()
    merged_case_ids: tuple[str, ...] = ()
    guidance: tuple[str, ...] = ()
    """Ids of public guidance paths."""


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases a list shows; empty fields show all."""

    subscriber_id: str = ""
    states: tuple[CaseState, ...] = ()
    kind: CaseKind | None = None
    decision_id: str = ""
    channel_group: str = ""
    priorities: tuple[Priority, ...] = ()
    create_from: datetime | None = None
    create_until: datetime | None = None
    """Opened from the first to before the second; None is no bound."""
    deadline_before: datetime | None = None
    words: frozenset[str] | None = None
    """Search words that must all stand in one text of the case; None for no search."""


class CaseOrder(StrEnum):
    """In which order a list shows cases."""

    NEWEST = "NEWEST"
    DEADLINE = "DEADLINE"
    PRIORITY = "PRIORITY"


@dataclass(frozen=True, slots=True)
class CasePlace:
    """Where a page ended: the values by which its order goes on."""

    time: datetime
    """Of the opening; the deadline in order of deadlines."""
    case_id: str
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of cases, merged ones with their root."""

    states: Mapping[CaseState, int]
    priorities: Mapping[Priority, int]
    """Of living cases."""
    kinds: Mapping[CaseKind, int]
    """By primary kind."""
    channel_groups: Mapping[str, int]
    """The most frequent first."""
    overdue: int
    sightings: int
    count_time: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A published record of this service, as a watcher needs it."""

    partition: int
    position: int
    record: LogRecord | None
    """None for what is no record."""


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
    """What people decide: in the review band, or for a frozen sample. `facts` is a serialised MatchFacts, empty for a
    sample.
    """

    review_item_id: str
    decision_id: str
    subscriber_id: str
    facts: bytes
    create_time: datetime
    lease_ref: str = ""
    lease_time: datetime | None = None
    lease_expire_time: datetime | None = None
    done: bool = False
    """Nobody more is asked for a blind label."""
    case_id: str | None = None
    sample_id: str = ""
    """Frozen sample that it belongs to; empty in the review band."""
    due_time: datetime | None = None
    """By when it should be settled."""
    escalations: int = 0
    disputed: bool = False
    """The labels do not agree; a third person decides."""
    outcome: int = 0
    """Label that it came to; 0 while it is open."""

    @property
    def waits_for_a_third(self) -> bool:
        """Disputed, and nobody has decided."""
        return self.disputed and not self.outcome


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """What waits for people, in the review band or in all samples together."""

    of_samples: bool
    waiting: int = 0
    """For blind labels."""
    leased: int = 0
    disputed: int = 0
    overdue: int = 0
    """Waiting or disputed, past the deadline."""
    first_due_time: datetime | None = None
    most_escalations: int = 0


class SubscriberStore(Protocol):
    """Subscribers and the consent ledger."""

    async def add(self, subscriber: Subscriber, profile: Profile) -> None:
        """Stores a new subscriber; the profile is sealed."""

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """Locks the rows in the order of their ids until the transaction ends; who was erased is ERASED, unknown ids
        are left out."""

    async def find(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """Reads subscribers without a lock; unknown ids are left out."""

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """Reads a subscriber without a lock."""

    async def whole(self, subscriber_ids: Collection[str]) -> Mapping[str, tuple[Subscriber, Profile | None]]:
        """Subscribers with their profiles, which are None when the key was destroyed; unknown ids are left out."""

    async def profiles(self, subscriber_ids: Collection[str]) -> Mapping[str, Profile]:
        """The profiles of subscribers; without those whose key was destroyed."""

    async def profile(self, subscriber_id: str) -> Profile | None:
        """The profile; None when its key was destroyed."""

    async def correct(self, subscriber_id: str, profile: Profile, language: str, now: datetime) -> None:
        """Puts right values in the place of wrong ones; the version rises."""

    async def set_state(self, subscriber_id: str, state: SubscriberState, now: datetime) -> None:
        """Changes the state; the version rises."""

    async def give(self, subscriber_id: str, consent: Consent) -> None:
        """Adds a consent."""

    async def withdraw(
        self, subscriber_id: str, scope: int | None, now: datetime
    ) -> Sequence[Consent]:
        """Marks standing consents (of one scope, or all) as withdrawn and returns them."""

    async def consenting(self, subscriber_ids: Collection[str], scope: int) -> Collection[str]:
        """Those of the subscribers whose consent of a scope stands."""

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

    async def books(self, facts: Sequence[Facts], rules: IncidentRules) -> Mapping[str, Book]:
        """What the facts may touch, by subscriber."""

    async def save(
        self,
        books: Collection[Book],
        opened: Sequence[Case],
        changed: Sequence[Case],
        sightings: Sequence[Sighting],
        merges: Sequence[Alias],
        reminders: Mapping[tuple[str, str], tuple[datetime, str]],
        rule_version: str,
        now: datetime,
    ) -> None:
        """Writes what assigning facts has changed, in bulk; `reminders` as in `Unit.remind`, by kind and entity."""

    async def find(self, case_ids: Collection[str]) -> Mapping[str, Case]:
        """Cases by their own ids; unknown ids are left out."""

    async def get(self, case_id: str) -> Case | None:
        """One case by its own id."""

    async def roots(self, case_ids: Collection[str]) -> Mapping[str, Case]:
        """Case id → its root, for known cases; one and the same value for those that have one root."""

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

    async def count(self, root_case_id: str) -> Tally:
        """What the sightings of an incident say together."""

    async def sightings(self, root_case_ids: Collection[str], most: int) -> Mapping[str, Sequence[Sighting]]:
        """Root → the sightings of its incident, newest first and at most so many, for each of the roots."""

    async def page(
        self, wanted: CaseFilter, order: CaseOrder, size: int, after: CasePlace | None
    ) -> Sequence[Case]:
        """Cases in an order, from a place on."""

    async def statistics(self, subscriber_id: str, now: datetime) -> Statistics:
        """Counts of a subscriber's cases, or of all where none is named."""

    async def flag(self, root_case_id: str, reason: PriorityReason) -> None:
        """Makes every sighting of an incident say what makes it urgent: each side keeps it after an un-merge."""

    async def attachments(self, root_case_ids: Collection[str]) -> Mapping[str, Attachments]:
        """What hangs on each of the root cases."""

    async def merged(self, root_case_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """Root → the cases that were merged into it, for each of the roots."""

    async def note_removals(
        self, pairs: Collection[tuple[str, str]], states: Mapping[str, RemovalState], now: datetime
    ) -> None:
        """Remembers which cases have which removal requests, as (case, request), and where each of these requests
        stands, also for cases that have it already."""

    async def removals(self, root_case_ids: Collection[str]) -> Mapping[str, dict[str, RemovalState]]:
        """Root → its removal requests and where they stand, for each of the roots."""


@dataclass(frozen=True, slots=True)
class NewPack:
    """A pack that is to be stored."""

    subscriber_id: str
    summary: PackSummary
    archive: bytes = field(repr=False)
    packed: Collection[str]
    """Sightings that were in no pack."""
    supplemented: Touch | None
    """That it supplements the version before; None for the first."""
    shows_new_guidance: bool
    """Whether guidance is in it that no pack showed as it stands."""


class EvidenceStore(Protocol):
    """Captures and packs."""

    async def captures(self, decision_ids: Collection[str]) -> Mapping[str, StoredCapture]:
        """Captures that were fetched, opened."""

    async def fetched(self, decision_ids: Collection[str]) -> Collection[str]:
        """Those of the decisions whose captures were fetched: the same without opening them."""

    async def keep(
        self, contents: Mapping[str, Mapping[str, bytes]], purpose: Purpose.ValueType, now: datetime
    ) -> None:
        """Stores captures sealed, by subscriber and decision; one that is there already stays, for a pack may tell of
        it."""

    async def trim(self, subscriber_id: str, decision_id: str, content: bytes) -> None:
        """Leaves less of a capture; time and hash stay those of what was taken over, which custody tells of."""

    async def mark_released(self, decision_ids: Collection[str]) -> None:
        """Notes that the detector's copies are gone."""

    async def forget(self, decision_id: str) -> None:
        """Deletes a capture."""

    async def latest(self, case_ids: Collection[str]) -> Mapping[str, PackSummary]:
        """Case → its latest pack; cases without one are left out."""

    async def add_packs(self, packs: Sequence[NewPack]) -> None:
        """Stores packs sealed and marks the sightings and the guidance that are in a pack now."""

    async def put_away(self, subscriber_id: str, pack_id: str, left: bytes) -> None:
        """Leaves of a pack what proves it."""

    async def versions(self, case_id: str) -> Sequence[PackSummary]:
        """Every version, the newest first, without the archives."""

    async def packs(self, wanted: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], tuple[PackSummary, bytes]]:
        """Packs with their archives, by case and version; version 0 takes the latest. What there is not, or cannot be
        opened any more, is left out."""

    async def pack(self, case_id: str, version: int) -> tuple[PackSummary, bytes] | None:
        """A pack with its archive; version 0 takes the latest."""

    async def touch(self, case_id: str, subscriber_id: str, touch: Touch) -> None:
        """Adds to the chain of custody of a case's packs; the reason is sealed."""

    async def touches(self, case_ids: Collection[str], most: int) -> Mapping[str, Sequence[Touch]]:
        """Case → what happened to its packs as a whole, oldest first and of more than `most` the newest, for each of
        the cases."""

    async def attach_guidance(
        self, case_id: str, subscriber_id: str, path_ids: Sequence[str], version: str, now: datetime
    ) -> None:
        """Attaches public guidance to a case; what is attached already stays as it is."""

    async def guidance(self, case_ids: Collection[str]) -> Mapping[str, Sequence[Attached]]:
        """Case → its guidance, in the order in which it was attached, for each of the cases."""

    async def answer_guidance(self, case_id: str, path_id: str, outcome: Outcome, now: datetime) -> None:
        """Notes what the subscriber did with a path."""


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

    async def chains(self, after: str, until: str, most: int) -> Sequence[Chain]:
        """Chains in the order of their ids, up to `until` where it is named, also those that have entries and lost
        their head row.
        """

    async def entries(self, chain_id: str, after: int, most: int) -> Sequence[ChainEntry]:
        """Entries of a chain in order."""

    async def open_record(self, owner: str, entry: ChainEntry) -> LogRecord | None:
        """The record of an entry; None when its key was destroyed or it was changed."""


class ReviewStore(Protocol):
    """Review items and labels."""

    async def add(self, items: Sequence[ReviewItem]) -> Sequence[ReviewItem]:
        """Adds items and returns those whose decision was new in its sample, or in the review band."""

    async def lease(
        self, reviewer_ref: str, most: int, now: datetime, until: datetime
    ) -> Sequence[ReviewItem]:
        """Leases open items that nobody else holds and this person has not labelled, those due first first. The time of
        a lease that is renewed stays.
        """

    async def lock(self, review_item_id: str) -> ReviewItem | None:
        """One item, locked."""

    async def label(self, item: ReviewItem, reviewer_ref: str, label: Label, now: datetime) -> Sequence[Label]:
        """Adds a label and returns all that the item has. Raises AlreadyExists LABELLED_BEFORE."""

    async def labelled(self, review_item_id: str, reviewer_ref: str) -> bool:
        """Whether this person has labelled the item."""

    async def disputed(
        self, size: int, after: tuple[datetime, str] | None, not_by: str
    ) -> Sequence[ReviewItem]:
        """A page of items that wait for a third person, oldest first; none that `not_by` has labelled, if named."""

    async def queues(self, now: datetime) -> Sequence[ReviewQueue]:
        """What waits: the review band, then the samples."""

    async def of_subscriber(self, subscriber_id: str, most: int) -> Sequence[ReviewItem]:
        """Items about a subscriber, locked."""

    async def open_in(self, case_ids: Collection[str]) -> Sequence[ReviewItem]:
        """Items of the review band about these cases that have come to nothing yet, locked."""

    async def remove(self, review_item_ids: Collection[str]) -> None:
        """Deletes items with their labels."""

    async def update(self, item: ReviewItem) -> None:
        """Writes a changed item."""


@dataclass(frozen=True, slots=True)
class SearchText:
    """A masked text and the words by which it is found."""

    decision_id: str
    case_id: str
    subscriber_id: str
    words: Collection[str] = field(default=(), repr=False)


class SearchStore(Protocol):
    """What makes masked texts searchable: keyed tags of their words, never the words."""

    async def missing(self, root_case_id: str, most: int) -> Sequence[SearchText]:
        """What is to be made searchable of an incident: texts whose captures are stored and that have no tags yet,
        without their words."""

    async def incomplete(self, after: str, most: int) -> Sequence[str]:
        """Root cases with such decisions, in the order of their ids."""

    async def add(self, texts: Sequence[SearchText]) -> None:
        """Stores the tags of texts. What is there already stays."""

    async def complete(self) -> bool:
        """False from a loss of the tags until `mark_complete`."""

    async def mark_complete(self) -> None:
        """Notes that no tags are missing but those of captures that come in; the note is lost with the tags."""


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

    @property
    def search(self) -> SearchStore:
        """Search."""

    @property
    def access(self) -> AccessStore:
        """The access log."""

    @property
    def approvals(self) -> ApprovalStore:
        """Proposals of what two people decide."""

    @property
    def erasures(self) -> ErasureStore:
        """Erasures."""

    @property
    def rights(self) -> RightsStore:
        """Requests about one's own data."""

    @property
    def purges(self) -> PurgeStore:
        """What is purged in any service."""

    def tell(self, key: str, message: Message, traceparent: str | None = None) -> None:
        """Publishes an event after the commit; events of one key keep their order."""

    def record(self, key: str, record: LogRecord, traceparent: str | None = None) -> None:
        """Publishes a log record after the commit."""

    def seal(self, owner: str, plaintext: bytes, place: str) -> bytes:
        """Seals under the owner's key. Raises KeyDestroyed."""

    def key_destroyed(self, owner: str) -> bool:
        """Whether the owner's key was destroyed, so that what it sealed may be gone."""

    def reference(self, value: str) -> str:
        """Keyed hash of an id, 16 hex digits, for records."""

    async def remind(self, kind: str, rows: Mapping[str, tuple[datetime, str]]) -> None:
        """Schedules work: entity id → (due time, traceparent)."""

    async def forget_reminders(self, kind: str, entity_ids: Collection[str]) -> None:
        """Takes scheduled work back."""

    async def recall(self, method: str, request_id: str, request: Message) -> str | None:
        """The resource of the same request, if it was done before."""

    async def remember(self, method: str, request_id: str, request: Message, resource_id: str) -> None:
        """Notes that the request was done."""


class Units(Protocol):
    """Opens transactions."""

    def __call__(self) -> AbstractAsyncContextManager[Unit]:
        """One transaction: committed at the end, rolled back on any exception."""


class Changes(Protocol):
    """What this service has published, for those who watch."""

    async def heads(self) -> Mapping[int, int]:
        """Partition of records → last position given out."""

    async def after(self, positions: Mapping[int, int], most: int) -> Sequence[Change]:
        """What follows the positions, at most so many of each partition, without gaps. Raises OutOfRange
        POSITION_NO_LONGER_KEPT where the next one is gone, or was never given out.
        """

    async def wait(self) -> None:
        """Returns after a pause that is short while much happens."""


class Captures(Protocol):
    """The detector's captures."""

    async def fetch(self, decision_id: str, purpose: Purpose.ValueType) -> bytes | None:
        """A serialised Capture; None when the detector has none. Raises Unavailable."""

    async def release(self, decision_ids: Collection[str], purpose: Purpose.ValueType) -> None:
        """Tells the detector that the copies are no longer needed."""


class Timestamps(Protocol):
    """Says when something existed."""

    async def stamp(self, imprint: bytes) -> bytes:
        """A token for a SHA-256, to lie in an archive as `manifest.time`. Raises Unavailable."""


class Pages(Protocol):
    """Draws what people read: one self-contained HTML page each, UTF-8."""

    def evidence(self, facts: Mapping[str, object]) -> bytes:
        """The page of an evidence pack."""


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
DIGEST = "DIGEST"
"""Due work: tell of the sightings of a burst together."""
COVER = "COVER"
"""Due work: make searchable again what an interruption left out."""
RELEASE = "RELEASE"
"""Due work: tell the detector that a reviewed capture is no longer needed."""


class ErasureStore(Protocol):
    """Erasures, and how everything about a subscriber leaves this database."""

    async def add(self, erasure: Erasure) -> None:
        """Stores a new one; at most one per subscriber is under way."""

    async def update(self, erasure: Erasure) -> None:
        """Writes a changed one."""

    async def get(self, erasure_id: str) -> Erasure | None:
        """One, without a lock."""

    async def lock(self, erasure_id: str) -> Erasure | None:
        """One, locked."""

    async def of_subscriber(self, subscriber_id: str) -> Erasure | None:
        """The one that is under way."""

    async def lock_of(self, subscriber_id: str) -> Erasure | None:
        """The one that is under way, locked."""

    async def page(self, size: int, before: tuple[datetime, str] | None) -> Sequence[Erasure]:
        """A page, newest first, of what was asked for before a place."""

    async def purge_cases(
        self, subscriber_id: str, new_owner: str, now: datetime
    ) -> Sequence[tuple[Case, CaseState]]:
        """Makes all cases of a subscriber PURGED and somebody else's, as well as what the access log says; forgets what
        was due for them. Returns them with the states they had."""

    async def hand_over_chains(self, subscriber_id: str, new_owner: str) -> None:
        """What is appended to the chains of a subscriber's cases from now on is sealed by another key."""

    async def delete_rows(self, subscriber_id: str) -> None:
        """Deletes every row about a subscriber but the subscriber's own, cases, and the erasure."""

    async def delete_subscriber(self, subscriber_id: str) -> None:
        """Deletes the subscriber's own row."""


class Keys(Protocol):
    """What erasing needs of the key store."""

    def destroy(self, owner: str) -> None:
        """Ends a key for ever; harmless to repeat."""


ERASURE = "ERASURE"
"""Due work: ask the round of an erasure, once more where answers are missing."""


class ApprovalStore(Protocol):
    """Proposals."""

    async def add(self, proposal: Proposal) -> None:
        """Stores a new one; body and reason are sealed."""

    async def get(self, proposal_id: str) -> Proposal | None:
        """One, without a lock."""

    async def lock(self, proposal_id: str) -> Proposal | None:
        """One, locked."""

    async def update(self, proposal: Proposal) -> None:
        """Writes what changed."""

    async def page(
        self, kinds: Collection[str], size: int, before: tuple[datetime, str] | None
    ) -> Sequence[Proposal]:
        """A page of these kinds, newest first, of what was made before a place."""


class Grants(Protocol):
    """Makes grants of approved proposals."""

    def of(self, proposal: Proposal) -> bytes:
        """The signed grant of an approved proposal; the same every time."""


EXPIRE_PROPOSAL = "EXPIRE_PROPOSAL"
"""Due work: end a proposal that nobody has decided."""


class AccessStore(Protocol):
    """The access log: who read whose personal data, in every service."""

    async def owners(self, things: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """(field, id) → the subscriber whose it is; what is nobody's, or of somebody erased, is left out."""

    async def add(self, entries: Sequence[AccessEntry]) -> None:
        """Stores entries."""

    async def page(
        self, subscriber_id: str, size: int, before: tuple[datetime, str] | None
    ) -> Sequence[AccessEntry]:
        """A page, newest first; of everybody where no subscriber is named."""

    async def usage(self, start: datetime, end: datetime) -> Sequence[Usage]:
        """Readings of a period by role, purpose, method, actor and hour."""

    async def people(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], int]:
        """(role, actor) → of how many subscribers they read in a period."""

    async def downloads(
        self, start: datetime, end: datetime, methods: Collection[str], most: int
    ) -> Sequence[Download]:
        """Readings by the named methods in a period, oldest first."""

    async def purge(self, before: datetime) -> int:
        """Deletes what is older, and returns how much that was."""


PURGE_ACCESS = "PURGE_ACCESS"
"""Due work: delete entries of the access log whose time is over; its entity is the log itself."""
REVIEW_DUE = "REVIEW_DUE"
"""Due work: escalate a review item that nobody has settled."""


class RightsStore(Protocol):
    """Requests about one's own data; words and answers are sealed under the subscriber's key."""

    async def add(self, request: RightsRequest, words: bytes) -> None:
        """Stores a new one with what was said when it came in."""

    async def get(self, rights_request_id: str) -> RightsRequest | None:
        """One, without a lock."""

    async def lock(self, rights_request_id: str) -> RightsRequest | None:
        """One, locked."""

    async def update(self, request: RightsRequest) -> None:
        """Writes what changed."""

    async def words(self, request: RightsRequest) -> bytes:
        """What was said when it came in; empty where that is gone."""

    async def keep_answer(self, request: RightsRequest, document: bytes) -> None:
        """Stores the document that answers it."""

    async def answer(self, request: RightsRequest) -> bytes | None:
        """The document that answers it; None where it is gone, or never was."""

    async def drop_answer(self, rights_request_id: str) -> None:
        """Deletes the document."""

    async def open_of(self, subscriber_id: str) -> Sequence[RightsRequest]:
        """Open ones of a subscriber, locked, in the order of their ids."""

    async def of_erasure(self, erasure_id: str) -> Sequence[RightsRequest]:
        """Open ones that an erasure fulfils, locked."""

    async def answered_of(self, subscriber_id: str) -> Sequence[RightsRequest]:
        """Those of a subscriber whose document is kept, locked."""

    async def page(
        self, subscriber_id: str, state: RightsState | None, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        """A page in the order of deadlines; of everybody where no subscriber is named, in any state for None."""

    async def held(
        self, reasons: Collection[str], size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        """A page of deletions that were rejected for one of these reasons, in the order of deadlines."""

    async def forget_subscriber(self, subscriber_id: str) -> None:
        """Leaves of a subscriber's requests what says nothing of anybody."""


RIGHTS_DUE = "RIGHTS_DUE"
"""Due work: remind of a request about one's own data, or escalate it."""
RIGHTS_ANSWER = "RIGHTS_ANSWER"
"""Due work: purge the answer to a request."""


class PurgeStore(Protocol):
    """What is purged in any service, as the records tell it."""

    async def note_due(self, items: Sequence[PurgeItem]) -> None:
        """Adds what became due; what is known stays, but the earlier deadline holds."""

    async def note_purged(self, items: Sequence[PurgeItem]) -> None:
        """Notes purges, of known items or not; of several records the latest stands."""

    async def page_due(self, size: int, after: tuple[datetime, str] | None) -> Sequence[PurgeItem]:
        """A page of what is not purged, by deadline."""

    async def page_purged(self, size: int, before: tuple[datetime, str] | None) -> Sequence[PurgeItem]:
        """A page of what was purged, newest first, with proof where the record is in the log."""

    async def forget(self, before: datetime) -> int:
        """Takes what was purged before a time off the list, and returns how much that was."""


PURGE_LIST = "PURGE_LIST"
"""Due work: take old purges off the list; its entity is the list itself."""
