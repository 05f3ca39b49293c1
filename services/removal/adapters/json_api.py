"""How is a notice put to a platform's JSON API, and how is the API asked how a request stands?"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urljoin

import httpx

from services.removal.adapters.exchange import client, fetch, members, not_now, stated_reason
from services.removal.domain.policy import Policy
from services.removal.domain.replies import MOVES
from services.removal.domain.states import Move
from services.removal.ports import Accepted, Answer, Barred, Filing, Later, Refused, Sent, Unknown, Way, Ways


class JsonApi:
    """Submits to JSON APIs; the attempt's id is the `Idempotency-Key`."""

    repeatable = True

    def __init__(self, token: str) -> None:
        """`token` goes into the Authorization header; empty sends none."""
        self._token = token

    async def send(self, policy: Policy, endpoint: str, filing: Filing, attempt_id: str) -> Answer:
        """See ports.Sender."""
        api = policy.api
        if api is None:
            return Barred("NO_API")
        headers = {"Idempotency-Key": attempt_id, **self.headers()}
        try:
            async with client() as made:
                request = made.build_request("POST", endpoint, json=dict(filing.fields), headers=headers)
                status, answered, page = await fetch(made, request)
        except httpx.TimeoutException:
            return Later("TIMEOUT")
        except httpx.HTTPError:
            return Later("CONNECTION_FAILED")
        return _judge(status, answered, page, api.reference)

    def headers(self) -> Mapping[str, str]:
        """What every call to the API carries."""
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})


class ApiDesk:
    """Asks the status API of platforms that have one."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def ask(self, policy: Policy, source_host: str, reference: str) -> Move | None:
        """See ports.StatusDesk."""
        api, way = policy.api, self._ways.find(policy, source_host)
        if api is None or not api.status_path or not isinstance(way, Way) or not isinstance(way.sender, JsonApi):
            return None
        address = urljoin(way.endpoint, api.status_path.replace("{reference}", quote(reference, safe="")))
        try:
            async with client() as made:
                request = made.build_request("GET", address, headers=dict(way.sender.headers()))
                status, _, page = await fetch(made, request)
        except httpx.HTTPError:
            return None
        word = members(page).get(api.state)
        return MOVES.get(api.words.get(word.upper(), "")) if status == 200 and isinstance(word, str) else None


def _judge(status: int, headers: httpx.Headers, page: str, reference: str) -> Answer:
    if (later := not_now(status, headers)) is not None:
        return later
    if status in (401, 403):
        return Barred("NOT_AUTHORISED")
    if status >= 400:
        return Refused(stated_reason(page) or f"HTTP_{status}")
    if status >= 300:
        return Unknown("REDIRECTED")
    value = members(page).get(reference)
    return Accepted(str(value)[:128]) if isinstance(value, str | int) and value else Sent()
