"""Which values may a process show of itself: in a log line, as an attribute of a span, as a label of a metric?

What looks like an id, a code or a number that is no personal one. Everything else is replaced by a note of what it was.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum

from services.chassis.errors import ServiceError

Scalar = bool | int | float | str | None

_PLAIN = re.compile(r"[A-Za-z0-9_.:/\[\]+-]{0,160}")
_OPAQUE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|[0-9a-f]{32,128}"  # a hash or a trace id
    r"|\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"  # a time
)
_PERSONAL = re.compile(
    r"(?<!\d)\d{6}[-.]?\d{7}(?!\d)"  # a resident number
    r"|(?<!\d)(\+?82[-.]?)?0?1[016789][-.]?\d{3,4}[-.]?\d{4}(?!\d)"  # a mobile number
    r"|(?<!\d)0\d{1,2}[-.]\d{3,4}[-.]\d{4}(?!\d)"  # a landline
    r"|(?<!\d)(\d{4}[-.]?){3}\d{1,7}(?!\d)"  # a card
    r"|://"
)


def clean_value(value: object) -> Scalar:
    """The value if it is safe to show, else a note of what it was: `<str 14>`, `<dict>`."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value if _is_safe(value) else f"<str {len(value)}>"
    return f"<{type(value).__name__}>"


def _is_safe(text: str) -> bool:
    return bool(_OPAQUE.fullmatch(text)) or bool(_PLAIN.fullmatch(text) and not _PERSONAL.search(text))


def is_code(text: str) -> bool:
    """Whether the text is a name or a code: what may be a metric's label. Ids are not, for there is no end of them."""
    return bool(_PLAIN.fullmatch(text)) and not _OPAQUE.fullmatch(text) and not _PERSONAL.search(text)


def error_name(error: BaseException) -> str:
    """The class of an exception, with the reason of a known error; never its words."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{name}({error.reason})" if isinstance(error, ServiceError) else name
