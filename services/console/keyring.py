"""Which keys does a home have, and how does each give way to a new one while the system serves?

Always in three steps: the new key is known everywhere before it is used; it is used while the old one still holds; the
old one is retired once nothing that it made is alive. What the step is comes from the files themselves, so a run that
was broken off is simply run again. Each step is noted in `keys/rotations.jsonl`: time, what, ids.

master:<service>    wraps data keys. rotate: new first line, every data key wrapped anew. retire: the old lines go
issuer, <service>   sign actor tokens. rotate: takes effect at the next token. retire: the public half goes
grants, case-evidence, case-time, gate-heads
                    sign what is handed out. rotate: takes effect when the service starts. The public halves stay, to
                    check what they signed, unless they are distrusted
nats                a user for each service. rotate: further users, taken up when a service starts. retire: the old go
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nacl.signing import SigningKey

from services.chassis.files import replace_file
from services.chassis.key_rotation import (
    KeyInUse,
    add_master_key,
    count_by_master_key,
    retire_master_key,
    rewrap,
)
from services.chassis.keys import MasterKeys
from services.chassis.tokens import MAX_TTL, Issuer
from services.console.embedded import Nats
from services.console.home import SERVICES, Home, exclusive
from services.console.output import CannotDo

SIGNERS = {"grants": "case", "case-evidence": "case", "case-time": "case", "gate-heads": "gate"}
"""Keys that sign what is handed out → the service that holds them."""
FAMILIES = ("issuer", *SERVICES, *SIGNERS, "nats", *(f"master:{service}" for service in SERVICES))
OVERLAP = {
    "issuer": MAX_TTL,
    "grants": timedelta(days=1),
    **{service: timedelta(minutes=10) for service in SERVICES},
}
"""How long what an old key signed may be presented: the longest life of a token, of a grant, of a service's token."""
STORING = timedelta(seconds=10)
"""How long after a new master key a process may still be storing what the old one wrapped."""
_STAMP = re.compile(r"-(\d{8}T\d{6})\Z")
_FORMAT = "%Y%m%dT%H%M%S"
Say = Callable[[str, int, int], None]
"""Is told what is being done, how many of how many are done."""


@dataclass(frozen=True)
class Key:
    """One key as it stands. `state`: USED, KNOWN (still believed, no longer used)."""

    family: str
    key_id: str
    state: str
    uses: int = 0
    """Data keys that a master key wraps."""


def keys_of(home: Home, family: str) -> list[Key]:
    """The keys of a family, the one in use first. Raises CannotDo."""
    if family == "nats":
        users = Nats(home).users("case")
        return [Key(family, user, "KNOWN" if number else "USED") for number, user in enumerate(users)]
    if family.startswith("master:"):
        service = family.removeprefix("master:")
        counts = count_by_master_key(home.keys(service))
        ids = MasterKeys(_master(home, service)).ids
        return [Key(family, each, "KNOWN" if number else "USED", counts[each]) for number, each in enumerate(ids)]
    used = _signs_now(home, family)
    known = sorted(file.stem for file in _public(home).glob("*.pub") if _family_of(file.stem) == family)
    return [Key(family, used, "USED"), *(Key(family, each, "KNOWN") for each in known if each != used)]


def rotate(home: Home, family: str, say: Say, now: datetime) -> Key:
    """Brings a new key into use and returns it; a rotation that was broken off goes on. Raises CannotDo."""
    with exclusive(home.path / "keys" / ".rotation.lock"):
        if family.startswith("master:"):
            return _rotate_master(home, family, say, now)
        if family == "nats":
            user = Nats(home).add_users()
            _note(home, now, "ROTATED", family, user)
            return Key(family, user, "USED")
        return _rotate_signer(home, family, now)


def retire(home: Home, family: str, now: datetime, *, at_once: bool = False) -> Sequence[str]:
    """Makes a family's old keys unusable; returns their ids. With `at_once` also those whose tokens or signatures may
    still be alive: for a key that was stolen. Raises CannotDo."""
    with exclusive(home.path / "keys" / ".rotation.lock"):
        old = [key for key in keys_of(home, family) if key.state == "KNOWN"]
        if not old:
            return []
        _refuse_too_early(home, family, now, at_once=at_once)
        for key in old:
            _end(home, key)
            _note(home, now, "RETIRED", family, key.key_id)
        if family == "nats":
            Nats(home).retire_users()
        return [key.key_id for key in old]


