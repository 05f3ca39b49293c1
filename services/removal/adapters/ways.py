"""Where does a request really go?

Nothing leaves unless JIKIMI_REMOVAL_SEND=on, and only by a template that two people have approved. In the test profile
it leaves only to the addresses of JIKIMI_REMOVAL_ENDPOINTS, a JSON file: platform → {"http": url} (form or API) or
{"smtp": "host:port", "to": address}; there no approval is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from services.chassis.clock import Clock
from services.chassis.config import Config, ConfigError, setting
from services.removal.adapters.http_form import HttpForm
from services.removal.adapters.json_api import JsonApi
from services.removal.adapters.mail import Mail, MailServer
from services.removal.domain.policy import Path as FilingPath
from services.removal.domain.policy import Policy
from services.removal.ports import Way

DRY_RUN = "DRY_RUN"
NO_ENDPOINT = "NO_ENDPOINT"
NO_SENDER = "NO_SENDER"
POLICY_NOT_APPROVED = "POLICY_NOT_APPROVED"

_ENDPOINTS = "JIKIMI_REMOVAL_ENDPOINTS"
_SECRETS = "JIKIMI_REMOVAL_SECRETS"


@dataclass(frozen=True)
class Sending:
    """What this process was told about sending."""

    on: bool = False
    """Whether anything is sent at all."""
    redirects: Mapping[str, Mapping[str, str]] | None = None
    """Test profile: platform → where it goes instead. None: official addresses."""
    relay: str = ""
    """host:port of the relay that takes mail to the outside; empty: no mail outside."""
    sender: str = "removal@jikimi.invalid"
    """Address that mail comes from."""
    look: bool = False
    """Whether pages are looked at."""
    api_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Platform → token of its API."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], config: Config) -> Sending:
        """Raises ConfigError. The test profile never reaches an official address."""
        test = config.profile == "test"
        file = setting(environ, _ENDPOINTS, None, Path)
        if file is not None and not test:
            raise ConfigError(_ENDPOINTS, "is allowed in the test profile only")
        return cls(
            on=setting(environ, "JIKIMI_REMOVAL_SEND", False, _switch),
            redirects=_read(file) if test else None,
            relay=setting(environ, "JIKIMI_REMOVAL_SMTP_RELAY", "", host_port),
            sender=setting(environ, "JIKIMI_REMOVAL_MAIL_FROM", cls.sender, _mail_address),
            # In the test profile addresses are made up: nobody is to be visited for them unasked.
            look=setting(environ, "JIKIMI_REMOVAL_LOOK", not test, _switch),
            api_tokens=read_secrets(environ, "api_token"),
        )


class SendingWays:
    """Finds the way by what the process was told."""

    def __init__(self, sending: Sending, clock: Clock) -> None:
        self._sending = sending
        self._clock = clock
        self._http_form = HttpForm()

    def find(self, policy: Policy, source_host: str) -> Way | str:
        """See ports.Ways."""
        if not self._sending.on:
            return DRY_RUN
        if self._sending.redirects is None and not policy.approved:
            return POLICY_NOT_APPROVED
        if policy.path in (FilingPath.HTTP_FORM, FilingPath.API):
            return self._http(policy)
        return self._mail(policy, source_host) if policy.path is FilingPath.SMTP else NO_SENDER

    def _http(self, policy: Policy) -> Way | str:
        redirects = self._sending.redirects
        endpoint = policy.endpoint if redirects is None else redirects.get(policy.platform, {}).get("http", "")
        if not endpoint:
            return NO_ENDPOINT
        if policy.path is FilingPath.API:
            return Way(endpoint, JsonApi(self._sending.api_tokens.get(policy.platform, "")))
        return Way(endpoint, self._http_form)

    def _mail(self, policy: Policy, source_host: str) -> Way | str:
        redirects = self._sending.redirects
        if redirects is None:
            return self._way(policy.endpoint.replace("{host}", source_host), self._sending.relay, final_hop=False)
        instead = redirects.get(policy.platform, {})
        return self._way(instead.get("to", ""), instead.get("smtp", ""), final_hop=True)

    def _way(self, recipient: str, server: str, *, final_hop: bool) -> Way | str:
        if not recipient or not server:
            return NO_ENDPOINT
        host, _, port = server.rpartition(":")
        return Way(recipient, Mail(MailServer(host, int(port), final_hop, self._sending.sender), self._clock))


def read_secrets(environ: Mapping[str, str], name: str) -> Mapping[str, str]:
    """Platform → one of its secrets, from the file of JIKIMI_REMOVAL_SECRETS: platform → {"api_token", "hook_secret"}.
    Raises ConfigError.
    """
    file = setting(environ, _SECRETS, None, Path)
    if file is None:
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return {str(platform): str(item[name]) for platform, item in data.items() if name in item}
    except (OSError, ValueError, AttributeError, TypeError):
        raise ConfigError(_SECRETS, "does not name a JSON file of platforms and their secrets") from None


def _read(file: Path | None) -> Mapping[str, Mapping[str, str]]:
    if file is None:
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        redirects = {str(name): {str(k): str(v) for k, v in item.items()} for name, item in data.items()}
        for item in redirects.values():
            _check_redirect(item)
    except (OSError, ValueError, AttributeError):
        raise ConfigError(_ENDPOINTS, "does not name a JSON file of platforms and their addresses") from None
    return redirects


def _check_redirect(item: Mapping[str, str]) -> None:
    """Raises ValueError for anything but a loopback address: a test must not reach the world."""
    address = urlsplit(item["http"]).netloc if set(item) == {"http"} else item.get("smtp", "")
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdigit():
        raise ValueError
    if "http" not in item and set(item) != {"smtp", "to"}:
        raise ValueError


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def host_port(text: str) -> str:
    """host:port as it stands. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError
    return text


def _mail_address(text: str) -> str:
    if text.count("@") != 1 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return text
