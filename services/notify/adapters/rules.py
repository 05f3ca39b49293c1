"""Where notify's delivery rules come from: YAML beside the code, or the operator's folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from services.chassis import yaml_text
from services.notify.domain.delivery import DeliveryRules
from services.notify.domain.gathering import GatheringRules

SHIPPED = Path(__file__).parents[1] / "rules"


def load_delivery_rules(folder: Path | None, profile: str) -> DeliveryRules:
    """The rules of a profile. Raises ValueError when the file says something that cannot be."""
    data = read(folder, "delivery.yaml")
    rules = data[profile]
    loaded = DeliveryRules(
        version=str(data["version"]),
        resend_after=_ms(rules["resend_after_ms"]),
        resend_after_at_most=_ms(rules["resend_after_at_most_ms"]),
        jitter=float(rules["jitter"]),
        max_attempts=int(rules["max_attempts"]),
        give_up_after=_ms(rules["give_up_after_ms"]),
        push_after=_ms(rules["push_after_ms"]),
        push_lease=_ms(rules["push_lease_ms"]),
        push_again_after=_ms(rules["push_again_after_ms"]),
        order_wait=_ms(rules["order_wait_ms"]),
        fall_back_after=_ms(rules["fall_back_after_ms"]),
        fall_backs_a_day=int(rules["fall_backs_a_day"]),
        message_tries=int(rules["message_tries"]),
        contact_delay=_ms(rules["contact_delay_ms"]),
        max_in_flight=int(rules["max_in_flight"]),
        poll=_ms(rules["poll_ms"]),
        gathering=GatheringRules(int(rules["at_once"]), _ms(rules["window_ms"]), _ms(rules["gather_for_ms"])),
    )
    _check(loaded)
    return loaded


def _check(rules: DeliveryRules) -> None:
    bounds = {
        "jitter": 0 <= rules.jitter <= 1,
        "max_attempts": 1 <= rules.max_attempts <= 100,
        "max_in_flight": 1 <= rules.max_in_flight <= 10_000,
        "fall_backs_a_day": 0 <= rules.fall_backs_a_day <= 1_000,
        "message_tries": 1 <= rules.message_tries <= 100,
        "at_once": 0 <= rules.gathering.at_once <= 10_000,
    }
    for name, fine in bounds.items():
        if not fine:
            raise ValueError(f"delivery.yaml: {name} is out of bounds")


def read(folder: Path | None, name: str) -> Any:
    """A file of rules: the operator's where there is one, else the shipped."""
    return yaml_text.read(SHIPPED / name, folder, "notify")


def _ms(value: Any) -> timedelta:
    if not 0 < int(value) <= 90 * 86_400_000:
        raise ValueError("delivery.yaml: a duration is out of bounds")
    return timedelta(milliseconds=int(value))
