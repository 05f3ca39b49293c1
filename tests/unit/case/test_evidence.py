"""Does a pack show every change, and does the same evidence give the same bytes?"""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from services.case.adapters.signing import FileSigner
from services.case.domain.archive import canonical, contents_put_away, listing, statement, walk, write
from services.case.domain.custody import Touch
from services.case.domain.evidence import Choice, Item, Pack, build, choose
from services.case.domain.timestamps import time_token
from services.case.evidence_verify import PublicKeys, Verification, verify, verify_bytes

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
Files = dict[str, bytes]
PATH = "items/s1/capture.json"
THUMBNAIL = "items/s1/thumbnail.jpg"


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
        custody=(Touch("PULLED", NOW, "service:case", "taken over", "ab", "ab", f"s{number}"),),
    )


DOCUMENTS = {"EvidencePackReport.json": b"{}", "report.html": b"<p>report</p>"}


TIME = SigningKey(bytes(range(32)))


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    made = FileSigner(tmp_path / "private", tmp_path / "public")
    (tmp_path / "public" / "case-time.pub").write_text(f"{TIME.verify_key.encode().hex()}\nROLE_UNSPECIFIED\n")
    return made


def of(signer: FileSigner) -> Pack:
    return Pack("p", "c", 3, NOW, "evidence-1", signer.key_id, ["b", "a"], "ab" * 32)


def signed_by_time(content: bytes) -> bytes:
    return TIME.sign(content).signature


def sealed(signer: FileSigner, choice: Choice) -> bytes:
    """The archive of a choice, with a time a second later by a key that lies beside the signer's."""
    built = build(of(signer), choice, DOCUMENTS, signer.sign)
    return built.finished(time_token(built.imprint, "1", NOW + timedelta(seconds=1), "case-time", signed_by_time))


def packed(signer: FileSigner, *items: Item) -> bytes:
    return sealed(signer, Choice(items, ()))


def places(found: Verification) -> list[tuple[str, str]]:
    return [(fault.place, fault.reason) for fault in found.faults]


def rezip(path: Path, change: Callable[[Files], Mapping[str, bytes]]) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(write(change(files).items()))


def test_the_same_evidence_gives_the_same_bytes(signer: FileSigner) -> None:
    assert packed(signer, item(1), item(2)) == packed(signer, item(2), item(1))


