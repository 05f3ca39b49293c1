"""How is a platform spoken to over HTTP, and what do its bare answers mean?

Redirects are not followed, answers are read up to a bound, cookies live for one submission.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

import httpx

from services.removal.ports import Answer, Later

LARGEST_ANSWER: Final = 256 * 1024
"""Bytes of a platform's answer that are read."""
SECONDS: Final = httpx.Timeout(10.0, connect=5.0)
LONGEST_WAIT_S: Final = 3600.0
"""Longest `Retry-After` that is obeyed; a platform that wants more is asked again after this."""
_AGAIN = frozenset({408, 425, 429})
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client for one submission."""
    async with httpx.AsyncClient(
        verify=_trust(),
        timeout=SECONDS,
        follow_redirects=False,
        trust_env=False,
    ) as made:
        yield made


async def fetch(made: httpx.AsyncClient, request: httpx.Request) -> tuple[int, httpx.Headers, str]:
    """Status, headers and the start of the answer. Raises httpx.HTTPError."""
    response = await made.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes(16 * 1024):
            body += chunk
            if len(body) > LARGEST_ANSWER:
                break
        return response.status_code, response.headers, bytes(body[:LARGEST_ANSWER]).decode("utf-8", "replace")
    finally:
        await response.aclose()


def not_now(status: int, headers: httpx.Headers) -> Answer | None:
    """Whether the platform wants to be asked later; None where it does not say so."""
    if status in _AGAIN or status >= 500:
        return Later(f"HTTP_{status}", _retry_after(headers))
    return None


def stated_reason(page: str) -> str:
    """A reason code in the platform's JSON; its sentences may quote the notice and are not kept."""
    reason = members(page).get("reason")
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else ""


def members(page: str) -> Mapping[str, object]:
    """The members of the JSON object that a page holds; none for anything else."""
    try:
        answer = json.loads(page)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the platform asks us to wait (RFC 9110 §10.2.3, the form in seconds only)."""
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT_S) if text.isascii() and text.isdigit() and len(text) < 8 else None


@cache
def _trust() -> ssl.SSLContext:
    """The trusted certificates; reading them takes longer than a submission, so once is enough."""
    return ssl.create_default_context()
