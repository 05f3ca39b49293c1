"""How is a notice put into a platform's web form?

GET the form, take its CSRF token, POST the fields with the attempt's id as `Idempotency-Key`. Redirects are not
followed, answers are read up to a bound, and cookies live for this one submission. A log-in wall or CAPTCHA is an
answer, not an obstacle to get around (Network Act 48).
"""

from __future__ import annotations

import json
import re
import ssl
from functools import cached_property
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from services.removal.domain.policy import Form, Policy
from services.removal.ports import Accepted, Answer, Barred, Filing, Later, Refused, Sent, Unknown

LARGEST_ANSWER: Final = 256 * 1024
"""Bytes of a platform's page that are read."""
SECONDS: Final = httpx.Timeout(10.0, connect=5.0)
LONGEST_WAIT_S: Final = 3600.0
"""Longest `Retry-After` that is obeyed; a platform that wants more is asked again after this."""
_AGAIN = frozenset({408, 425, 429})
_WALLS = re.compile(r"g-recaptcha|h-captcha|cf-turnstile|captcha", re.IGNORECASE)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


class HttpForm:
    """Submits forms over HTTP."""

    repeatable = True

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """The trusted certificates; reading them takes longer than a submission, so once is enough."""
        return ssl.create_default_context()

    async def send(self, policy: Policy, endpoint: str, filing: Filing, attempt_id: str) -> Answer:
        """See ports.Sender. The form is sent to the origin that showed it, never elsewhere."""
        form = policy.form
        if form is None:
            return Barred("NO_FORM")
        try:
            async with httpx.AsyncClient(
                verify=self._trust if endpoint.startswith("https:") else False,
                timeout=SECONDS,
                follow_redirects=False,
                trust_env=False,
            ) as client:
                return await _submit(client, policy, form, endpoint, filing, attempt_id)
        except httpx.TimeoutException:
            return Later("TIMEOUT")
        except httpx.HTTPError:
            return Later("CONNECTION_FAILED")


async def _submit(
    client: httpx.AsyncClient, policy: Policy, form: Form, endpoint: str, filing: Filing, attempt_id: str
) -> Answer:
    status, headers, page = await _fetch(client, httpx.Request("GET", endpoint))
    if (answer := _obstacle(status, headers, page)) is not None:
        return answer
    found = _FormPage(form.csrf_field)
    found.feed(page)
    action = urljoin(endpoint, found.action or endpoint)
    if found.token is None:
        return Barred("FORM_CHANGED")
    if _origin(action) != _origin(endpoint):
        return Barred("FORM_LEADS_ELSEWHERE")
    request = client.build_request(
        "POST",
        action,
        data={form.csrf_field: found.token, **dict(filing.fields)},
        headers={"Idempotency-Key": attempt_id, "Accept": "application/json, text/html;q=0.9"},
    )
    return _judge(policy, *await _fetch(client, request))


async def _fetch(client: httpx.AsyncClient, request: httpx.Request) -> tuple[int, httpx.Headers, str]:
    """Status, headers and the start of the page. Raises httpx.HTTPError."""
    response = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes(16 * 1024):
            body += chunk
            if len(body) > LARGEST_ANSWER:
                break
        return response.status_code, response.headers, bytes(body[:LARGEST_ANSWER]).decode("utf-8", "replace")
    finally:
        await response.aclose()


def _obstacle(status: int, headers: httpx.Headers, page: str) -> Answer | None:
    """What keeps us from the form; None when it is there."""
    if status in _AGAIN or status >= 500:
        return Later(f"HTTP_{status}", _retry_after(headers))
    if status in (401, 403) or 300 <= status < 400:
        return Barred("LOGIN_WALL")
    if status >= 400:
        return Barred("FORM_GONE")
    return Barred("CAPTCHA") if _WALLS.search(page) else None


def _judge(policy: Policy, status: int, headers: httpx.Headers, page: str) -> Answer:
    """What the answer to the form means."""
    if status in _AGAIN or status >= 500:
        return Later(f"HTTP_{status}", _retry_after(headers))
    if status >= 400:
        return Refused(_stated_reason(page) or f"HTTP_{status}")
    if status >= 300:
        # Not followed: it may be a receipt or a log-in page; a person looks.
        return Unknown("REDIRECTED")
    match = policy.acknowledgement.search(page)
    return Accepted(match["reference"][:128]) if match else Sent()


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the platform asks us to wait (RFC 9110 §10.2.3, the form in seconds only)."""
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT_S) if text.isascii() and text.isdigit() and len(text) < 8 else None


def _stated_reason(page: str) -> str:
    """A reason code in the platform's JSON; its sentences may quote the notice and are not kept."""
    try:
        answer = json.loads(page)
    except ValueError:
        return ""
    reason = answer.get("reason") if isinstance(answer, dict) else None
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else ""


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
