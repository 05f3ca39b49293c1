"""What a platform wants to see before it takes content down, and who may ask.

A policy is data (policies/<platform>.yaml). `parse` accepts exactly what is described here and names every
fault; nothing is filled in silently. Which of its fields are known and which are assumed stands in `sources`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

Choice = TypeVar("Choice", bound=StrEnum)
Value = TypeVar("Value")


class Path(StrEnum):
    """How a request reaches the platform."""

    HTTP_FORM = "HTTP_FORM"
    SMTP = "SMTP"
    API = "API"
    PERSON = "PERSON"
    """The person files it: we hand over the text and the fields."""


class Kind(StrEnum):
    """Who is asked."""

    PLATFORM = "PLATFORM"
    """Whoever serves the content or leads to it."""
    PUBLIC_BODY = "PUBLIC_BODY"
    """An authority or a centre that helps where the platform does not: a fallback, and guidance for a case."""


class Filer(StrEnum):
    """Who may file."""

    PERSON = "PERSON"
    REPRESENTATIVE = "REPRESENTATIVE"
    """Guardian or other legal representative."""
    AGENT_WITH_MANDATE = "AGENT_WITH_MANDATE"
    """We, when the person has signed (PIPA 38, Decree 45, 46)."""


class Field(StrEnum):
    """What evidence and the subscriber can supply."""

    SOURCE_URL = "source_url"
    POST_ID = "post_id"
    DISCOVER_TIME = "discover_time"
    PUBLISH_TIME = "publish_time"
    HTTP_STATUS = "http_status"
    CONTENT_SHA256 = "content_sha256"
    MASKED_TEXT = "masked_text"
    THUMBNAIL = "thumbnail"
    STATEMENT = "statement"
    MANDATE = "mandate"
    CLAIMANT_NAME = "claimant_name"
    CLAIMANT_EMAIL = "claimant_email"
    IDENTITY_DOCUMENT = "identity_document"
    """A copy of an identity card with its tail masked: the person's own to show, never kept here."""


PERSONAL = frozenset({Field.CLAIMANT_NAME, Field.CLAIMANT_EMAIL})
"""Fetched from the subscriber's profile only for a platform whose form demands them."""
LANGUAGES = ("ko", "en")
STATUSES = ("known", "assumed")
"""A known fact was read in a primary text; an assumed one must be checked before sending is switched on."""
GROUPS = ("naver", "kakao", "google", "youtube", "meta", "x", "tiktok", "telegram", "community", "overseas")
"""The channel groups of the first release; a public body belongs to none."""
SOURCED = (
    "endpoint", "filers", "required", "languages", "submission", "acknowledgement", "reply_domains", "expected",
    "rejections", "resubmission", "fallback", "pace", "hold_for_verdict", "steps",
)  # fmt: skip
"""Fields that state something about the platform: each says whether it is known, and by what source. `submission`
stands for `form` and `api`."""
MOST_ATTEMPTS = 5
"""Attempts at one request that any template may allow. Filing the same again and again is what Network Act 44-13 lets
platforms punish."""


@dataclass(frozen=True)
class Fact:
    """A statement about the platform, how sure it is, and where it comes from."""

    text: str
    status: str
    source: str


@dataclass(frozen=True)
class FormField:
    """An input of the platform's form: its name there, and the template of its value."""

    name: str
    value: str


@dataclass(frozen=True)
class Form:
    """The platform's HTTP form."""

    csrf_field: str
    """Name of the hidden input whose value must come back."""
    fields: tuple[FormField, ...]


@dataclass(frozen=True)
class Api:
    """The platform's JSON API: POST an object, get an object with a reference."""

    fields: tuple[FormField, ...]
    reference: str
    """Name of the member of its answer that holds the reference."""
    status_path: str
    """Path at the same origin that tells how a request stands, with `{reference}`; empty where there is none."""
    state: str
    """Name of the member of that answer that holds the state."""
    words: Mapping[str, str]
    """Word of the platform, in upper case → ACCEPTED, REJECTED, REMOVED, TEMP_BLOCKED or DEINDEXED."""


