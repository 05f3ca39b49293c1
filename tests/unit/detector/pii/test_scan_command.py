"""What does `jikimi scan` print, and what does it make of what cannot be read?"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.detector import scan_command
from services.detector.domain.pii import Scanner, WholeText
from services.detector.scan_command import run, scan_text
from services.detector.text_rows import BrokenRow, Row, read_rows

Scan = Callable[..., int]
POST = "이름: 홍길동\n번호 010-2345-6789 이고\n없는 줄\n"


@pytest.fixture
def scan(scanner: Scanner) -> Scan:
    def with_reference(*arguments: str, stdin: io.BytesIO | None = None) -> int:
        return run(arguments, stdin=stdin or io.BytesIO(), build=lambda: scanner)

    return with_reference


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_rows_come_out_with_kind_place_level_and_mask(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": "a", "text": "번호 010-2345-6789"}, {"id": 7, "text": "없음"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert scan("--jsonl", str(tmp_path / "rows.jsonl"), "--json") == 0
    assert [json.loads(line) for line in printed(capsys)[0].splitlines()] == [
        {
            "id": "a",
            "entities": [{"kind": "PHONE", "start": 3, "end": 16, "level": "HIGH", "mask": "***-****-6789"}],
        },
        {"id": 7, "entities": []},
    ]


def test_broken_rows_are_named_by_line_and_harm_no_other(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"{", b'{"id": 1}', b"[1]", b'{"text": "x"}', b"\xff", b"", b'{"id": "z", "text": "hong@example.com"}']
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    assert scan("--jsonl", str(tmp_path / "rows.jsonl"), "--json") == 1
    out, err = printed(capsys)
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["z"]
    assert err.splitlines() == [
        "line 1: NOT_JSON",
        "line 2: NO_TEXT",
        "line 3: NOT_AN_OBJECT",
        "line 4: NO_ID",
        "line 5: NOT_UTF8",
    ]


def test_a_line_beyond_the_bound_is_skipped_whole() -> None:
    source = io.BytesIO(b'{"id": 1, "text": "' + b"x" * 90 + b'"}\n{"id": 2, "text": ""}\n')
    rows = list(read_rows(source, longest=40))
    assert [row if isinstance(row, BrokenRow) else row.id for row in rows] == [BrokenRow(1, "LINE_TOO_LONG"), 2]


def test_a_file_is_shown_masked_where_no_terminal_reads(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "post.txt").write_text(POST, encoding="utf-8")
    assert scan(str(tmp_path / "post.txt")) == 0
    assert printed(capsys)[0].splitlines()[1:] == [
        "     1  이름: 홍**  ← PERSON HIGH",
        "     2  번호 ***-****-6789 이고  ← PHONE HIGH",
    ]


def test_mask_prints_the_text_with_its_form_kept(scan: Scan, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan("-", "--mask", stdin=io.BytesIO(POST.encode("cp949"))) == 0
    assert printed(capsys)[0] == "이름: 홍**\n번호 ***-****-6789 이고\n없는 줄\n"


def test_what_cannot_be_read_is_named_with_a_reason(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picture.bin").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "post.txt").write_text(POST, encoding="utf-8")
    names = [str(tmp_path / "none.txt"), str(tmp_path), str(tmp_path / "picture.bin"), str(tmp_path / "post.txt")]
    assert scan(*names, "--json") == 1
    document = json.loads(printed(capsys)[0])
    assert [each["reason"] for each in document["errors"]] == ["NO_SUCH_FILE", "NOT_A_FILE", "NOT_TEXT"]
    assert [(each["file"], len(each["entities"])) for each in document["files"]] == [(names[3], 2)]
    assert document["files"][0]["combinations"] == [{"name": "DOXING", "level": "LOW"}]


@pytest.mark.parametrize("arguments", [[], ["a", "--jsonl", "b"]])
def test_files_or_rows_must_be_named(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_a_long_text_is_scanned_in_portions_with_places_in_the_whole(scanner: Scanner) -> None:
    small = Scanner(replace(scanner.rules, max_chars=100), WholeText)
    line = "아무 일도 없는 줄입니다 그냥 글입니다.\n"
    text = line * 9 + "번호 010-2345-6789 끝\n" + line * 3
    (hit,) = scan_text(small, text).hits
    assert text[hit.start : hit.end] == "010-2345-6789"


def test_a_row_never_shows_its_text() -> None:
    (row,) = read_rows(io.BytesIO(b'{"id": 1, "text": "hong@example.com"}'))
    assert isinstance(row, Row)
    assert "hong" not in repr(row)
    assert "hong" not in repr(scan_command.Scanned(row.text, (), ()))
