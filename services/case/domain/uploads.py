"""What is a warning before an upload to a case, and how may it end?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.case.domain.words import Resolution

RESOLUTIONS: Mapping[str, Resolution] = {
    "BLUR": Resolution.REDACTED,
    "CANCEL": Resolution.UPLOAD_CANCELLED,
    "PROCEED": Resolution.UPLOADED,
    "NO_ANSWER": Resolution.NOT_ANSWERED,
}
"""What the subscriber chose → how the case ends."""


@dataclass(frozen=True, slots=True)
class UploadWarning:
    """What the detector says of a warning."""

    upload_check_id: str
    case_id: str
    """The id that the case takes."""
    subscriber_id: str
    warn_time: datetime
    traceparent: str = ""
