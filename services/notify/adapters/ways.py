"""Where do wake-ups and messages really go?

Without its variable a way is not used. In the test profile all of them end on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from urllib.parse import urlsplit

from services.chassis.clock import Clock
from services.chassis.config import Config, ConfigError, setting
from services.notify.adapters.hooks import Hook, NoPush, PushHook, SmsGateway
from services.notify.adapters.mail import Mail, Relay
from services.notify.domain.delivery import Path
from services.notify.ports import Messenger, Pusher

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Ways:
    """What this process was told about ways out."""

    push_hook: str = ""
    """URL of the push gateway; empty: devices are not woken."""
    sms_gateway: str = ""
    """URL of the SMS gateway."""
    relay: str = ""
    """host:port of the mail relay."""
    secret: bytes = field(default=b"", repr=False)
    """Signs calls to both gateways."""
    mail_from: str = "notice@jikimi.invalid"
    discreet_mail_from: str = "notice@message.invalid"
    sms_from: str = "JIKIMI"
    discreet_sms_from: str = "NOTICE"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], config: Config) -> Ways:
        """Raises ConfigError."""
        test = config.profile == "test"
        url = _url(("http", "https") if test else ("https",), test)
        file = setting(environ, "JIKIMI_NOTIFY_HOOK_SECRET_FILE", None, File)
        return cls(
            push_hook=setting(environ, "JIKIMI_NOTIFY_PUSH_HOOK", "", url),
            sms_gateway=setting(environ, "JIKIMI_NOTIFY_SMS_GATEWAY", "", url),
            relay=setting(environ, "JIKIMI_NOTIFY_SMTP_RELAY", "", _host_port(test)),
            secret=_read(file),
            mail_from=setting(environ, "JIKIMI_NOTIFY_MAIL_FROM", cls.mail_from, _mail_address),
            discreet_mail_from=setting(
                environ, "JIKIMI_NOTIFY_MAIL_FROM_DISCREET", cls.discreet_mail_from, _mail_address
            ),
            sms_from=setting(environ, "JIKIMI_NOTIFY_SMS_FROM", cls.sms_from, _sender_id),
            discreet_sms_from=setting(environ, "JIKIMI_NOTIFY_SMS_FROM_DISCREET", cls.discreet_sms_from, _sender_id),
        )

    def open(self, clock: Clock) -> Outside:
        """What was configured; connects when it is first used."""
        push = Hook(self.push_hook, self.secret) if self.push_hook else None
        sms = Hook(self.sms_gateway, self.secret) if self.sms_gateway else None
        messengers: dict[Path, Messenger] = {}
        if sms:
            messengers[Path.SMS] = SmsGateway(sms, self.sms_from, self.discreet_sms_from)
        if self.relay:
            host, _, port = self.relay.rpartition(":")
            messengers[Path.EMAIL] = Mail(Relay(host, int(port), self.mail_from, self.discreet_mail_from), clock)
        return Outside(PushHook(push) if push else NoPush(), messengers, [hook for hook in (push, sms) if hook])


@dataclass(frozen=True)
class Outside:
    """The ways that are there."""

    pusher: Pusher
    messengers: Mapping[Path, Messenger]
    hooks: Sequence[Hook] = ()

    async def close(self) -> None:
        """Closes all connections."""
        for hook in self.hooks:
            await hook.close()


def _read(file: File | None) -> bytes:
    if file is None:
        return b""
    try:
        secret = file.read_bytes().strip()
    except OSError:
        secret = b""
    if not 24 <= len(secret) <= 1024:
        raise ConfigError("JIKIMI_NOTIFY_HOOK_SECRET_FILE", "does not name a file of 24 to 1,024 bytes")
    return secret


def _url(schemes: tuple[str, ...], loopback: bool) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or (loopback and parts.hostname not in _LOOPBACK):
            raise ValueError
        return text

    return parse


def _host_port(loopback: bool) -> Callable[[str], str]:
    def parse(text: str) -> str:
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or (loopback and host.strip("[]") not in _LOOPBACK):
            raise ValueError
        return text

    return parse


def _mail_address(text: str) -> str:
    if text.count("@") != 1 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return text


def _sender_id(text: str) -> str:
    if not (text.isascii() and text.isalnum() and len(text) <= 16):
        raise ValueError
    return text
