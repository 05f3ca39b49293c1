"""What removal's use cases need from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import PURPOSE_REMOVAL, ROLE_UNSPECIFIED, Purpose, Role
from services.removal.domain.filing import Claimant, Evidence, Mandate
from services.removal.domain.guards import Gate
from services.removal.domain.policy import Policy
from services.removal.domain.request import Page, Request
from services.removal.domain.sight import Sight
from services.removal.domain.states import Move, State

# --- what is stored ---


@dataclass(frozen=True)
class Cause:
    """Who makes a change, for the log; the default is the system itself."""

    role: Role.ValueType = ROLE_UNSPECIFIED
    ref: str = ""
    """Keyed hash of the actor, 16 hex characters."""
    purpose: Purpose.ValueType = PURPOSE_REMOVAL


SYSTEM = Cause()


@dataclass
class Subscriber:
    """A subscriber as far as removal must know."""

    subscriber_id: str
    language: str = "ko"
    suspended: bool = False
    removal_consent: bool = False


PREPARED = "PREPARED"
"""What came of a sighting that has its request."""


@dataclass
class Sighting:
    """A packed sighting with a platform: where a request comes from."""

    sighting_id: str
    case_id: str
    subscriber_id: str
    platform: str
    pack_version: int
    outcome: str = "PENDING"
    request_id: str | None = None


@dataclass(frozen=True)
class Listing:
    """What to list: newest first, after a position."""

    subscriber_id: str = ""
    case_id: str = ""
    states: tuple[State, ...] = ()
    size: int = 50
    after: tuple[datetime, str] | None = None


@dataclass(frozen=True)
class Note:
    """Something done about a request or a platform that changes no request's state."""

    step: str
    """LOOK, MARK, REMIND, REPLY, ANSWER, REVIEW, HOLD, RELEASE, JOIN."""
    outcome: str
    reason: str = ""
    rule_id: str = ""
    rule_version: str = ""


@dataclass(frozen=True)
class StoredReply:
    """A reply that came, as far as it is kept."""

    reply_id: str
    message_ref: bytes
    """Keyed hash of what makes it the same when it comes twice."""
    request_id: str
    platform: str
    channel: str
    receive_time: datetime
    outcome: str
    text_sealed: bytes = field(default=b"", repr=False)
    """Only of one that a person has to read."""


