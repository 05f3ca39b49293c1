"""Who proves that a number or a face is a subscriber's own, where no real identity provider is connected?

A local test provider with a key of its own in the home. It asserts what it is told: it belongs to demo and tests;
a real system configures real providers in `services/detector/rules/ownership.yaml` and has no such key.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta

from nacl.signing import SigningKey

from misuse.detector.v1.enrollment_service_pb2 import OwnershipClaims
from services.console.home import Home, HomeUnusable, write_private

PROVIDER = "demo-identity"
KEY_ID = "demo-identity-1"
AUDIENCE = "jikimi.detector"
MINUTES = 5


class TestProvider:
    """Signs ownership claims for the local system."""

    __test__ = False  # not a test case, whatever its name says

    def __init__(self, home: Home) -> None:
        """Raises HomeUnusable for a system of the production profile: it has real providers, or none."""
        status = home.path / "status.json"
        if status.exists() and json.loads(status.read_text(encoding="utf-8")).get("profile") != "test":
            raise HomeUnusable(
                "Ownership is proved by a configured identity provider. The local test provider works only in the "
                "test profile: `make down`, then `JIKIMI_PROFILE=test make up`."
            )
        private = home.path / "tokens" / "private" / f"{PROVIDER}.key"
        public = home.path / "tokens" / "providers" / f"{PROVIDER}.pub"
        if not private.exists():
            write_private(private, SigningKey.generate().encode().hex().encode())
        self._key = SigningKey(bytes.fromhex(private.read_text()))
        if not public.exists():
            public.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(public, self._key.verify_key.encode().hex().encode())

    def assertion(
        self, subscriber_id: str, target_id: str, value: str, *, guardian: bool = False, fourteen: bool = False
    ) -> tuple[bytes, bytes]:
        """(claims, signature) that the subscriber owns the target; `value` is empty for a face. For a minor say that
        the guardian consented, or that the subscriber is fourteen or older.
        """
        now = datetime.now(UTC)
        claims = OwnershipClaims(
            provider=PROVIDER,
            key_id=KEY_ID,
            audience=AUDIENCE,
            subscriber_id=subscriber_id,
            target_id=target_id,
            value=value,
            possession=True,
            real_name=True,
            nonce=secrets.token_bytes(32),
            guardian=guardian,
            fourteen=fourteen,
            live_face=not value,
        )
        claims.issue_time.FromDatetime(now)
        claims.expire_time.FromDatetime(now + timedelta(minutes=MINUTES))
        body = claims.SerializeToString(deterministic=True)
        return body, self._key.sign(body).signature
