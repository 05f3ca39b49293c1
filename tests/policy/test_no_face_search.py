"""Nobody can search for a stranger: no method takes a picture and answers with identities, scores or vectors."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

ROOT = Path(__file__).parents[2]
NO_PICTURE = {
    "author_hash",
    "body",
    "claims",
    "document_sha256",
    "grant",
    "head_documents",
    "head_hash",
    "input_ref",
    "input_sha256",
    "junit",
    "nonce",
    "public_key",
    "output_sha256",
    "rules_sha256",
    "signature",
    "text_output_sha256",
    "text_ref",
    "tls_peer_sha256",
}
"""Bytes of requests that hold no picture and no vector; all others may."""
LIKENESS = re.compile(r"score|margin|similar|cosine|distance|likel|probab|confidence|vector|embedding|feature")

OF_CONTENTS = {"cluster_distance_milli"}
"""How far a repost is from the content it repeats: of two pictures or texts as wholes, not of two faces."""

ANSWERS_TO_PICTURES = {
    "AnswerLivenessChallenge": {"passed", "reason"},
    # "you" is the caller; of others it says only that they are others.
    "CheckUpload": {
        "answer_by_time",
        "case_id",
        "findings",
        "findings.another_person",
        "findings.child",
        "findings.field",
        "findings.kind",
        "findings.region",
        "findings.severity",
        "findings.you",
        "severity",
        "skipped",
        "suggested_action",
        "upload_check_id",
    },
    "EnrollFace": {
        "template",
        "template.create_time",
        "template.expire_time",
        "template.liveness",
        "template.model_ids",
        "template.pictures",
        "template.source",
        "template.state",
        "template.template_id",
    },
    "ResolveUpload": {"choice", "redacted_image", "redacted_text"},
    "SubmitSignal": {"duplicate", "state"},
    "SubmitSignals": {
        "duplicate",
        "further_answers",
        "further_answers.duplicate",
        "further_answers.refusal",
        "further_answers.refusal.field",
        "further_answers.refusal.reason",
        "further_answers.signal_id",
        "further_answers.state",
        "refusal",
        "refusal.field",
        "refusal.reason",
        "sequence",
        "signal_id",
        "state",
    },
}
"""Every method that takes a picture, and all that it can answer. A new line here is a decision about privacy."""


def methods() -> Iterator[MethodDescriptor]:
    for file in sorted((ROOT / "protos" / "misuse").rglob("*.proto")):
        module = importlib.import_module(".".join(file.relative_to(ROOT / "protos").with_suffix("").parts) + "_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def fields(message: Descriptor, path: str = "", seen: tuple[str, ...] = ()) -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field that can be reached from a message, by its path; timestamps are leaves."""
    for field in message.fields:
        yield f"{path}{field.name}", field
        inner = field.message_type
        if inner is not None and not inner.full_name.startswith("google.") and inner.full_name not in seen:
            yield from fields(inner, f"{path}{field.name}.", (*seen, inner.full_name))


def takes_a_picture(method: MethodDescriptor) -> bool:
    return any(
        field.type == FieldDescriptor.TYPE_BYTES and field.name not in NO_PICTURE
        for _, field in fields(method.input_type)
    )


ALL = list(methods())


def test_every_method_that_takes_a_picture_is_known_with_all_that_it_can_answer():
    takers = [method for method in ALL if takes_a_picture(method)]
    assert ANSWERS_TO_PICTURES == {each.name: {path for path, _ in fields(each.output_type)} for each in takers}


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.full_name)
def test_no_method_answers_with_a_likeness_or_a_vector(method):
    numbers = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
    service = method.containing_service.file.package
    found = [
        path
        for path, field in fields(method.output_type)
        # A word such as HIGH, which says how sure a text rule is, is no number.
        if (LIKENESS.search(field.name) and field.type != FieldDescriptor.TYPE_STRING and field.name not in OF_CONTENTS)
        or (field.type in numbers and service != "misuse.gate.v1")
    ]
    assert [] == found