class Work(Protocol):
    """One transaction. What it locks stays locked to its end; requests are saved with their log and events."""

    async def request(self, request_id: str, *, lock: bool = True) -> Request | None:
        """A request with its attempts and cases."""

    async def requests(self, request_ids: Collection[str], *, wait: bool) -> Mapping[str, Request]:
        """Several at once, by id, locked; without `wait` those alone that no other transaction holds."""

    async def look_up(self, pages: Collection[Page]) -> None:
        """Reads the latest episodes of pages at once: `latest` then costs nothing. The caller has locked their
        subscribers."""

    async def latest(self, subscriber_id: str, url_ref: bytes, platform: str) -> Request | None:
        """The latest episode of a page at a platform, locked."""

    async def list_requests(self, listing: Listing) -> Sequence[Request]:
        """A page of requests."""

    async def waiting(self, subscriber_id: str, states: Sequence[State], reasons: Sequence[str]) -> Sequence[str]:
        """Ids of a subscriber's requests in these states; with `reasons`, only those that wait for one of them."""

    async def save(self, request: Request, cause: Cause = SYSTEM) -> None:
        """Writes a request, its attempts, and the log record and event of every transition."""

    async def link(self, request_id: str, case_id: str) -> None:
        """Says that a request belongs to a case; harmless to repeat."""

    async def quoting(self, attempt_ids: Sequence[str], references: Sequence[str], platform: str) -> Sequence[str]:
        """Ids of the requests that these ids of attempts, or references, belong to, at most three; `platform` narrows
        them where it is known.
        """

    async def others_about(self, request: Request, states: Collection[State]) -> Sequence[tuple[str, str]]:
        """(request, subscriber) of requests in these states about the same page at the same platform, made for others
        and begun to be sent, the oldest first, at most five. Serialised per page."""

    async def joined_to(self, request_id: str) -> Sequence[str]:
        """Ids of the requests that wait for this one."""

    async def joined_to_those_of(self, subscriber_id: str) -> Sequence[str]:
        """Ids of the requests that wait for one of this subscriber's."""

    async def note(self, subject: Request | str, note: Note, at: datetime, cause: Cause = SYSTEM) -> None:
        """Writes the log record of something done about a request, or about a platform by its name."""

    async def hand_to_person(self, request: Request, occurrence: int, at: datetime) -> None:
        """Tells that it is for the person to file a request."""

    async def open_gates(self, platforms: Collection[str]) -> None:
        """Reads the gates of platforms at once, locked: `gate` then costs nothing."""

    async def gate(self, platform: str) -> Gate:
        """What stands between our requests and a platform, locked."""

    async def save_gate(self, gate: Gate) -> None:
        """Writes a gate."""

    async def gates(self) -> Sequence[Gate]:
        """Every gate that was ever used, not locked."""

    async def worked(self, platform: str) -> None:
        """Sending to a platform worked: its failures in a row are forgotten."""

    async def decided(self, platform: str, since: datetime) -> tuple[int, int]:
        """(groundless, all) requests that a platform has decided since then."""

    async def held_at(self, platform: str, reasons: Sequence[str]) -> Sequence[str]:
        """Ids of the requests that wait at a platform for one of these reasons."""

    async def vote(self, subject: str, actor: str, at: datetime) -> int:
        """Notes that somebody agrees; returns how many different people have. Harmless to repeat."""

    async def forget_votes(self, subject: str) -> None:
        """What was agreed upon is done."""

    async def add_reply(self, reply: StoredReply) -> bool:
        """Keeps a reply; False where it came before."""

    async def replies(self, request_id: str) -> int:
        """How many replies about a request were kept."""

    async def open_replies(self, size: int, after: str) -> Sequence[StoredReply]:
        """Replies that a person has to read, oldest first, after an id."""

    async def settle_reply(self, reply_id: str, request_id: str) -> bool:
        """A person has read a reply about that request; its text goes. False where there is no such reply."""

    async def merge_cases(self, root_case_id: str, merged_case_id: str) -> None:
        """The merged case's requests belong to the root as well."""

    async def unmerge_case(self, root_case_id: str, case_id: str) -> None:
        """Takes a merge back."""

    async def close_case(self, case_id: str) -> Sequence[str]:
        """Marks a case, and those merged into it, as closed; returns the requests that have no other open case."""

    async def reopen_case(self, case_id: str) -> bool:
        """Takes `close_case` back; returns whether sightings of the case wait to be prepared again."""

    async def meet(
        self, subscriber_ids: Collection[str], *, lock: bool = False, wait: bool = True
    ) -> Collection[str]:
        """Reads subscribers and their mandates at once: asking for each of them then costs nothing. With `lock` they
        are locked as well; without `wait` those alone that no other transaction holds. Returns the ids of those that
        were read."""

    async def subscriber(self, subscriber_id: str, *, lock: bool = False) -> Subscriber:
        """A subscriber, made when not yet known: case's events of one subscriber come in order, but commands may
        come first."""

    async def save_subscriber(self, subscriber: Subscriber) -> None:
        """Writes a subscriber."""

    async def sighting(self, sighting_id: str) -> Sighting | None:
        """A packed sighting."""

    async def read_sightings(self, sighting_ids: Collection[str]) -> None:
        """Reads packed sightings at once: `sighting` then costs nothing."""

    async def add_sightings(self, sightings: Sequence[Sighting]) -> None:
        """Adds packed sightings; one that is there already stays as it is."""

    async def save_sighting(self, sighting: Sighting) -> None:
        """Writes what came of a sighting."""

    async def prepared(self, sighting: Sighting, request_id: str) -> None:
        """A sighting has its request, and the request its case; harmless to repeat."""

    async def unprepared(self, case_ids: Collection[str]) -> Sequence[Sighting]:
        """Sightings of cases that wait for a request, for consent or for the end of a suspension."""

    async def held_cases(self, subscriber_id: str) -> Sequence[str]:
        """A subscriber's cases with sightings that waited for consent or for the end of a suspension."""

    async def mandates(self, subscriber_id: str) -> Sequence[Mandate]:
        """A subscriber's mandates, at most 100, the latest first."""

    async def save_mandate(self, subscriber_id: str, mandate: Mandate, at: datetime, cause: Cause) -> None:
        """Writes a mandate that was granted or revoked, with its log record."""

    def erased(self, subscriber_id: str) -> bool:
        """Whether this subscriber's key was destroyed."""

    async def erase(self, subscriber_id: str, asked: int) -> None:
        """Destroys the subscriber's key, deletes every row about them, and answers the round that asked."""

    async def schedule(self, kind: str, entity_ids: Sequence[str], at: datetime) -> None:
        """Has work done at a time; written with the end of the transaction."""

    async def finish(self) -> None:
        """Writes what was put off to the end of the transaction; `Store.begin` does so by itself."""

    async def recall(self, caller: str, method: str, request: Message) -> str | None:
        """Resource id of a command that was done before."""

    async def remember(self, caller: str, method: str, request: Message, resource_id: str) -> None:
        """Notes a command."""

    def seal(self, request: Request, evidence: Evidence) -> bytes:
        """Evidence, readable by this subscriber's key in this place only."""

    def unseal(self, request: Request) -> Evidence:
        """A request's evidence. Raises Unsealable or KeyDestroyed."""

    def seal_baseline(self, request: Request, content: bytes) -> bytes:
        """What the page looked like, readable by the subscriber's key in this place only."""

    def unseal_baseline(self, request: Request) -> bytes:
        """The inverse. Raises Unsealable or KeyDestroyed."""

    def seal_reply(self, request: Request, reply_id: str, text: str) -> bytes:
        """A reply's text, readable by the subscriber's key in this place only."""

    def unseal_reply(self, request: Request, reply: StoredReply) -> str:
        """The inverse. Raises Unsealable or KeyDestroyed."""

    def message_ref(self, platform: str, message_id: str) -> bytes:
        """Keyed hash of what makes a reply the same when it comes twice."""

    def url_ref(self, normalised: str) -> bytes:
        """Keyed hash of an address, 32 bytes."""


