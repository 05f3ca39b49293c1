"""How is a notice put into a platform's web form?

GET the form, take its CSRF token, POST the fields with the attempt's id as `Idempotency-Key`. A log-in wall or CAPTCHA
is an answer, not an obstacle to get around (Network Act 48).
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from services.removal.adapters.exchange import client, fetch, not_now, stated_reason
from services.removal.domain.policy import Form, Policy
from services.removal.ports import Accepted, Answer, Barred, Filing, Later, Refused, Sent, Unknown

_WALLS = re.compile(r"g-recaptcha|h-captcha|cf-turnstile|captcha", re.IGNORECASE)


class HttpForm:
    """Submits forms over HTTP."""

    repeatable = True

    async def send(self, policy: Policy, endpoint: str, filing: Filing, attempt_id: str) -> Answer:
        """See ports.Sender. The form is sent to the origin that showed it, never elsewhere."""
        form = policy.form
        if form is None:
            return Barred("NO_FORM")
        try:
            async with client() as made:
                return await _submit(made, policy, form, endpoint, filing, attempt_id)
        except httpx.TimeoutException:
            return Later("TIMEOUT")
        except httpx.HTTPError:
            return Later("CONNECTION_FAILED")


async def _submit(
    made: httpx.AsyncClient, policy: Policy, form: Form, endpoint: str, filing: Filing, attempt_id: str
) -> Answer:
    status, headers, page = await fetch(made, httpx.Request("GET", endpoint))
    if (answer := _obstacle(status, headers, page)) is not None:
        return answer
    found = _FormPage(form.csrf_field)
    found.feed(page)
    action = urljoin(endpoint, found.action or endpoint)
    if found.token is None:
        return Barred("FORM_CHANGED")
    if _origin(action) != _origin(endpoint):
        return Barred("FORM_LEADS_ELSEWHERE")
    request = made.build_request(
        "POST",
        action,
        data={form.csrf_field: found.token, **dict(filing.fields)},
        headers={"Idempotency-Key": attempt_id, "Accept": "application/json, text/html;q=0.9"},
    )
    return _judge(policy, *await fetch(made, request))


def _obstacle(status: int, headers: httpx.Headers, page: str) -> Answer | None:
    """What keeps us from the form; None when it is there."""
    if (later := not_now(status, headers)) is not None:
        return later
    if status in (401, 403) or 300 <= status < 400:
        return Barred("LOGIN_WALL")
    if status >= 400:
        return Barred("FORM_GONE")
    return Barred("CAPTCHA") if _WALLS.search(page) else None


def _judge(policy: Policy, status: int, headers: httpx.Headers, page: str) -> Answer:
    """What the answer to the form means."""
    if (later := not_now(status, headers)) is not None:
        return later
    if status >= 400:
        return Refused(stated_reason(page) or f"HTTP_{status}")
    if status >= 300:
        # Not followed: it may be a receipt or a log-in page; a person looks.
        return Unknown("REDIRECTED")
    match = policy.acknowledgement.search(page)
    return Accepted(match["reference"][:128]) if match else Sent()


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class _FormPage(HTMLParser):
    """Finds the form's address and its hidden token."""

    def __init__(self, csrf_field: str) -> None:
        super().__init__()
        self._csrf_field = csrf_field
        self.action = ""
        self.token: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and self.token is None:
            self.action = values.get("action", "")
        if tag == "input" and values.get("name") == self._csrf_field and self.token is None:
            self.token = values.get("value", "")[:512]
