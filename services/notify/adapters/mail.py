"""How is a message mailed to a contact?"""

from __future__ import annotations

import asyncio
import smtplib
from contextlib import closing, suppress
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from services.chassis.clock import Clock
from services.notify.ports import Message, MessageAnswer

SECONDS: Final = 10.0
"""How long each answer of the server is waited for."""


@dataclass(frozen=True)
class Relay:
    """The server that takes mail to the outside, and whom it comes from."""

    host: str
    port: int
    sender: str
    discreet_sender: str
    """Another address: the name of the service must not stand in a list of mails."""


class Mail:
    """Sends mails by SMTP. See ports.Messenger."""

    def __init__(self, relay: Relay, clock: Clock) -> None:
        self._relay = relay
        self._clock = clock

    async def send(self, message: Message) -> MessageAnswer:
        """See Messenger. A crash before the answer is noted sends it again under the same Message-ID."""
        return await asyncio.to_thread(self._hand_over, message)

    def _mail(self, message: Message) -> EmailMessage:
        sender = self._relay.discreet_sender if message.discreet else self._relay.sender
        mail = EmailMessage()
        mail["From"] = Address(message.sender, addr_spec=sender)
        mail["To"] = Address(addr_spec=message.to)
        mail["Subject"] = message.words.title
        mail["Date"] = format_datetime(self._clock.now())
        mail["Message-ID"] = f"<{message.key}@{sender.rpartition('@')[2]}>"
        mail["Content-Language"] = message.language
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies
        mail.set_content(message.words.body, charset="utf-8", cte="base64")
        return mail

    def _hand_over(self, message: Message) -> MessageAnswer:
        mail = self._mail(message)
        try:
            with closing(smtplib.SMTP(self._relay.host, self._relay.port, timeout=SECONDS)) as server:
                server.ehlo_or_helo_if_needed()
                if server.has_extn("starttls"):
                    server.starttls()
                    server.ehlo()
                # Asked for where the relay can (RFC 3461): word of what became of it, under our key, without the text.
                reports = server.has_extn("dsn")
                server.send_message(
                    mail,
                    mail_options=["RET=HDRS", f"ENVID={message.key}"] if reports else [],
                    rcpt_options=["NOTIFY=SUCCESS,FAILURE"] if reports else [],
                )
                # The mail is taken: what the relay says to QUIT changes nothing, and as a failure would send it again.
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            return _refusal(int(code))
        except smtplib.SMTPResponseException as error:
            return _refusal(error.smtp_code)
        except (OSError, smtplib.SMTPException):
            return MessageAnswer("CONNECTION_FAILED", again=True)
        return MessageAnswer()


def _refusal(code: int) -> MessageAnswer:
    """The server's words may quote the address and are not kept."""
    return MessageAnswer(f"SMTP_{code}", again=not 500 <= code < 600)
