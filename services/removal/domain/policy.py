"""What a platform wants to see before it takes content down, and who may ask.

A policy is data (policies/<platform>.yaml). `parse` accepts exactly what is described here and names every
fault; nothing is filled in silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


PERSONAL = frozenset({Field.CLAIMANT_NAME, Field.CLAIMANT_EMAIL})
"""Fetched from the subscriber's profile only for a platform whose form demands them."""
LANGUAGES = ("ko", "en")
STATUSES = ("known", "assumed")
"""A known fact was read in a primary text; an assumed one must be checked before sending is switched on."""


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
class Policy:
    """One platform's template, of one version."""

    platform: str
    version: str
    """Version stated in the file, and the start of the file's SHA-256: a silent edit shows."""
    display_name: str
    path: Path
    endpoint: str
    """Official address: a URL, a mail address (`{host}` stands for the host of the content), or empty."""
    filers: frozenset[Filer]
    required: tuple[Field, ...]
    languages: tuple[str, ...]
    legal_basis: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    demand: Mapping[str, str]
    """Language → the sentences that say what is asked, by which right."""
    form: Form | None
    acknowledgement: re.Pattern[str]
    """Finds the platform's `reference` in its answer."""
    expected_hours: int

    @property
    def discloses(self) -> frozenset[Field]:
        """The subscriber's data that the platform gets to see."""
        return PERSONAL & set(self.required)


class PolicyError(Exception):
    """A template that must not be used. `faults` say where and why."""

    def __init__(self, platform: str, faults: Sequence[str]) -> None:
        super().__init__(f"{platform}: " + "; ".join(faults))
        self.platform = platform
        self.faults = tuple(faults)


_KEYS = {
    "platform", "version", "display_name", "path", "endpoint", "filers", "required", "languages", "legal_basis",
    "facts", "demand", "form", "acknowledgement", "expected_hours",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@(\{host\}|[A-Za-z0-9.-]+)")


def parse(data: object, digest: str) -> Policy:
    """The policy that `data` (a mapping read from YAML) states; `digest` is the hex SHA-256 of its file.

    Raises PolicyError with every fault that was found.
    """
    if not isinstance(data, Mapping):
        raise PolicyError("?", ["the file is not a mapping"])
    reader = _Reader(data)
    path = reader.choice("path", Path)
    policy = Policy(
        platform=reader.text("platform"),
        version=f"{reader.text('version')}-{digest[:8]}",
        display_name=reader.text("display_name"),
        path=path,
        endpoint=reader.endpoint(path),
        filers=frozenset(reader.choices("filers", Filer)),
        required=reader.choices("required", Field),
        languages=reader.languages(),
        legal_basis=reader.facts("legal_basis"),
        facts=reader.facts("facts"),
        demand=reader.demand(),
        form=reader.form(path),
        acknowledgement=reader.pattern("acknowledgement"),
        expected_hours=reader.hours(),
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

    def choice(self, key: str, kind: type[Choice]) -> Choice:
        try:
            return kind(str(self._data.get(key)))
        except ValueError:
            return self._fault(key, f"is none of {', '.join(kind)}", next(iter(kind)))

    def choices(self, key: str, kind: type[Choice]) -> tuple[Choice, ...]:
        values = self._data.get(key)
        known = {item.value for item in kind}
        if not isinstance(values, list) or not values or not all(value in known for value in values):
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
        fields = value["fields"]
        if not isinstance(fields, Mapping) or not fields:
            return self._fault("form.fields", "is not a mapping of names to templates", None)
        pairs = tuple(FormField(str(name), str(template)) for name, template in fields.items())
        return Form(str(value["csrf_field"]), pairs)

    def pattern(self, key: str) -> re.Pattern[str]:
        try:
            pattern = re.compile(self.text(key))
        except re.error:
            return self._fault(key, "is not a regular expression", re.compile(""))
        if "reference" not in pattern.groupindex:
            self._fault(key, "has no group named reference", pattern)
        return pattern

    def hours(self) -> int:
        value = self._data.get("expected_hours")
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2160:
            return value
        return self._fault("expected_hours", "is not between 1 and 2160", 1)

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

    def _fault(self, key: str, reason: str, stand_in: Value) -> Value:
        if f"{key}: is missing" not in self.faults:
            self.faults.append(f"{key}: {reason}")
        return stand_in
