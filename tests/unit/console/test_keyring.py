"""Do keys of a home give way to new ones in the right order, and are old ones unusable after they are retired?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from misuse.common.v1.access_pb2 import PURPOSE_AUDIT, ROLE_AUDITOR, ROLE_SERVICE_CASE
from services.chassis.errors import Unauthenticated
from services.chassis.keys import FileKeyStore
from services.chassis.signing import KeyFile
from services.chassis.tokens import Issuer, IssuerFile, Verifier
from services.console import keyring
from services.console.home import Home
from services.console.output import CannotDo
from services.console.supervisor import make_keys

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    make_keys(made)
    return made


def silent(_step: str, _done: int, _whole: int) -> None:
    """Nobody watches the progress."""


def verifier(home: Home) -> Verifier:
    # Looks at every call, so that no test waits for the interval.
    return Verifier(home.path / "tokens" / "public", reload_seconds=0.0)


def auditor(home: Home) -> str:
    issuer = Issuer.from_file(home.path / "tokens" / "private" / "issuer.key")
    return issuer.issue("somebody", ROLE_AUDITOR, PURPOSE_AUDIT, "case", 600)


def check(verify: Verifier, token: str) -> None:
    verify.verify(token, "case", datetime.now(UTC))


def test_old_and_new_tokens_hold_until_the_old_key_is_retired(home: Home) -> None:
    verify, old = verifier(home), auditor(home)
    check(verify, old)
    assert "issuer-20260601T120000" == keyring.rotate(home, "issuer", silent, NOW).key_id
    new = auditor(home)
    for token in (old, new):
        check(verify, token)
    assert ["issuer"] == keyring.retire(home, "issuer", NOW + timedelta(hours=13))
    check(verify, new)
    with pytest.raises(Unauthenticated, match="not known"):
        check(verify, old)


def test_new_key_may_sign_the_same_roles_and_no_more(home: Home) -> None:
    keyring.rotate(home, "case", silent, NOW)
    issuer = Issuer.from_file(home.path / "tokens" / "private" / "case.key")
    check(verifier(home), issuer.issue("service:case", ROLE_SERVICE_CASE, PURPOSE_AUDIT, "case", 60))
    with pytest.raises(Unauthenticated):
        check(verifier(home), issuer.issue("somebody", ROLE_AUDITOR, PURPOSE_AUDIT, "case", 60))


def test_key_is_not_retired_while_its_tokens_live(home: Home) -> None:
    keyring.rotate(home, "issuer", silent, NOW)
    with pytest.raises(CannotDo, match="may be alive until 2026-06-02 00:00"):
        keyring.retire(home, "issuer", NOW + timedelta(hours=11))
    assert ["issuer"] == keyring.retire(home, "issuer", NOW, at_once=True)


def test_verifier_knows_a_new_key_at_once_whatever_its_interval(home: Home) -> None:
    patient = Verifier(home.path / "tokens" / "public", reload_seconds=3600.0)
    check(patient, auditor(home))
    keyring.rotate(home, "issuer", silent, NOW)
    check(patient, auditor(home))


def test_running_service_signs_with_the_new_key(home: Home) -> None:
    file = IssuerFile(home.path / "tokens" / "private" / "case.key")
    before = file.current()
    assert before is file.current()
    keyring.rotate(home, "case", silent, NOW)
    assert "case-20260601T120000" == file.current().key_id


def test_start_keeps_rotated_keys(home: Home) -> None:
    keyring.rotate(home, "issuer", silent, NOW)
    before = {file: file.read_bytes() for file in (home.path / "tokens").rglob("*") if file.is_file()}
    make_keys(home)
    assert before == {file: file.read_bytes() for file in (home.path / "tokens").rglob("*") if file.is_file()}


def test_what_an_old_evidence_key_signed_can_still_be_checked(home: Home) -> None:
    tokens = home.path / "tokens"
    KeyFile(tokens / "private", tokens / "public", "case-evidence")
    keyring.rotate(home, "case-evidence", silent, NOW)
    fresh = KeyFile(tokens / "private", tokens / "public", "case-evidence")
    assert "case-evidence-20260601T120000" == fresh.key_id
    assert (tokens / "public" / "case-evidence.pub").exists()
    with pytest.raises(CannotDo, match="--at-once"):
        keyring.retire(home, "case-evidence", NOW + timedelta(days=3650))


def test_families_whose_names_begin_alike_are_not_mixed_up(home: Home) -> None:
    tokens = home.path / "tokens"
    KeyFile(tokens / "private", tokens / "public", "case-evidence")
    keyring.rotate(home, "case", silent, NOW)
    assert ["case"] == keyring.retire(home, "case", NOW + timedelta(days=1))
    assert ["case-evidence"] == [key.key_id for key in keyring.keys_of(home, "case-evidence")]


def test_master_key_is_rotated_once_and_retired(home: Home) -> None:
    keys = FileKeyStore(home.keys("case"), home.path / "keys" / "case.master")
    made = {f"person-{number}": keys.get_or_create(f"person-{number}") for number in range(20)}
    [old] = keyring.keys_of(home, "master:case")
    used = keyring.rotate(home, "master:case", silent, NOW)
    # Run again it goes on, and adds no third key.
    assert (used.key_id, 20) == (keyring.rotate(home, "master:case", silent, NOW).key_id, used.uses)
    with pytest.raises(CannotDo, match="some seconds old"):
        keyring.retire(home, "master:case", datetime.now(UTC))
    assert [old.key_id] == keyring.retire(home, "master:case", datetime.now(UTC) + timedelta(minutes=1))
    again = FileKeyStore(home.keys("case"), home.path / "keys" / "case.master")
    assert made == {person: again.get(person) for person in made}


def test_every_step_is_noted_without_a_key(home: Home) -> None:
    keyring.rotate(home, "issuer", silent, NOW)
    keyring.retire(home, "issuer", NOW, at_once=True)
    notes = [json.loads(line) for line in (home.path / "keys" / "rotations.jsonl").read_text().splitlines()]
    stamp = NOW.isoformat()
    assert [
        {"time": stamp, "what": "ROTATED", "family": "issuer", "key_id": "issuer-20260601T120000"},
        {"time": stamp, "what": "RETIRED", "family": "issuer", "key_id": "issuer"},
    ] == notes
