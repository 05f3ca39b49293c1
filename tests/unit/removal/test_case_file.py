"""Is a sighting found in an evidence pack, whatever else the bytes hold?"""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Internal
from services.removal.adapters.case_file import LARGEST_ITEM, read_sighting

CAPTURE = {
    "source_url": "https://example.com/1",
    "post_id": "17",
    "channel": "naver_blog",
    "discover_time": "2026-03-02T00:00:00.000Z",
    "http": {"status": 200},
    "part_hashes": [{"part": "text.0", "sha256": "ab" * 32, "size_bytes": 1}, {"part": "odd"}],
}


def pack(**items: bytes) -> bytes:
    """An archive with the items of the sighting "s"."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in items.items():
            archive.writestr(f"items/s/{name.replace('__', '.')}", content)
    return out.getvalue()


def test_the_facts_of_the_sighting_are_read() -> None:
    archive = pack(capture__json=json.dumps(CAPTURE).encode(), masked__txt=b"masked")
    evidence = read_sighting(archive, "s", "cd" * 32, 3)
    assert evidence is not None
    assert ("https://example.com/1", "17", 200) == (evidence.source_url, evidence.post_id, evidence.http_status)
    assert ("ab" * 32,) == evidence.content_sha256
    assert (True, False, 3) == (evidence.has_masked_text, evidence.has_thumbnail, evidence.pack_version)


@pytest.mark.parametrize(
    "archive",
    [
        pack(),
        pack(decision__json=b"{}"),
        pack(capture__json=b"[]"),
        pack(capture__json=b" " * (LARGEST_ITEM + 1)),
    ],
)
def test_a_pack_without_the_capture_has_no_evidence(archive: bytes) -> None:
    assert read_sighting(archive, "s") is None


@pytest.mark.parametrize("archive", [b"", b"PK\x03\x04", pack(capture__json=b"{not json")])
def test_what_is_no_pack_is_said_without_quoting_it(archive: bytes) -> None:
    with pytest.raises(Internal) as caught:
        read_sighting(archive, "s")
    assert "PACK_MALFORMED" == caught.value.reason


@given(st.dictionaries(st.sampled_from(sorted(CAPTURE)), st.none() | st.integers() | st.lists(st.text()) | st.text()))
def test_any_capture_is_read_or_left_out(capture: dict[str, object]) -> None:
    evidence = read_sighting(pack(capture__json=json.dumps(capture).encode()), "s")
    assert evidence is not None
    assert isinstance(evidence.source_url, str)
    assert isinstance(evidence.http_status, int)