def needs_restart(family: str) -> Sequence[str]:
    """Services that take up a new key of this family when they start."""
    return SERVICES if family == "nats" else [SIGNERS[family]] if family in SIGNERS else []


def _rotate_master(home: Home, family: str, say: Say, now: datetime) -> Key:
    service = family.removeprefix("master:")
    file, store = _master(home, service), home.keys(service)
    if len(MasterKeys(file).ids) == 1:
        _note(home, now, "ADDED", family, add_master_key(file))
    whole, done = sum(count_by_master_key(store).values()), 0

    def count(looked: int) -> None:
        nonlocal done
        done += looked
        say(family, done, whole)

    rewrap(store, file, count)
    used = keys_of(home, family)[0]
    _note(home, now, "ROTATED", family, used.key_id)
    return used


def _rotate_signer(home: Home, family: str, now: datetime) -> Key:
    used = _signs_now(home, family)
    public = _public(home)
    roles = (public / f"{used}.pub").read_text(encoding="ascii").split()[1:]
    fresh, key_id = SigningKey.generate(), f"{family}-{now.strftime(_FORMAT)}"
    if key_id == used:
        raise CannotDo(f"The key of {family} was changed this very second.")
    # The public half first: whoever meets a signature of the new key finds it.
    lines = [fresh.verify_key.encode().hex(), *roles]
    replace_file(public / f"{key_id}.pub", ("\n".join(lines) + "\n").encode())
    replace_file(_private(home, family), f"{key_id} {fresh.encode().hex()}\n".encode())
    _note(home, now, "ROTATED", family, key_id)
    return Key(family, key_id, "USED")


def _refuse_too_early(home: Home, family: str, now: datetime, *, at_once: bool) -> None:
    if family in SIGNERS and family != "grants" and not at_once:
        raise CannotDo(
            f"What old keys of {family} signed is checked with their public halves; nothing else can be done with "
            "these. --at-once withdraws them: earlier signatures then count as unknown."
        )
    if family.startswith("master:"):
        changed = datetime.fromtimestamp(_master(home, family.removeprefix("master:")).stat().st_mtime, UTC)
        if now - changed < STORING:
            raise CannotDo("The new master key is some seconds old; a data key may just be being stored. Try again.")
        return
    stamp = _STAMP.search(_signs_now(home, family)) if family in OVERLAP else None
    since = datetime.strptime(stamp[1], _FORMAT).replace(tzinfo=UTC) if stamp else now - timedelta(days=365)
    if not at_once and now - since < OVERLAP.get(family, timedelta()):
        until = since + OVERLAP[family]
        raise CannotDo(f"What the old key signed may be alive until {until:%Y-%m-%d %H:%M} UTC; --at-once ends it now.")


def _end(home: Home, key: Key) -> None:
    if key.family.startswith("master:"):
        service = key.family.removeprefix("master:")
        try:
            retire_master_key(home.keys(service), _master(home, service), key.key_id)
        except KeyInUse:
            raise CannotDo(f"{key.uses} data keys are wrapped by {key.key_id}; rotate {key.family} first.") from None
    elif key.family != "nats":
        retired = home.path / "tokens" / "retired"
        retired.mkdir(mode=0o700, exist_ok=True)
        (_public(home) / f"{key.key_id}.pub").rename(retired / f"{key.key_id}.pub")


def _family_of(key_id: str) -> str:
    return _STAMP.sub("", key_id)


def _signs_now(home: Home, family: str) -> str:
    try:
        return Issuer.from_file(_private(home, family)).key_id
    except FileNotFoundError:
        raise CannotDo(f"There is no key of {family} yet; the service that needs it makes it at its start.") from None


def _private(home: Home, family: str) -> Path:
    return home.path / "tokens" / "private" / f"{family}.key"


def _public(home: Home) -> Path:
    return home.path / "tokens" / "public"


def _master(home: Home, service: str) -> Path:
    return home.path / "keys" / f"{service}.master"


def _note(home: Home, now: datetime, what: str, family: str, key_id: str) -> None:
    line = json.dumps({"time": now.isoformat(), "what": what, "family": family, "key_id": key_id}) + "\n"
    descriptor = os.open(home.path / "keys" / "rotations.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as out:
        out.write(line)
        out.flush()
        os.fsync(out.fileno())
