"""Where notify's texts and delivery rules come from: YAML beside the code, or the operator's folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from services.notify.domain import LANGUAGES, DeliveryRules, Facts, Subject, Texts

SHIPPED = Path(__file__).parents[1] / "rules"


def load_delivery_rules(folder: Path | None, profile: str) -> DeliveryRules:
    """The rules of a profile. Raises ValueError when the file says something that cannot be."""
    data = _read(folder, "delivery.yaml")
    rules = data[profile]
    loaded = DeliveryRules(
        version=str(data["version"]),
        resend_after=_ms(rules["resend_after_ms"]),
        resend_after_at_most=_ms(rules["resend_after_at_most_ms"]),
        max_attempts=int(rules["max_attempts"]),
        give_up_after=_ms(rules["give_up_after_ms"]),
        max_in_flight=int(rules["max_in_flight"]),
        poll=_ms(rules["poll_ms"]),
    )
    if not (loaded.max_attempts >= 1 and 1 <= loaded.max_in_flight <= 10_000):
        raise ValueError("delivery.yaml: max_attempts or max_in_flight is out of bounds")
    return loaded


def load_texts(folder: Path | None) -> Texts:
    """The texts, complete in every language. Raises ValueError naming the first text that is missing."""
    data = _read(folder, "texts.yaml")
    texts = Texts(
        str(data["version"]), data["lock_screen"], data["discreet"], data["inbox"], data["names"]
    )
    for language in LANGUAGES:
        for subject in Subject:
            _prove(texts, language, subject)
    return texts


def _prove(texts: Texts, language: str, subject: Subject) -> None:
    try:
        words = texts.lock_screen[language][subject]
        shown = [words["title"], words["body"], *texts.for_inbox(subject, "", Facts(), language)]
        shown += [texts.discreet[language]["title"], texts.discreet[language]["body"]]
    except KeyError as error:
        raise ValueError(f"texts.yaml: {language}.{subject} lacks a text or a name") from error
    if not all(shown):
        raise ValueError(f"texts.yaml: {language}.{subject} has an empty text")


def _read(folder: Path | None, name: str) -> Any:
    own = folder / "notify" / name if folder else None
    path = own if own and own.exists() else SHIPPED / name
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _ms(value: Any) -> timedelta:
    if not 0 < int(value) <= 90 * 86_400_000:
        raise ValueError("delivery.yaml: a duration is out of bounds")
    return timedelta(milliseconds=int(value))