@dataclass(frozen=True)
class Rejection:
    """A reason that the platform gives, and what answers it."""

    reason: str
    answered_by: tuple[Field, ...]
    """Evidence that answers it; empty: nothing does, a person decides."""
    groundless: bool
    """Whether it says that there was no ground for the request (Network Act 44-13 counts these)."""


@dataclass(frozen=True)
class Expected:
    """How long the platform takes."""

    acknowledge: timedelta
    decide: timedelta
    give_up: timedelta
    """Silence for this long, from its acceptance or, without one, from the submission, ends the request."""


@dataclass(frozen=True)
class Resubmission:
    """How often and how soon a rejected request is put again."""

    most_attempts: int
    pause: timedelta


@dataclass(frozen=True)
class Pace:
    """How much the platform is asked to take from us."""

    per_minute: int
    burst: int
    """Requests that may go at once after a pause."""
    per_day: int


@dataclass(frozen=True)
class Link:
    """Where a step leads to."""

    title: Mapping[str, str]
    """Language → title."""
    url: str
    """https, or tel."""


@dataclass(frozen=True)
class Policy:
    """One platform's template, of one version."""

    platform: str
    kind: Kind
    group: str
    """Channel group; empty for a public body."""
    version: str
    """Version stated in the file, and the start of the file's SHA-256: a silent edit shows."""
    digest: str
    """SHA-256 of the file, the notices and the statements: what two people approve. Hex."""
    approved: bool
    """Whether two people have approved exactly this digest."""
    display_name: str
    path: Path
    endpoint: str
    """Official address: a URL, a mail address (`{host}` stands for the host of the content), or empty."""
    filers: frozenset[Filer]
    required: tuple[Field, ...]
    languages: tuple[str, ...]
    legal_basis: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    sources: Mapping[str, Fact]
    """Field → how sure it is; one for each of SOURCED."""
    demand: Mapping[str, str]
    """Language → the sentences that say what is asked, by which right."""
    form: Form | None
    api: Api | None
    acknowledgement: re.Pattern[str]
    """Finds the platform's `reference` in its answer."""
    reply_domains: tuple[str, ...]
    """Domains whose signature (DKIM) makes a mailed reply the platform's own; empty: a person looks at each."""
    expected: Expected
    rejections: tuple[Rejection, ...]
    resubmission: Resubmission
    fallback: tuple[str, ...]
    """Public bodies to turn to, the first first."""
    pace: Pace
    hold_for_verdict: bool
    """Whether nothing is filed before the subscriber has said that the content is theirs to complain about."""
    steps: Mapping[str, tuple[str, ...]]
    """Language → what the person does to file by their own hand."""
    links: tuple[Link, ...]

    @property
    def discloses(self) -> frozenset[Field]:
        """The subscriber's data that the platform gets to see."""
        return PERSONAL & set(self.required)

    @property
    def submission(self) -> Form | Api | None:
        """What its fields are put into; None for mail and the person's own hand."""
        return self.api if self.path is Path.API else self.form

    def rejection(self, reason: str) -> Rejection | None:
        """What the template knows of a reason; None for one that it does not know."""
        return next((item for item in self.rejections if item.reason == reason), None)


class PolicyError(Exception):
    """A template that must not be used. `faults` say where and why."""

    def __init__(self, platform: str, faults: Sequence[str]) -> None:
        super().__init__(f"{platform}: " + "; ".join(faults))
        self.platform = platform
        self.faults = tuple(faults)


