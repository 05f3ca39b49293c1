"""Where sampling plans and the documents for labellers come from: beside the code, or the operator's folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from services.chassis import yaml_text
from services.gate.adapters.rules import SHIPPED
from services.gate.domain.samples import Design, Papers, Plan, Plans, Term

_VERSION = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
MOST_STRATA = 40
"""Groups beyond it make an event larger than brokers take."""
MOST_ITEMS = 12_000


def load_plans(folder: Path | None = None) -> Plans:
    """All plans with the versions and hashes of the documents. Raises ValueError for a file that cannot be followed."""
    rules = _folder(folder)
    data = yaml_text.parse((rules / "sampling.yaml").read_text(encoding="utf-8"))
    plans = {report: _plan(report, plan) for report, plan in data["plans"].items()}
    most_strata = int(data["most_strata"])
    for plan, _ in plans.values():
        strata = most_strata if plan.design is Design.STRATIFIED else 1
        if (plan.size + plan.spare) * strata > MOST_ITEMS or not 1 <= most_strata <= MOST_STRATA:
            raise ValueError("sampling.yaml: more strata or items than a sample may have")
    policy_version, policy_sha256 = _paper(rules / data["policy"])
    quality_version, quality_sha256 = _paper(rules / data["quality"])
    papers = Papers(policy_version, policy_sha256, quality_version, quality_sha256)
    return Plans(_version(str(data["version"])), papers, plans, most_strata)


def _folder(folder: Path | None) -> Path:
    """The operator's folder where it holds plans: they come with their documents or not at all."""
    own = folder / "gate" if folder else None
    return own if own and (own / "sampling.yaml").exists() else SHIPPED


def _plan(report: str, data: dict[str, Any]) -> tuple[Plan, Term]:
    plan = Plan(
        report=report,
        design=Design(data["design"]),
        kinds=frozenset(data["kinds"]),
        size=int(data["size"]),
        spare=int(data["spare"]),
    )
    term = Term(int(data["window_days"]), int(data["valid_days"]))
    if plan.size < 1 or plan.spare < 0 or term.window_days < 1 or term.valid_days < 1:
        raise ValueError(f"sampling.yaml: the plan of {report} is out of bounds")
    return plan, term


def _paper(file: Path) -> tuple[str, bytes]:
    """(version, SHA-256) of a document; the version is its first line."""
    text = file.read_text(encoding="utf-8")
    return _version(text.partition("\n")[0].strip()), hashlib.sha256(text.encode()).digest()


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError("sampling.yaml: a version is missing or malformed")
    return text
