"""What came of a wish to fetch?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What the policy says."""

    ALLOW = "ALLOW"
    DEFER = "DEFER"
    """Not now; `retry_after_ms` says when to ask again."""
    REFUSE = "REFUSE"
    """Not at all, for a reason that waiting does not mend."""


@dataclass(frozen=True)
class Decision:
    """The verdict and the rule behind it, as logs and records name them."""

    verdict: Verdict
    rule_id: str
    """Name of the rule that decided: letters, digits and _ only."""
    rules_version: str
    retry_after_ms: int = 0
    """From now; 0 unless DEFER."""

    @property
    def allowed(self) -> bool:
        """Whether it is ALLOW."""
        return self.verdict is Verdict.ALLOW


@dataclass(frozen=True)
class Fetched:
    """What a fetch came to. Where `decision` is not ALLOW there is no body, whatever had been read."""

    decision: Decision
    url: str = field(default="", repr=False)
    """The last address, after redirects."""
    status: int = 0
    """HTTP status of the last answer; 0 where none came."""
    content_type: str = ""
    """Media type without parameters, lower case."""
    body: bytes = field(default=b"", repr=False)
    hops: int = 0
    """Redirects that were followed."""
