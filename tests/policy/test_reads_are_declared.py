"""Does every method say what personal data its answer holds, so that no reading can be forgotten?"""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from misuse.common.v1.access_pb2 import DATA_CLASS_NONE, DATA_CLASS_UNSPECIFIED
from services.chassis.access import rule_of
from tests.contract.test_contracts import ALL, path_of

MAY_NAME_NOBODY = frozenset({"misuse.case.v1.PrivacyService.ReportAccess"})
"""Answers about readings, in which no person is named."""


def strings_in(message: Descriptor, depth: int = 6) -> set[str]:
    """Names of all string fields at any depth."""
    names = {field.name for field in message.fields if field.type == FieldDescriptor.TYPE_STRING}
    for field in message.fields:
        if field.message_type is not None and depth:
            names |= strings_in(field.message_type, depth - 1)
    return names


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.full_name)
def test_every_method_says_what_its_answer_holds_and_whose_it_is(method: MethodDescriptor) -> None:
    rule = rule_of(path_of(method))
    assert rule is not None
    assert rule.reads, "state `reads` in the proto, DATA_CLASS_NONE where the answer holds no personal data"
    assert DATA_CLASS_UNSPECIFIED not in rule.reads
    if list(rule.reads) == [DATA_CLASS_NONE]:
        assert not rule.read_of
        return
    assert DATA_CLASS_NONE not in rule.reads
    assert rule.read_of or method.full_name in MAY_NAME_NOBODY
    assert set(rule.read_of) <= strings_in(method.input_type) | strings_in(method.output_type)
