"""Does a pack show every change, and does the same evidence give the same bytes?"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.case.adapters.signing import FileSigner
from services.case.domain.evidence import Choice, Item, Pack, build, canonical, choose, manifest_alone
from services.case.evidence_verify import verify

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
Files = dict[str, bytes]
PATH = "items/s1/capture.json"


def item(number: int) -> Item:
    return Item(
        sighting_id=f"s{number}",
        decision_id=f"d{number}",
        case_id="c",
        kind="FACE",
        channel="ch",
        channel_group="SNS",
        rule="OPENED",
        discover_time=NOW,
        files={"capture.json": canonical({"source_url": f"https://x.example/{number}"}), "thumbnail.jpg": b"jpeg"},
        fetch_time=NOW,
        capture_sha256=bytes(32),
    )


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner(tmp_path / "private", tmp_path / "public")


def of(signer: FileSigner) -> Pack:
    return Pack("p", "c", 3, NOW, "evidence-1", signer.key_id, ["b", "a"])


def packed(signer: FileSigner, *items: Item) -> bytes:
    return build(of(signer), Choice(items, ()), signer.sign).archive


def rezip(path: Path, change: Callable[[Files], Mapping[str, bytes]]) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(files).items():
            archive.writestr(name, content)


def test_the_same_evidence_gives_the_same_bytes(signer: FileSigner) -> None:
    assert packed(signer, item(1), item(2)) == packed(signer, item(2), item(1))


def test_an_untouched_pack_is_valid(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1), item(2)))
    found = verify(file, tmp_path / "public")
    assert (True, "c", "p", 3, 2, 4) == (
        found.valid,
        found.case_id,
        found.pack_id,
        found.version,
        found.items,
        found.files,
    )


def read(file: Path) -> dict[str, list[dict[str, object]]]:
    with zipfile.ZipFile(file) as archive:
        manifest: dict[str, list[dict[str, object]]] = json.loads(archive.read("manifest.json"))
    return manifest


@pytest.mark.parametrize("most_bytes", [6_000, 20_000, 30_000, 45_000])
def test_a_pack_stays_below_its_bound_and_names_what_it_leaves_out(
    signer: FileSigner, tmp_path: Path, most_bytes: int
) -> None:
    newest_first = [replace(item(n), files=dict(item(n).files) | {"masked.txt": b"x" * 5_000}) for n in range(6, 0, -1)]
    choice = choose(of(signer), newest_first, most_bytes)
    file = tmp_path / "pack.zip"
    file.write_bytes(build(of(signer), choice, signer.sign).archive)
    assert file.stat().st_size <= most_bytes
    assert verify(file, tmp_path / "public").valid
    manifest = read(file)
    kept = len(choice.packed)
    assert [f"s{n}" for n in range(7 - kept, 7)] == [entry["sighting_id"] for entry in manifest["items"]]
    assert [f"s{n}" for n in range(1, 7 - kept)] == [entry["sighting_id"] for entry in manifest["omitted"]]
    assert [3] * (6 - kept) == [len(list(entry["files"])) for entry in manifest["omitted"]]  # type: ignore[call-overload] # a list in the JSON
    # Not so careful that it wastes room for another item.
    assert kept == 6 or most_bytes - file.stat().st_size < 5_000 + 4_000


def test_of_a_superseded_pack_the_signed_manifest_stays(signer: FileSigner, tmp_path: Path) -> None:
    whole, left = tmp_path / "whole.zip", tmp_path / "left.zip"
    whole.write_bytes(packed(signer, item(1)))
    left.write_bytes(manifest_alone(whole.read_bytes()))
    assert read(whole) == read(left)
    assert {"FILE_MISSING"} == {reason for _, reason in verify(left, tmp_path / "public").faults}


def manifest_with(files: Files, **values: object) -> bytes:
    return canonical(json.loads(files["manifest.json"]) | values)


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        (lambda f: f | {PATH: f[PATH].replace(b"/1", b"/2")}, PATH, "HASH_DIFFERS"),
        (lambda f: f | {PATH: f[PATH] + b" "}, PATH, "SIZE_DIFFERS"),
        (lambda f: {n: c for n, c in f.items() if n != PATH}, PATH, "FILE_MISSING"),
        (lambda f: f | {"items/s1/more.txt": b"x"}, "items/s1/more.txt", "FILE_ADDED"),
        (lambda f: f | {"manifest.json": manifest_with(f, version=4)}, "manifest.sig", "SIGNATURE_INVALID"),
        (lambda f: f | {"manifest.json": b" " + f["manifest.json"]}, "manifest.json", "MANIFEST_NOT_CANONICAL"),
        (lambda f: f | {"manifest.json": b"{}"}, "manifest.json", "MANIFEST_MALFORMED"),
        (lambda f: f | {"manifest.json": b"[" * 100_000}, "manifest.json", "MANIFEST_MALFORMED"),
        (lambda f: {n: c for n, c in f.items() if n != "manifest.json"}, "", "MANIFEST_MISSING"),
        (lambda f: f | {"manifest.sig": b"{}"}, "manifest.sig", "SIGNATURE_MALFORMED"),
    ],
)  # fmt: skip
def test_every_change_is_named(
    signer: FileSigner, tmp_path: Path, change: Callable[[Files], Mapping[str, bytes]], place: str, reason: str
) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    rezip(file, change)
    assert (place, reason) in verify(file, tmp_path / "public").faults


def test_a_pack_of_an_unknown_or_another_key_is_not_valid(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    assert (("manifest.sig", "KEY_UNKNOWN"),) == verify(file, tmp_path / "private").faults
    FileSigner(tmp_path / "other", tmp_path / "others")
    assert (("manifest.sig", "SIGNATURE_INVALID"),) == verify(file, tmp_path / "others").faults


def test_a_key_that_signs_actors_signs_no_evidence(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    public = tmp_path / "public" / f"{signer.key_id}.pub"
    public.write_text(f"{public.read_text().split()[0]}\nROLE_SERVICE_CASE\n")
    assert (("manifest.sig", "KEY_UNKNOWN"),) == verify(file, tmp_path / "public").faults


def test_a_compressed_file_is_named_and_not_unpacked(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if name == PATH else zipfile.ZIP_STORED)
    assert (PATH, "UNREADABLE") in verify(file, tmp_path / "public").faults


def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(b"PK\x03\x04 nothing")
    assert (("", "NOT_AN_ARCHIVE"),) == verify(file, tmp_path).faults


def test_a_broken_archive_is_named_and_raises_nothing(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    whole = packed(signer, item(1))
    spot = whole.index(b"https://x.example")
    file.write_bytes(whole[:spot] + b"HTTPS" + whole[spot + 5 :])
    assert (PATH, "UNREADABLE") in verify(file, tmp_path / "public").faults