def test_an_untouched_pack_is_valid(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1), item(2)))
    found = verify(file, tmp_path / "public")
    assert ([], "c", "p", 3, 2, 6) == (
        places(found),
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


@pytest.mark.parametrize("most_bytes", [9_000, 20_000, 30_000, 45_000])
def test_a_pack_stays_below_its_bound_and_names_what_it_leaves_out(
    signer: FileSigner, tmp_path: Path, most_bytes: int
) -> None:
    newest_first = [replace(item(n), files=dict(item(n).files) | {"masked.txt": b"x" * 5_000}) for n in range(6, 0, -1)]
    choice = choose(of(signer), newest_first, DOCUMENTS, most_bytes)
    file = tmp_path / "pack.zip"
    file.write_bytes(sealed(signer, choice))
    assert file.stat().st_size <= most_bytes
    assert verify(file, tmp_path / "public").valid
    manifest = read(file)
    kept = len(choice.packed)
    assert [f"s{n}" for n in range(7 - kept, 7)] == [entry["sighting_id"] for entry in manifest["items"]]
    assert [f"s{n}" for n in range(1, 7 - kept)] == [entry["sighting_id"] for entry in manifest["omitted"]]
    assert [3] * (6 - kept) == [len(list(entry["files"])) for entry in manifest["omitted"]]  # type: ignore[call-overload] # a list in the JSON
    # Not so careful that it wastes room for another item.
    assert kept == 6 or most_bytes - file.stat().st_size < 5_000 + 4_000


def test_of_a_superseded_pack_the_signed_manifest_stays_and_a_mark_says_why(
    signer: FileSigner, tmp_path: Path
) -> None:
    whole, left = tmp_path / "whole.zip", tmp_path / "left.zip"
    whole.write_bytes(packed(signer, item(1)))
    digest = verify(whole, tmp_path / "public").manifest_sha256
    mark = statement({"pack_id": "p", "version": 3, "manifest_sha256": digest}, signer.sign)
    left.write_bytes(contents_put_away(whole.read_bytes(), mark))
    assert read(whole) == read(left)
    found = verify(left, tmp_path / "public")
    assert ([], True) == (places(found), found.superseded)


def test_contents_that_are_missing_without_our_mark_are_missing(signer: FileSigner, tmp_path: Path) -> None:
    whole, left = tmp_path / "whole.zip", tmp_path / "left.zip"
    whole.write_bytes(packed(signer, item(1)))
    stranger = SigningKey.generate()
    digest = verify(whole, tmp_path / "public").manifest_sha256
    mark = statement({"manifest_sha256": digest}, lambda content: stranger.sign(content).signature)
    left.write_bytes(contents_put_away(whole.read_bytes(), mark))
    found = places(verify(left, tmp_path / "public"))
    assert ("superseded.json", "MARK_INVALID") == found[0]
    assert {"FILE_MISSING"} == {reason for _, reason in found[1:]}


def manifest_with(files: Files, **values: object) -> bytes:
    return canonical(json.loads(files["manifest.json"]) | values)


def signature_with(files: Files, **values: object) -> bytes:
    return canonical(json.loads(files["manifest.sig"]) | values)


def later(files: Files) -> bytes:
    """The time token with another time in it."""
    token = json.loads(files["manifest.time"])
    token["statement"]["time"] = "2026-03-03T00:00:00.000Z"
    return canonical(token)


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        (lambda f: f | {PATH: f[PATH].replace(b"/1", b"/2")}, PATH, "HASH_DIFFERS"),
        (lambda f: f | {PATH: f[PATH] + b" "}, PATH, "SIZE_DIFFERS"),
        (lambda f: {n: c for n, c in f.items() if n != PATH}, PATH, "FILE_MISSING"),
        (lambda f: f | {"items/s1/more.txt": b"x"}, "items/s1/more.txt", "FILE_ADDED"),
        (lambda f: f | {"manifest.json": manifest_with(f, version=4)}, "manifest.json", "HASH_DIFFERS"),
        (lambda f: f | {"manifest.json": b" " + f["manifest.json"]}, "manifest.json", "HASH_DIFFERS"),
        (lambda f: f | {"manifest.json": b"{}"}, "manifest.json", "HASH_DIFFERS"),
        (lambda f: f | {"manifest.json": b"[" * 100_000}, "manifest.json", "HASH_DIFFERS"),
        (lambda f: {n: c for n, c in f.items() if n != "manifest.json"}, "manifest.json", "MANIFEST_MISSING"),
        (lambda f: f | {"manifest.sig": b"{}"}, "manifest.sig", "SIGNATURE_MALFORMED"),
        (lambda f: f | {"manifest.sig": signature_with(f, signature="00" * 64)}, "manifest.sig", "SIGNATURE_INVALID"),
        (lambda f: {n: c for n, c in f.items() if n != "manifest.sig"}, "manifest.sig", "SIGNATURE_MISSING"),
        (lambda f: f | {"manifest.time": b"{}"}, "manifest.time", "TIME_MALFORMED"),
        (lambda f: f | {"manifest.time": later(f)}, "manifest.time", "TIME_INVALID"),
        (lambda f: {n: c for n, c in f.items() if n != "manifest.time"}, "manifest.time", "TIME_MISSING"),
        (lambda f: f | {"report.html": b"<p>retort</p>"}, "report.html", "HASH_DIFFERS"),
        (lambda f: dict([*list(f.items())[:-2], *reversed(list(f.items())[-2:])]), THUMBNAIL, "ORDER_DIFFERS"),
    ],
)  # fmt: skip
def test_every_change_is_named(
    signer: FileSigner, tmp_path: Path, change: Callable[[Files], Mapping[str, bytes]], place: str, reason: str
) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    rezip(file, change)
    assert (place, reason) == places(verify(file, tmp_path / "public"))[0]


