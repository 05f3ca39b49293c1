"""How do replies by mail come in?

Our mail relay delivers into a maildir. What a person has to read of a mail is kept under the subscriber's key; a mail
that is about no request of ours is left for a person. Who really sent a mail is what our own relay found
(`Authentication-Results`, RFC 8601): only the topmost header of that name is believed, and only where it bears our
relay's own name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeAlias

from services.chassis import maildir
from services.removal.domain.replies import LONGEST_TEXT, Outcome, Reply, attempt_ids

_SIGNED = re.compile(r"\bdkim\s*=\s*pass\b[^;]*?\bheader\.(?:d|i)\s*=\s*@?([A-Za-z0-9.-]+)", re.IGNORECASE)

Receive: TypeAlias = Callable[[Reply], Awaitable[Outcome]]


class Maildir(maildir.Maildir):
    """Takes in the replies that lie in one maildir."""

    def __init__(self, folder: Path, authserv_id: str, receive: Receive) -> None:
        """`authserv_id` is our relay's name in Authentication-Results; empty believes no mail."""

        async def take(content: bytes) -> bool:
            return await receive(read_mail(content, authserv_id)) not in (Outcome.UNMATCHED, Outcome.TOO_MANY)

        super().__init__(folder, take)


def read_mail(content: bytes, authserv_id: str) -> Reply:
    """The reply that a mail is; a broken mail is one without references."""
    message = message_from_bytes(content, policy=modern)
    if not isinstance(message, EmailMessage):
        return Reply("MAIL", hashlib.sha256(content).hexdigest(), "")
    text = f"{_header(message, 'Subject')}\n{_body(message)}"[:LONGEST_TEXT]
    named = " ".join(_header(message, name) for name in ("In-Reply-To", "References"))
    return Reply(
        channel="MAIL",
        message_id=_header(message, "Message-ID")[:998] or hashlib.sha256(content).hexdigest(),
        text=text,
        quoted=attempt_ids(named),
        domains=_signed_by(message, authserv_id),
    )


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except (ValueError, IndexError, AttributeError):
        # The parser of structured headers gives up on some that are broken.
        return ""


def _signed_by(message: EmailMessage, authserv_id: str) -> tuple[str, ...]:
    """Domains whose DKIM signature our relay found to be good; only its own header, the topmost, is believed."""
    for value in message.get_all("Authentication-Results", []):
        own, _, results = str(value).partition(";")
        if authserv_id and own.strip().split(" ")[0].lower() == authserv_id.lower():
            return tuple(dict.fromkeys(domain.lower() for domain in _SIGNED.findall(results)))
        return ()
    return ()


def _body(message: EmailMessage) -> str:
    try:
        part = message.get_body(("plain", "html"))
        content = part.get_content() if part is not None else ""
    except (LookupError, ValueError, AttributeError):
        return ""
    if not isinstance(content, str):
        return ""
    if part is not None and part.get_content_type() == "text/html":
        return _visible(content)
    return content


def _visible(page: str) -> str:
    reader = _Text()
    reader.feed(page[: 4 * LONGEST_TEXT])
    return " ".join(reader.found)


class _Text(HTMLParser):
    """The text of an HTML mail."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)
