"""Are the rules of every service listed with their versions, and their values kept from those who may not read them?"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from misuse.common.v1.access_pb2 import Role
from services.chassis import yaml_text
from services.chassis.rules import READERS, RuleFolders

SERVICES = Path(__file__).parents[3] / "services"
ROLES = {name.removeprefix("ROLE_") for name in Role.keys()[1:]}
NAMES = sorted(folder.parent.name for folder in SERVICES.glob("*/rules") if (folder / READERS).exists())


def folders(tmp_path: Path) -> RuleFolders:
    shipped, given = tmp_path / "shipped", tmp_path / "given"
    for folder in (shipped, given):
        folder.mkdir()
    (shipped / "faces.yaml").write_text("version: faces-3\nbands: [{version: b-1, match: 0.61}]\n")
    (shipped / "new.yaml").write_text("version: 1\nsecret: 7\n")
    (shipped / READERS).write_text("faces: [AUDITOR]\n")
    return RuleFolders((shipped, tmp_path / "missing"), (given,))


def test_versions_are_for_everybody_and_values_for_the_named_roles(tmp_path: Path) -> None:
    rules = folders(tmp_path)
    seen = {rule.name: rule for rule in rules.seen_by("OPERATOR")}
    assert {"faces": ("faces-3", "b-1"), "new": ("1",)} == {name: rule.versions for name, rule in seen.items()}
    assert {(False, "")} == {(rule.readable, rule.text) for rule in seen.values()}
    faces, new = rules.seen_by("AUDITOR")
    assert (True, True, "") == (faces.readable, "0.61" in faces.text, new.text)


def test_an_operators_own_file_stands_in_place_of_the_shipped_one(tmp_path: Path) -> None:
    rules = folders(tmp_path)
    (tmp_path / "given" / "faces.yaml").write_text("version: ours-1\n")
    (tmp_path / "given" / "of_another_service.yaml").write_text("version: 9\n")
    seen = rules.seen_by("AUDITOR")
    assert [("faces", ("ours-1",), False), ("new", ("1",), True)] == [(r.name, r.versions, r.shipped) for r in seen]
    told = rules.in_force().rules
    assert [sha256(b"version: ours-1\n").digest(), False] == [told[0].sha256, told[0].shipped]


@pytest.mark.parametrize("service", NAMES)
def test_readers_name_roles_and_files_that_exist_and_every_file_has_a_version(service: str) -> None:
    own = SERVICES / service
    rules = RuleFolders((own / "rules", own / "policies"))
    readers = yaml_text.parse((own / "rules" / READERS).read_text(encoding="utf-8"))
    assert {role for roles in readers.values() for role in roles} <= ROLES
    listed = rules.seen_by("AUDITOR")
    assert readers.keys() <= {rule.name for rule in listed}
    assert [] == [rule.name for rule in listed if not rule.versions]


def test_all_services_have_readers() -> None:
    assert {"case", "detector", "gate", "notify", "removal"} == set(NAMES)


def test_a_folder_of_the_operator_need_hold_only_what_differs(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped" / "one.yaml"
    own = tmp_path / "own" / "case" / "one.yaml"
    own.parent.mkdir(parents=True)
    assert shipped == yaml_text.in_force(shipped, None, "case")
    assert shipped == yaml_text.in_force(shipped, tmp_path / "own", "case")
    own.touch()
    assert own == yaml_text.in_force(shipped, tmp_path / "own", "case")
    assert shipped == yaml_text.in_force(shipped, tmp_path / "own", "gate")
