"""What does whoever makes the load have to know? One JSON file, the same for one process, for workers, for a Job.

Standard library only: the load is made in an environment of its own (`.load`), where nothing of the services is
installed. The file holds tokens: it is private (0600) and never kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

PLAN = "JIKIMI_LOAD_PLAN"
"""Environment variable: the plan's file."""
RESULTS = "JIKIMI_LOAD_RESULTS"
"""Environment variable: the folder in which each process writes what it saw."""
SERVICES = ("detector", "case", "notify")
"""Those that are called."""


@dataclass(frozen=True)
class Tls:
    """Files of the certificates; an empty name where there is none."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class Person:
    """Somebody enrolled whose address posts name."""

    subscriber_id: str
    mail: str = field(repr=False)
    account_id: str = ""
    """Linked account for upload checks; empty for most."""


@dataclass(frozen=True)
class Plan:
    """A load: where to, as whom, what, how much."""

    run: str
    """Part of every signal id, so that two runs never meet."""
    targets: Mapping[str, str]
    """Service → host:port."""
    tokens: Mapping[str, str] = field(repr=False)
    """Service → bearer token, and "enrolment" → token of the app back end at `case`."""
    people: tuple[Person, ...]
    texts: Mapping[str, tuple[str, ...]]
    """ "neutral", "others" ({n}) and "about" ({mail}) → posts."""
    pictures: Mapping[str, tuple[str, ...]]
    """ "others" and "known" → files."""
    mix: str
    shape: str
    rate: float
    """Arrivals a second, the mean of the shape."""
    seconds: float
    seed: int
    tls: Tls | None = None

    def save(self, file: Path) -> None:
        """Writes it, readable by its owner alone."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(asdict(self), out, ensure_ascii=False)


def read_plan(environ: Mapping[str, str] = os.environ) -> Plan:
    """The plan that JIKIMI_LOAD_PLAN names, with what further variables set differently (docs/load.md): addresses,
    certificates, the collector's token, shape, rate, seconds, mix. Raises KeyError without a plan, ValueError for one
    that cannot be read."""
    raw = json.loads(Path(environ[PLAN]).read_text(encoding="utf-8"))
    tls = Tls(**raw.pop("tls")) if raw.get("tls") else None
    people = tuple(Person(**each) for each in raw.pop("people"))
    texts = {name: tuple(values) for name, values in raw.pop("texts").items()}
    pictures = {name: tuple(values) for name, values in raw.pop("pictures").items()}
    raw.pop("tls", None)
    return _instead(Plan(people=people, texts=texts, pictures=pictures, tls=tls, **raw), environ)


def _instead(plan: Plan, environ: Mapping[str, str]) -> Plan:
    def said(name: str) -> str:
        return environ.get(f"JIKIMI_LOAD_{name}", "")

    targets = {service: said(service.upper()) or plan.targets[service] for service in SERVICES}
    tokens = dict(plan.tokens)
    for name in tokens:
        if file := said(f"TOKEN_{name.upper()}_FILE"):
            tokens[name] = Path(file).read_text(encoding="utf-8").strip()
    tls = Tls(said("CA"), said("CERT"), said("KEY")) if said("CA") else plan.tls
    return replace(
        plan,
        targets=targets,
        tokens=tokens,
        tls=tls,
        mix=said("MIX") or plan.mix,
        shape=said("SHAPE") or plan.shape,
        rate=float(said("RATE") or plan.rate),
        seconds=float(said("SECONDS") or plan.seconds),
        run=said("RUN") or plan.run,
    )
