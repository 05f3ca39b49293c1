"""What does an error carry, and what does it keep to itself?"""

from __future__ import annotations

import pytest

from services.chassis.errors import BY_STATUS, InvalidInput, NotFound, ServiceError, Violation


def test_every_kind_has_a_status_of_its_own() -> None:
    kinds = ServiceError.__subclasses__()
    assert {kind.status for kind in kinds} == set(BY_STATUS)
    assert sorted(BY_STATUS.values(), key=repr) == sorted(kinds, key=repr)


def test_an_error_names_fields_and_reasons() -> None:
    error = InvalidInput("BAD", "It is bad.", violations=[("text", "TOO_LONG")], metadata={"limit": "3"})
    assert error.violations == (Violation("text", "TOO_LONG"),)
    assert dict(error.metadata) == {"limit": "3"}
    assert str(error) == "BAD: It is bad."


def test_repr_shows_the_reason_alone() -> None:
    assert repr(NotFound("CASE_UNKNOWN", "No such case.", metadata={"id": "x"})) == "NotFound(CASE_UNKNOWN)"


@pytest.mark.parametrize("reason", ["", "lower", "WITH SPACE", "010-1234-5678", "X" * 64])
def test_a_reason_that_is_no_code_is_a_bug(reason: str) -> None:
    with pytest.raises(ValueError, match="UPPER_SNAKE"):
        NotFound(reason, "No such case.")
