"""Where notices get their words: Jinja2 templates in YAML, checked when they are loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.notify.adapters.rules import read
from services.notify.domain.notices import LANGUAGES, Facts, Subject
from services.notify.domain.wording import counted, josa
from services.notify.ports import Words

MESSAGE = "MESSAGE"
"""Text of a message to a contact that its subject has none of its own for."""
_EXAMPLES = (Facts(), Facts("FACE", "NAVER", "naver", "1"), Facts("PII", "LATER_GROUP", "later", "1000"))
_Pair = Mapping[str, Template]


@dataclass(frozen=True)
class TemplateTexts:
    """The texts of notices in every language. See ports.Texts. Versioned data: `rules/texts.yaml`."""

    version: str
    lock_screen: Mapping[str, Mapping[str, _Pair]]
    discreet: Mapping[str, _Pair]
    messages: Mapping[str, Mapping[str, _Pair]]
    inbox: Mapping[str, Mapping[str, _Pair]]
    """language → subject (or subject.state) → title and body, with kind, channel_group, platform, count."""
    senders: Mapping[str, Mapping[str, str]]
    """language → "plain" and "discreet"."""
    names: Mapping[str, Mapping[str, Mapping[str, str]]]
    """language → sort of name → code → word."""

    def for_lock_screen(self, subject: Subject, language: str, *, discreet: bool) -> Words:
        """See Texts."""
        return _rendered(self.discreet[language] if discreet else self.lock_screen[language][subject], {})

    def for_message(self, subject: Subject, language: str, *, discreet: bool) -> Words:
        """See Texts."""
        by_subject = self.messages[language]
        return _rendered(self.discreet[language] if discreet else by_subject.get(subject, by_subject[MESSAGE]), {})

    def sender(self, language: str, *, discreet: bool) -> str:
        """See Texts."""
        return self.senders[language]["discreet" if discreet else "plain"]

    def for_inbox(self, subject: Subject, state: str, facts: Facts, language: str) -> Words:
        """See Texts."""
        by_subject = self.inbox[language]
        pair = by_subject.get(f"{subject}.{state}", by_subject[subject])
        return _rendered(pair, {name: self._name(language, name, code) for name, code in facts.named().items()})

    def _name(self, language: str, sort: str, code: str) -> str:
        known = self.names[language].get(sort, {})
        return known.get(code or "UNKNOWN", code)


def load_texts(folder: Path | None) -> TemplateTexts:
    """The texts, complete in every language and in the tone of `rules/tone.yaml`. Raises ValueError naming the first
    text that is missing or breaks a rule."""
    data = read(folder, "texts.yaml")
    faults = _faults(data, read(folder, "tone.yaml"))
    for fault in faults:
        raise ValueError(f"texts.yaml: {fault}")
    return _parsed(data)


def lint(folder: Path | None) -> list[str]:
    """All that is wrong with the texts; empty when they are in order."""
    return list(_faults(read(folder, "texts.yaml"), read(folder, "tone.yaml")))


def _parsed(data: Mapping[str, Any]) -> TemplateTexts:
    def pair(words: Mapping[str, str]) -> _Pair:
        return {part: _template(words[part]) for part in ("title", "body")}

    def pairs(by_subject: Mapping[str, Mapping[str, str]]) -> Mapping[str, _Pair]:
        return {subject: pair(words) for subject, words in by_subject.items()}

    def whole(part: str, parse: Callable[[Any], Any]) -> dict[str, Any]:
        return {language: parse(data[part][language]) for language in LANGUAGES}

    return TemplateTexts(
        str(data["version"]),
        whole("lock_screen", pairs),
        whole("discreet", pair),
        whole("messages", pairs),
        whole("inbox", pairs),
        whole("senders", dict),
        whole("names", dict),
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.filters["josa"] = josa
    environment.filters["counted"] = counted
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=1024)  # the same words are read once to be checked and once to be used
def _template(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def _rendered(pair: _Pair, values: Mapping[str, str]) -> Words:
    return Words(pair["title"].render(values), pair["body"].render(values))


# --- what is checked ---


def _faults(data: Mapping[str, Any], tone: Mapping[str, Any]) -> Iterator[str]:
    try:
        texts = _parsed(data)
    except (KeyError, TypeError, AttributeError) as error:
        yield f"{error} is missing or no text"
        return
    except TemplateError as error:
        yield f"line {getattr(error, 'lineno', 0)} of a template: {type(error).__name__}"
        return
    for language in LANGUAGES:
        rules = tone[language]
        for subject in Subject:
            yield from _outside(texts, language, subject, rules, tone["longest"])
            yield from _inside(texts, language, subject, rules)


def _outside(
    texts: TemplateTexts, language: str, subject: Subject, rules: Mapping[str, Any], longest: Mapping[str, int]
) -> Iterator[str]:
    """What strangers may see: neutral, short, and the same whatever it is about."""
    shown = {
        "lock_screen": partial(texts.for_lock_screen, subject, language, discreet=False),
        "discreet": partial(texts.for_lock_screen, subject, language, discreet=True),
        "messages": partial(texts.for_message, subject, language, discreet=False),
    }
    for part, words in shown.items():
        for name, text in _tried(words, f"{part}.{language}.{subject}"):
            if isinstance(text, Exception):
                yield f"{name} {text}"
                continue
            yield from (f"{name} {fault}" for fault in _tone(text, name.endswith("body"), rules))
            if len(text) > longest[name.rpartition(".")[2]]:
                yield f"{name} is too long"
            if re.search(r"\d|https?:|www\.|@", text):
                yield f"{name} holds a number or an address"
            for word in rules["not_outside"]:
                if re.search(word, text, re.IGNORECASE):
                    yield f"{name} says {word}"


def _inside(texts: TemplateTexts, language: str, subject: Subject, rules: Mapping[str, Any]) -> Iterator[str]:
    states = {key.partition(".")[2] for key in texts.inbox[language] if key.partition(".")[0] == subject}
    for state in sorted(states | {""}):
        for facts in _EXAMPLES:
            facts = facts if facts.count else Facts(facts.kind, facts.channel_group, facts.platform, "2")
            words = partial(texts.for_inbox, subject, state, facts, language)
            for name, text in _tried(words, f"inbox.{language}.{subject}"):
                if isinstance(text, Exception):
                    yield f"{name} {text}"
                else:
                    yield from (f"{name} {fault}" for fault in _tone(text, name.endswith("body"), rules))


def _tried(words: Callable[[], Words], name: str) -> Iterator[tuple[str, str | ValueError]]:
    try:
        title, body = words()
    except KeyError as error:
        yield name, ValueError(f"lacks {error}")
    except (TemplateError, ValueError) as error:
        yield name, ValueError(f"cannot be rendered ({type(error).__name__})")
    else:
        yield f"{name}.title", title
        yield f"{name}.body", body


def _tone(text: str, is_body: bool, rules: Mapping[str, Any]) -> Iterator[str]:
    """Calm and polite: how a Korean sentence ends, no shouting, no words that frighten."""
    if not text.strip():
        yield "is empty"
        return
    if "!" in text or "！" in text:
        yield "shouts"
    for word in rules["never"]:
        if re.search(word, text, re.IGNORECASE):
            yield f"says {word}"
    if is_body:
        for sentence in re.split(r"(?<=[.?])\s+", text.strip()):
            if not re.search(rules["sentence_ends"], sentence):
                yield f"has a sentence that does not end as it should: …{sentence[-12:]}"
