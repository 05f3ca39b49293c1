"""Does the search for canaries see every way of writing one down?"""

from __future__ import annotations

import base64
import random
import urllib.parse
from pathlib import Path

import pytest

from tests.security.canaries import CHUNK, Canary, Search, Searched, _blocks

PHONE = Canary("phone", "010-0000-7391")
NAME = Canary("name", "카나리 하늘")
PICTURE = Canary("picture", random.Random(5).randbytes(64))
SEARCH = Search([PHONE, NAME, PICTURE])
TEXT = "010-0000-7391"


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (TEXT.encode(), "phone"),
        (b"01000007391", "phone"),
        (b"+821000007391", "phone"),
        (TEXT.encode("utf-16-le"), "phone"),
        (TEXT.encode("utf-16-be"), "phone"),
        (TEXT.encode().hex().encode(), "phone"),
        (TEXT.encode().hex().upper().encode(), "phone"),
        *((base64.b64encode(b"x" * shift + TEXT.encode() + b"tail"), "phone") for shift in range(3)),
        (urllib.parse.quote("카나리 하늘").encode(), "name"),
        (urllib.parse.quote("카나리 하늘").lower().encode(), "name"),
        (b"\\uce74\\ub098\\ub9ac \\ud558\\ub298", "name"),
        ("카나리하늘".encode(), "name"),
        ("카나리 하늘".encode("cp949"), "name"),
        (bytes(PICTURE.value[20:60]), "picture"),  # type: ignore[arg-type] # it is bytes
        (base64.urlsafe_b64encode(b"y" + bytes(PICTURE.value)), "picture"),  # type: ignore[arg-type] # as above
        (bytes(PICTURE.value[10:60]).hex().encode(), "picture"),  # type: ignore[arg-type] # as above
    ],
)
def test_every_form_is_found(form: bytes, name: str) -> None:
    assert {name} == SEARCH.names_in(b"before " + form + b" after")


def test_masked_and_random_data_is_no_finding() -> None:
    assert set() == SEARCH.names_in("010-****-7391 카** 하늘 ".encode() + random.Random(6).randbytes(1_000_000))


def test_canary_across_two_blocks_of_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(CHUNK - 5) + TEXT.encode() + bytes(100))
    searched = Searched()
    searched.add(SEARCH, "files", "large", _blocks(file))
    assert ["phone"] == [finding.canary for finding in searched.findings]
