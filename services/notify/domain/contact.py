"""What may be a contact, and how is it shown?"""

from __future__ import annotations

import re

from services.notify.domain.delivery import Path

LONGEST = 254
"""Characters of a mail address (RFC 5321 §4.5.3.1.3)."""
_NUMBER = re.compile(r"\+[1-9]\d{7,14}")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")


def normalised(path: Path, value: str) -> str | None:
    """The contact in its one spelling (a number in E.164); None where it is none, or `path` takes no contact."""
    if path is Path.SMS:
        number = re.sub(r"[\s().-]", "", value[:64])
        return number if _NUMBER.fullmatch(number) else None
    address = value.strip()
    fine = path is Path.EMAIL and len(address) <= LONGEST and _ADDRESS.fullmatch(address)
    return address if fine else None


def masked(path: Path, value: str) -> str:
    """Enough to know one's own contact by, too little to learn another's."""
    if not value:
        return ""
    if path is Path.SMS:
        return f"{value[:3]}{'*' * (len(value) - 5)}{value[-2:]}"
    name, _, host = value.partition("@")
    return f"{name[:1]}***@{host[:1]}***.{host.rpartition('.')[2]}"
