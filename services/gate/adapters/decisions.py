"""How is a decision signed, so that whoever ships can check it without asking the gate?"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import rfc8785

from services.chassis.signing import KeyFile
from services.gate.domain.report import Occasion, Report
from services.gate.ports import Decision

DECISION_KEY_ID = "gate-decisions"
DECISION_FORMAT = "jikimi-decision/1"


class SignedDecisions:
    """Makes documents that say what was decided, and over what."""

    def __init__(self, key: KeyFile) -> None:
        self._key = key

    def __call__(self, decision: Decision, occasion: Occasion) -> bytes:
        """Canonical JSON with an Ed25519 signature over the canonical statement in it."""
        said: dict[str, Any] = {
            "format": DECISION_FORMAT,
            "key_id": self._key.key_id,
            "time": decision.create_time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "decision_id": decision.decision_id,
            "release": decision.release,
            "stage": decision.stage,
            "outcome": decision.outcome.value,
            "reasons": list(decision.reasons),
            "cut_off": dict(occasion.cut_off),
            "versions": {"gates": occasion.gates_version, "code": occasion.code_version},
            "reports": [_entry(report) for report in (*decision.reports, *decision.stage_reports)],
        }
        signature = self._key.sign(rfc8785.dumps(said)).hex()
        return rfc8785.dumps({"statement": said, "signature": signature})


def _entry(report: Report) -> dict[str, Any]:
    document: Any = report.document
    return {
        "report_id": report.report_id,
        "name": report.name,
        "outcome": report.outcome.value,
        "sha256": sha256(rfc8785.dumps(document)).hexdigest(),
    }