_KEYS = {
    "platform", "kind", "group", "version", "display_name", "path", "endpoint", "filers", "required", "languages",
    "legal_basis", "facts", "sources", "demand", "form", "api", "acknowledgement", "reply_domains", "expected",
    "rejections", "resubmission", "fallback", "pace", "hold_for_verdict", "steps", "links",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@(\{host\}|[A-Za-z0-9.-]+)")
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_DOMAIN = re.compile(r"(?:[a-z0-9-]{1,63}\.)+[a-z]{2,63}")
_ANSWERS = ("ACCEPTED", "REJECTED", "REMOVED", "TEMP_BLOCKED", "DEINDEXED")
_LONGEST_HOURS = 2160


def parse(data: object, digest: str, approved: Collection[str] = ()) -> Policy:
    """The policy that `data` (a mapping read from YAML) states; `digest` is the hex SHA-256 of its file, `approved`
    the digests that two people approved.

    Raises PolicyError with every fault that was found.
    """
    if not isinstance(data, Mapping):
        raise PolicyError("?", ["the file is not a mapping"])
    reader = _Reader(data)
    path = reader.choice("path", Path)
    policy = Policy(
        platform=reader.text("platform"),
        kind=reader.choice("kind", Kind),
        group=reader.word("group"),
        version=f"{reader.text('version')}-{digest[:8]}",
        digest=digest,
        approved=digest in approved,
        display_name=reader.text("display_name"),
        path=path,
        endpoint=reader.endpoint(path),
        filers=frozenset(reader.choices("filers", Filer)),
        required=reader.choices("required", Field),
        languages=reader.languages(),
        legal_basis=reader.facts("legal_basis"),
        facts=reader.facts("facts"),
        sources=reader.sources(),
        demand=reader.demand(),
        form=reader.form(path),
        api=reader.api(path),
        acknowledgement=reader.pattern("acknowledgement"),
        reply_domains=reader.domains(),
        expected=Expected(*reader.hours("expected", "acknowledge_hours", "decide_hours", "give_up_hours")),
        rejections=reader.rejections(),
        resubmission=reader.resubmission(),
        fallback=reader.names("fallback"),
        pace=Pace(*reader.numbers("pace", {"per_minute": 600, "burst": 1000, "per_day": 100_000})),
        hold_for_verdict=reader.flag("hold_for_verdict"),
        steps=reader.steps(),
        links=reader.links(),
    )
    reader.judge(policy)
    if reader.faults:
        raise PolicyError(policy.platform or "?", reader.faults)
    return policy


class _Reader:
    """Reads one mapping and collects what is wrong with it."""

    def __init__(self, data: Mapping[object, object]) -> None:
        self._data = data
        self.faults = [f"{key}: is not a key of a policy" for key in sorted(map(str, data)) if key not in _KEYS]
        self.faults += [f"{key}: is missing" for key in sorted(_KEYS - set(map(str, data)))]

    def text(self, key: str, limit: int = 200) -> str:
        value = self._data.get(key)
        if isinstance(value, str) and 0 < len(value) <= limit:
            return value
        return self._fault(key, f"is not a text of 1 to {limit} characters", "")

    def word(self, key: str) -> str:
        value = self._data.get(key)
        return value if isinstance(value, str) else self._fault(key, "is not a text", "")

    def flag(self, key: str) -> bool:
        value = self._data.get(key)
        return value if isinstance(value, bool) else self._fault(key, "is neither true nor false", False)

    def choice(self, key: str, kind: type[Choice]) -> Choice:
        try:
            return kind(str(self._data.get(key)))
        except ValueError:
            return self._fault(key, f"is none of {', '.join(kind)}", next(iter(kind)))

    def choices(self, key: str, kind: type[Choice]) -> tuple[Choice, ...]:
        return self._choices(key, self._data.get(key), kind) or self._fault(key, "is empty", ())

    def _choices(self, key: str, values: object, kind: type[Choice]) -> tuple[Choice, ...]:
        known = {item.value for item in kind}
        if not isinstance(values, list) or not all(value in known for value in values):
            return self._fault(key, f"is not a list of {', '.join(kind)}", ())
        return tuple(kind(value) for value in values)

    def languages(self) -> tuple[str, ...]:
        values = self._data.get("languages")
        if not isinstance(values, list) or not values or not set(values) <= set(LANGUAGES):
            return self._fault("languages", "is not a list of ko, en", ())
        return tuple(values)

    def endpoint(self, path: Path) -> str:
        value = self._data.get("endpoint")
        if value == "" and path is Path.SMTP:
            return ""
        text = self.text("endpoint", 500)
        fits = _MAIL.fullmatch(text) if path is Path.SMTP else urlsplit(text).scheme == "https"
        return text if fits else self._fault("endpoint", f"does not fit the path {path}", "")

    def facts(self, key: str) -> tuple[Fact, ...]:
        values = self._data.get(key)
        if not isinstance(values, list) or not values:
            return self._fault(key, "is not a list of facts", ())
        return tuple(self._fact(f"{key}[{number}]", value) for number, value in enumerate(values))

    def _fact(self, where: str, value: object) -> Fact:
        if not isinstance(value, Mapping) or set(value) != {"text", "status", "source"}:
            return self._fault(where, "has not exactly text, status, source", Fact("", "", ""))
        fact = Fact(str(value["text"]), str(value["status"]), str(value["source"]))
        if fact.status not in STATUSES or not fact.text or not fact.source:
            self._fault(where, "is neither known nor assumed, or is empty", fact)
        return fact

    def sources(self) -> Mapping[str, Fact]:
        value = self._data.get("sources")
        if not isinstance(value, Mapping) or set(value) != set(SOURCED):
            return self._fault("sources", f"has not exactly {', '.join(SOURCED)}", {})
        return {str(name): self._source(str(name), item) for name, item in value.items()}

    def _source(self, name: str, item: object) -> Fact:
        if not isinstance(item, Mapping) or set(item) != {"status", "source"}:
            return self._fault(f"sources.{name}", "has not exactly status, source", Fact("", "", ""))
        return self._fact(f"sources.{name}", {"text": name, **item})

    def demand(self) -> Mapping[str, str]:
        value = self._data.get("demand")
        if not isinstance(value, Mapping) or set(value) != set(LANGUAGES):
            return self._fault("demand", "has not exactly ko and en", {})
        return {language: str(value[language]) for language in LANGUAGES}

    def form(self, path: Path) -> Form | None:
        value = self._data.get("form")
        if value is None:
            return None if path is not Path.HTTP_FORM else self._fault("form", "is needed for HTTP_FORM", None)
        if not isinstance(value, Mapping) or set(value) != {"csrf_field", "fields"}:
            return self._fault("form", "has not exactly csrf_field and fields", None)
        return Form(str(value["csrf_field"]), self._fields("form.fields", value["fields"]))

    def _fields(self, where: str, fields: object) -> tuple[FormField, ...]:
        if not isinstance(fields, Mapping) or not fields:
            return self._fault(where, "is not a mapping of names to templates", ())
        return tuple(FormField(str(name), str(template)) for name, template in fields.items())

    def api(self, path: Path) -> Api | None:
        value = self._data.get("api")
        if value is None:
            return None if path is not Path.API else self._fault("api", "is needed for API", None)
        if not isinstance(value, Mapping) or set(value) != {"fields", "reference", "status_path", "state", "words"}:
            return self._fault("api", "has not exactly fields, reference, status_path, state, words", None)
        words = value["words"]
        if not isinstance(words, Mapping) or not set(words.values()) <= set(_ANSWERS):
            return self._fault("api.words", f"does not lead to {', '.join(_ANSWERS)}", None)
        status_path = str(value["status_path"])
        if status_path and not (status_path.startswith("/") and "{reference}" in status_path):
            self._fault("api.status_path", "is not a path with {reference}", None)
        return Api(
            self._fields("api.fields", value["fields"]),
            str(value["reference"]),
            status_path,
            str(value["state"]),
            {str(word).upper(): str(answer) for word, answer in words.items()},
        )

    def pattern(self, key: str) -> re.Pattern[str]:
        try:
            pattern = re.compile(self.text(key))
        except re.error:
            return self._fault(key, "is not a regular expression", re.compile(""))
        if "reference" not in pattern.groupindex:
            self._fault(key, "has no group named reference", pattern)
        return pattern

    def domains(self) -> tuple[str, ...]:
        values = self._data.get("reply_domains")
        if not isinstance(values, list) or not all(_DOMAIN.fullmatch(str(value)) for value in values):
            return self._fault("reply_domains", "is not a list of domains", ())
        return tuple(str(value) for value in values)

    def names(self, key: str) -> tuple[str, ...]:
        values = self._data.get(key)
        if not isinstance(values, list) or not all(_NAME.fullmatch(str(value)) for value in values):
            return self._fault(key, "is not a list of template names", ())
        return tuple(str(value) for value in values)

    def numbers(self, key: str, bounds: Mapping[str, int]) -> tuple[int, ...]:
        value = self._data.get(key)
        if not isinstance(value, Mapping) or set(value) != set(bounds):
            return self._fault(key, f"has not exactly {', '.join(bounds)}", (1,) * len(bounds))
        return tuple(self._number(f"{key}.{name}", value[name], most) for name, most in bounds.items())

    def _number(self, where: str, value: object, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        return self._fault(where, f"is not between 1 and {most}", 1)

    def hours(self, key: str, *names: str) -> tuple[timedelta, ...]:
        numbers = self.numbers(key, dict.fromkeys(names, _LONGEST_HOURS))
        return tuple(timedelta(hours=number) for number in numbers)

    def rejections(self) -> tuple[Rejection, ...]:
        values = self._data.get("rejections")
        if not isinstance(values, list) or not values:
            return self._fault("rejections", "is not a list of reasons", ())
        return tuple(self._rejection(f"rejections[{number}]", value) for number, value in enumerate(values))

    def _rejection(self, where: str, value: object) -> Rejection:
        if not isinstance(value, Mapping) or set(value) != {"reason", "answered_by", "groundless"}:
            return self._fault(where, "has not exactly reason, answered_by, groundless", Rejection("", (), False))
        reason = str(value["reason"])
        if not _REASON.fullmatch(reason):
            self._fault(f"{where}.reason", "is not UPPER_SNAKE", "")
        answered_by = self._choices(f"{where}.answered_by", value["answered_by"], Field)
        if not isinstance(value["groundless"], bool):
            self._fault(f"{where}.groundless", "is neither true nor false", False)
        return Rejection(reason, answered_by, bool(value["groundless"]))

    def resubmission(self) -> Resubmission:
        most, pause = self.numbers("resubmission", {"most_attempts": MOST_ATTEMPTS, "pause_hours": _LONGEST_HOURS})
        return Resubmission(most, timedelta(hours=pause))

    def steps(self) -> Mapping[str, tuple[str, ...]]:
        value = self._data.get("steps")
        if not isinstance(value, Mapping) or set(value) != set(LANGUAGES):
            return self._fault("steps", "has not exactly ko and en", {})
        steps = {language: tuple(map(str, value[language] or ())) for language in LANGUAGES}
        if not steps["ko"] or len(steps["ko"]) != len(steps["en"]):
            self._fault("steps", "has not the same steps in both languages", None)
        return steps

    def links(self) -> tuple[Link, ...]:
        values = self._data.get("links")
        if not isinstance(values, list):
            return self._fault("links", "is not a list", ())
        return tuple(self._link(f"links[{number}]", value) for number, value in enumerate(values))

    def _link(self, where: str, value: object) -> Link:
        if not isinstance(value, Mapping) or set(value) != {"ko", "en", "url"}:
            return self._fault(where, "has not exactly ko, en, url", Link({}, ""))
        if urlsplit(str(value["url"])).scheme not in ("https", "tel"):
            self._fault(f"{where}.url", "is neither https nor tel", None)
        return Link({language: str(value[language]) for language in LANGUAGES}, str(value["url"]))

    def judge(self, policy: Policy) -> None:
        """What must hold between the parts."""
        if not _NAME.fullmatch(policy.platform):
            self.faults.append("platform: is not a lower-case name")
        if (policy.path is Path.PERSON) != (Filer.AGENT_WITH_MANDATE not in policy.filers):
            self.faults.append("filers: an agent may file exactly where the path is not PERSON")
        if policy.path is not Path.PERSON and Field.MANDATE not in policy.required:
            self.faults.append("required: an agent has to show the mandate (PIPA 38)")
        if Field.SOURCE_URL not in policy.required:
            self.faults.append("required: a notice names the place (Network Act 44-12)")
        if (policy.group in GROUPS) != (policy.kind is Kind.PLATFORM):
            self.faults.append("group: a platform belongs to a channel group, a public body to none")
        if not policy.expected.acknowledge <= policy.expected.decide <= policy.expected.give_up:
            self.faults.append("expected: acknowledging, deciding and giving up do not follow each other")
        reasons = [item.reason for item in policy.rejections]
        if len(reasons) != len(set(reasons)):
            self.faults.append("rejections: a reason stands there twice")
        if policy.kind is Kind.PLATFORM and not policy.fallback:
            self.faults.append("fallback: where the platform does not help, somebody else must")

    def _fault(self, key: str, reason: str, stand_in: Value) -> Value:
        if f"{key}: is missing" not in self.faults:
            self.faults.append(f"{key}: {reason}")
        return stand_in
