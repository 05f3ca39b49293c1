"""Is the place of a message in its stream read right, whatever the server's address looks like?"""

from __future__ import annotations

import pytest

from services.chassis.broker import stream_sequence


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.CASE.notify_case_p00.1.4711.12.1790000000000000000.3",
        "$JS.ACK.hub.ACCHASH.CASE.notify_case_p00.1.4711.12.1790000000000000000.3",
        "$JS.ACK.hub.ACCHASH.CASE.notify_case_p00.1.4711.12.1790000000000000000.3.random",
    ],
)
def test_the_number_in_the_stream_is_read_with_and_without_a_domain(reply: str) -> None:
    assert stream_sequence(reply) == 4711