class Store(Protocol):
    """Opens transactions."""

    def begin(self) -> AbstractAsyncContextManager[Work]:
        """A transaction: committed at the end, rolled back on any exception."""


@dataclass(frozen=True)
class Count:
    """How often something happened in a month."""

    month: str
    """YYYY-MM, UTC."""
    platform: str
    what: str
    reason: str
    number: int


class Counts(Protocol):
    """What is counted for the public."""

    async def fold(self) -> None:
        """Counts what was recorded since the last time."""

    async def list_months(self, first: str, last: str) -> Sequence[Count]:
        """The counts from a month to another one, both included, by month, platform, what and reason."""


# --- who is asked ---


class CaseFile(Protocol):
    """What the case service tells."""

    async def evidence(
        self, case_id: str, sighting_ids: Collection[str], pack_version: int
    ) -> Mapping[str, Evidence]:
        """Sighting → its evidence, from one reading of the pack; a sighting of which the pack holds no capture is
        left out. Version 0 takes the latest.

        Raises Unavailable when it can be asked again, other ServiceErrors as the peer raised them.
        """

    async def claimant(self, subscriber_id: str) -> Claimant:
        """The subscriber as a platform may see them; the reading is recorded by case. Raises as `evidence`."""


@dataclass(frozen=True)
class Filing:
    """What a platform gets to read. Personal data: never in `repr`."""

    subject: str = field(repr=False)
    body: str = field(repr=False)
    language: str
    fields: tuple[tuple[str, str], ...] = field(repr=False)


class Policies(Protocol):
    """The policy templates in force."""

    def get(self, platform: str) -> Policy | None:
        """The policy of a platform; None for a platform without one."""

    def all(self) -> Sequence[Policy]:
        """Every policy, by platform id."""

    def statement(self, policy: Policy, reason: str, evidence: Evidence, mandate: Mandate | None) -> str:
        """The sentences that answer a rejection; empty where there are none."""

    def render(
        self,
        policy: Policy,
        evidence: Evidence,
        claimant: Claimant,
        mandate: Mandate | None,
        *,
        reference: str,
        language: str = "",
    ) -> Filing:
        """What the platform gets to read."""


# --- how it is sent ---


@dataclass(frozen=True)
class Accepted:
    """The platform itself took it."""

    reference: str


@dataclass(frozen=True)
class Sent:
    """It is out, and nobody has taken it yet."""


@dataclass(frozen=True)
class Refused:
    """The platform said no."""

    reason: str


@dataclass(frozen=True)
class Later:
    """It did not arrive, or may be sent again under the same key."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True)
class Unknown:
    """It may have arrived."""

    reason: str


@dataclass(frozen=True)
class Barred:
    """The way is closed to a program: a log-in wall, a CAPTCHA. It is not bypassed (Network Act 48)."""

    reason: str


Answer = Accepted | Sent | Refused | Later | Unknown | Barred


class Sender(Protocol):
    """Puts a filing to a platform."""

    repeatable: bool
    """Whether sending again under the same attempt id is taken as the same submission."""

    async def send(self, policy: Policy, endpoint: str, filing: Filing, attempt_id: str) -> Answer:
        """Sends once. Raises nothing that tells of content; bounded in time by 45 s."""


@dataclass(frozen=True)
class Way:
    """Where and how a platform is reached."""

    endpoint: str
    sender: Sender


class Ways(Protocol):
    """Finds the way to a platform."""

    def find(self, policy: Policy, source_host: str) -> Way | str:
        """The way, or the reason why nothing is sent: DRY_RUN, NO_ENDPOINT, NO_SENDER."""


# --- how it is seen ---


class Watcher(Protocol):
    """Looks at pages, within the fetch policy: robots, walls, budgets and addresses are its matter."""

    async def look(self, address: str) -> Sight:
        """What is to be seen there now. Raises nothing that tells of the address; bounded in time and size."""


class StatusDesk(Protocol):
    """Asks a platform how a request stands, where it has an API for it."""

    async def ask(self, policy: Policy, source_host: str, reference: str) -> Move | None:
        """What it says; None where there is nobody to ask, or no clear answer."""
