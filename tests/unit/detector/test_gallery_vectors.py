"""Whether stored vectors are read as they were written."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from services.detector.adapters.enrolled import vectors_from_bytes, vectors_to_bytes

VECTORS = {"second-p1": np.array([1, -0.5], np.float32), "first-p1": np.linspace(-1, 1, 512, dtype=np.float32)}


def test_vectors_are_read_as_they_were_written() -> None:
    found = vectors_from_bytes(vectors_to_bytes(VECTORS))
    assert ["first-p1", "second-p1"] == list(found)
    assert all(found[name].dtype == np.float32 for name in VECTORS)
    assert all(np.array_equal(VECTORS[name], found[name]) for name in VECTORS)


def test_vectors_written_at_first_are_still_read() -> None:
    old = {name: base64.b64encode(vector.tobytes()).decode() for name, vector in VECTORS.items()}
    found = vectors_from_bytes(json.dumps(old).encode())
    assert all(np.array_equal(VECTORS[name], found[name]) for name in VECTORS)


WHOLE = vectors_to_bytes(VECTORS)


@pytest.mark.parametrize("data", [b"", b"{", b"\x02", WHOLE[:-1], WHOLE[:2], WHOLE[:5], WHOLE + b"\x01"])
def test_what_holds_no_vectors_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        vectors_from_bytes(data)