def test_a_hash_that_differs_is_shown_beside_the_one_it_should_be(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    content = item(1).files["capture.json"]
    changed = content.replace(b"/1", b"/2")
    rezip(file, lambda files: files | {PATH: changed})
    [fault] = verify(file, tmp_path / "public").faults
    expected = hashlib.sha256(content).hexdigest(), hashlib.sha256(changed).hexdigest()
    assert expected == (fault.expected, fault.actual)


def test_a_pack_of_an_unknown_key_cannot_be_judged_and_one_of_another_is_not_valid(
    signer: FileSigner, tmp_path: Path
) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    unknown = verify(file, tmp_path / "private")
    assert [("manifest.sig", "KEY_UNKNOWN"), ("manifest.time", "KEY_UNKNOWN")] == places(unknown)
    assert not unknown.judged
    FileSigner(tmp_path / "other", tmp_path / "others")
    other = verify(file, tmp_path / "others")
    assert ("manifest.sig", "SIGNATURE_INVALID") == places(other)[0]
    assert other.judged


@pytest.mark.parametrize("roles", ["ROLE_SERVICE_CASE", "ROLE_UNSPECIFIED ROLE_OPERATOR"])
def test_a_key_that_signs_actors_signs_no_evidence(signer: FileSigner, tmp_path: Path, roles: str) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    public = tmp_path / "public" / f"{signer.key_id}.pub"
    public.write_text(f"{public.read_text().split()[0]}\n{roles}\n")
    assert [("manifest.sig", "KEY_UNKNOWN")] == places(verify(file, tmp_path / "public"))


def test_a_key_for_times_signs_no_evidence(tmp_path: Path) -> None:
    signer = FileSigner(tmp_path / "private", tmp_path / "public", "case-time")
    file = tmp_path / "pack.zip"
    built = build(of(signer), Choice([item(1)], ()), DOCUMENTS, signer.sign)
    file.write_bytes(built.finished(time_token(built.imprint, "1", NOW, signer.key_id, signer.sign)))
    assert [("manifest.sig", "KEY_UNKNOWN")] == places(verify(file, tmp_path / "public"))


def test_a_time_before_the_pack_was_made_is_not_believed(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    built = build(of(signer), Choice([item(1)], ()), DOCUMENTS, signer.sign)
    early = time_token(built.imprint, "1", NOW - timedelta(days=1), "case-time", signed_by_time)
    file.write_bytes(built.finished(early))
    found = verify(file, tmp_path / "public")
    assert ([("manifest.time", "TIME_IMPOSSIBLE")], "") == (places(found), found.signed_time)


def test_evidence_that_changed_between_two_hands_is_named(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    hands = (
        Touch("REDUCED", NOW, "service:detector", "reduced", "aa", "bb", "s1"),
        Touch("PULLED", NOW, "service:case", "taken over", "cc", "cc", "s1"),
    )
    file.write_bytes(packed(signer, replace(item(1), custody=hands)))
    assert [("manifest.json", "CUSTODY_BROKEN")] == places(verify(file, tmp_path / "public"))


def test_a_compressed_file_is_named_and_not_unpacked(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(packed(signer, item(1)))
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if name == PATH else zipfile.ZIP_STORED)
    assert (PATH, "UNREADABLE") == places(verify(file, tmp_path / "public"))[0]


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 nothing"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(content)
    assert [("", "NOT_AN_ARCHIVE")] == places(verify(file, tmp_path))


def test_a_changed_date_in_a_header_is_named(signer: FileSigner, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    whole = bytearray(packed(signer, item(1)))
    [spot] = [member.offset for member in walk(bytes(whole)).members if member.name == PATH]
    whole[spot + 12] ^= 1
    file.write_bytes(whole)
    assert [(PATH, "BYTES_DIFFER")] == places(verify(file, tmp_path / "public"))


def test_a_pack_of_the_first_format_is_still_read(signer: FileSigner, tmp_path: Path) -> None:
    files: Files = {PATH: b"{}"}
    manifest = canonical(
        {
            "format": "jikimi-evidence/1",
            "pack_id": "p",
            "case_id": "c",
            "version": 1,
            "key_id": signer.key_id,
            "items": [{"sighting_id": "s1", "files": listing(files)}],
        }
    )
    said = {"algorithm": "Ed25519", "key_id": signer.key_id, "signature": signer.sign(manifest).hex()}
    file = tmp_path / "pack.zip"
    file.write_bytes(write({"manifest.json": manifest, "manifest.sig": canonical({**said}), **files}.items()))
    found = verify(file, tmp_path / "public")
    assert ([], "c", 1) == (places(found), found.case_id, found.files)
    rezip(file, lambda files: files | {PATH: b"{ }"})
    assert [(PATH, "SIZE_DIFFERS")] == places(verify(file, tmp_path / "public"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("format", "pack_id", "case_id", "version", "key_id", "files", "items", "custody", "merkle_root", "create_time")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(["manifest.json", "manifest.sig", "manifest.time"]), st.sampled_from(NAMES), VALUES)
def test_whatever_stands_in_the_seals_is_judged_and_raises_nothing(
    signer: FileSigner, tmp_path: Path, member: str, name: str, value: object
) -> None:
    files = {each.name: each.content or b"" for each in walk(packed(signer, item(1))).members}
    changed = json.dumps(json.loads(files[member]) | {name: value}).encode()
    found = verify_bytes(write((files | {member: changed}).items()), PublicKeys([tmp_path / "public"]))
    assert not found.valid or changed == files[member]


# --- 1,000 random ones ---


def tampered(kind: str, whole: bytes, rng: random.Random) -> tuple[bytes, set[str]]:
    """(changed archive, places of which one must be named first)."""
    members = list(walk(whole).members)
    files = {member.name: member.content or b"" for member in members}
    names = list(files)
    name = rng.choice(names)
    at = rng.randrange(len(whole))
    match kind:
        case "flip":
            changed = bytearray(whole)
            changed[at] ^= 1 << rng.randrange(8)
            return bytes(changed), place_at(whole, at)
        case "delete":
            return write((n, c) for n, c in files.items() if n != name), {name}
        case "swap":
            other = rng.choice([each for each in names if each != name])
            first = min(name, other, key=names.index)
            return write((files | {name: files[other], other: files[name]}).items()), {first}
        case "insert":
            where = rng.randrange(len(names) + 1)
            items = list(files.items())
            return write([*items[:where], ("items/s9/extra.txt", b"x"), *items[where:]]), {"items/s9/extra.txt"}
        case "truncate":
            return whole[:at], place_at(whole, at) | {"manifest.json", "(directory)"}
        case "content":
            return write((files | {name: files[name] + b" "}).items()), {name}
        case "reorder":
            order = [*names]
            one, two = sorted(rng.sample(range(len(names)), 2))
            order[one], order[two] = order[two], order[one]
            return write((n, files[n]) for n in order), {order[one], names[one]}
        case "signature":
            value = json.loads(files["manifest.sig"])
            value["signature"] = rng.randbytes(64).hex()
            return write((files | {"manifest.sig": canonical(value)}).items()), {"manifest.sig"}
        case "page":
            return write((files | {"report.html": b"<p>forged</p>"}).items()), {"report.html"}
        case _:
            return whole + rng.randbytes(rng.randrange(1, 40)), {"(directory)"}


def place_at(whole: bytes, at: int) -> set[str]:
    """The member in which a byte lies; a change of a length in its header moves the one behind it."""
    walked = walk(whole)
    if at >= walked.end:
        return {"(directory)"}
    inside = max((member for member in walked.members if member.offset <= at), key=lambda member: member.offset)
    return {inside.name}


KINDS = ["flip", "delete", "swap", "insert", "truncate", "content", "reorder", "signature", "page", "append"]


@pytest.mark.slow
def test_a_thousand_random_changes_of_packs_are_found_where_they_are(signer: FileSigner, tmp_path: Path) -> None:
    rng = random.Random(20260303)
    keys = PublicKeys([tmp_path / "public"])
    whole = packed(signer, *(item(n) for n in range(1, 6)))
    assert verify_bytes(whole, keys).valid
    missed, elsewhere = [], []
    for number in range(1_000):
        kind = KINDS[number % len(KINDS)]
        changed, expected = tampered(kind, whole, rng)
        while changed == whole:  # two files that hold the same changed places
            changed, expected = tampered(kind, whole, rng)
        found = verify_bytes(changed, keys)
        if found.valid:
            missed.append((number, kind))
        elif found.faults[0].place not in expected:
            elsewhere.append((number, kind, found.faults[0], expected))
    assert ([], []) == (missed, elsewhere)
