"""How is a notice mailed, and when has it certainly arrived?

Only the platform's own server can say that it took a message (the final hop, RFC 5321 §6.1); a relay's 250 says no
more than that the mail is out. Once the final dot is on the wire and no answer comes, nobody knows.
"""

from __future__ import annotations

import asyncio
import smtplib
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from services.chassis.clock import Clock
from services.removal.domain.policy import Policy
from services.removal.ports import Accepted, Answer, Filing, Later, Refused, Sent, Unknown

SECONDS: Final = 10.0
"""How long each answer of the server is waited for."""


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    final_hop: bool
    """Whether this server belongs to the platform."""
    sender: str
    """Envelope sender and From."""


class Mail:
    """Sends notices by SMTP."""

    repeatable = False

    def __init__(self, server: MailServer, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    async def send(self, policy: Policy, endpoint: str, filing: Filing, attempt_id: str) -> Answer:
        """See ports.Sender; `endpoint` is the address of the recipient."""
        message = self._message(endpoint, filing, attempt_id)
        return await asyncio.to_thread(self._hand_over, policy, endpoint, message)

    def _message(self, recipient: str, filing: Filing, attempt_id: str) -> EmailMessage:
        """The mail; its Message-ID is the same whenever this attempt is made (RFC 5322 §3.6.4)."""
        message = EmailMessage()
        message["From"] = self._server.sender
        message["To"] = recipient
        message["Subject"] = filing.subject
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = f"<{attempt_id}@{self._server.sender.rpartition('@')[2]}>"
        message["Content-Language"] = filing.language
        message.set_content(filing.body, charset="utf-8", cte="base64")
        return message

    def _hand_over(self, policy: Policy, recipient: str, message: EmailMessage) -> Answer:
        try:
            client = smtplib.SMTP(self._server.host, self._server.port, timeout=SECONDS)
        except (OSError, smtplib.SMTPException):
            return Later("CONNECTION_FAILED")
        try:
            return self._converse(policy, client, recipient, message)
        finally:
            client.close()

    def _converse(self, policy: Policy, client: smtplib.SMTP, recipient: str, message: EmailMessage) -> Answer:
        try:
            client.ehlo_or_helo_if_needed()
            if client.has_extn("starttls"):
                client.starttls()
                client.ehlo()
            for code, _ in (client.mail(self._server.sender), client.rcpt(recipient), client.docmd("DATA")):
                if code not in (250, 251, 354):
                    return _refusal(code)
        except (OSError, smtplib.SMTPException):
            # Nothing of the message was on the wire.
            return Later("CONNECTION_FAILED")
        try:
            client.send(_wire(message))
            code, text = client.getreply()
        except (OSError, smtplib.SMTPException):
            return Unknown("NO_REPLY_TO_DATA")
        if code != 250:
            return _refusal(code)
        if not self._server.final_hop:
            return Sent()
        match = policy.acknowledgement.search(text.decode("utf-8", "replace"))
        return Accepted(match["reference"][:128] if match else "")


def _refusal(code: int) -> Answer:
    return Refused(f"SMTP_{code}") if 500 <= code < 600 else Later(f"SMTP_{code}")


def _wire(message: EmailMessage) -> bytes:
    """The message as DATA wants it: CRLF, dots doubled (RFC 5321 §4.5.2), the final dot."""
    lines = message.as_bytes().replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"
