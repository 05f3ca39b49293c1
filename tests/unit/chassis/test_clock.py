"""Does business time move as it is told, and ids with real time?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.chassis.clock import ManualClock, SystemClock, write_offset
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid, uuid7


def close_to(expected: datetime, actual: datetime) -> bool:
    return abs(expected - actual) < timedelta(seconds=5)


def test_without_a_file_it_is_real_time(tmp_path: Path) -> None:
    assert close_to(datetime.now(UTC), SystemClock().now())
    assert close_to(datetime.now(UTC), SystemClock(tmp_path / "missing").now())
    assert SystemClock().now().tzinfo is UTC


def test_every_reader_of_the_file_moves_at_once(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    clocks = [SystemClock(file), SystemClock(file)]
    for offset in (timedelta(hours=72), timedelta(days=-1), timedelta()):
        write_offset(file, offset)
        assert all(close_to(datetime.now(UTC) + offset, clock.now()) for clock in clocks)


@pytest.mark.parametrize("content", ["", "soon", "nan", "inf", "1e12"])
def test_an_offset_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "clock"
    file.write_text(content)
    with pytest.raises(ValueError, match="offset"):
        SystemClock(file).now()
    with pytest.raises(ValueError, match="20 years"):
        write_offset(file, timedelta(days=10_000))


def test_a_manual_clock_stands_still_until_moved() -> None:
    seoul = timezone(timedelta(hours=9))
    clock = ManualClock(datetime(2026, 1, 1, 9, tzinfo=seoul))
    assert clock.now() == clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    clock.advance(timedelta(hours=72))
    assert clock.now() == datetime(2026, 1, 4, tzinfo=UTC)
    with pytest.raises(ValueError, match="back"):
        clock.advance(timedelta(seconds=-1))


def test_ids_are_version_7_unique_and_sorted_by_time() -> None:
    ids = [uuid7() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {(one[14], one[19] in "89ab") for one in ids} == {("7", True)}
    # Two ids of the same quarter of a microsecond may stand either way; their time parts may not.
    assert [one[:18] for one in ids] == sorted(one[:18] for one in ids)


def test_an_id_has_one_spelling() -> None:
    one = uuid7()
    assert parse_uuid(one.upper(), "case_id") == one


@pytest.mark.parametrize(
    "value",
    ["", "010-1234-5678", "x" * 36, "{01980000-0000-7000-8000-000000000001}", "01980000000070008000000000000001"],
)
def test_a_malformed_id_is_named_by_its_field_only(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_uuid(value, "case_id")
    assert [violation.field for violation in caught.value.violations] == ["case_id"]
    assert not value or value not in f"{caught.value} {caught.value!r} {caught.value.violations}"
