"""Which pictures does the evaluation of near duplicates take for strangers?"""

from __future__ import annotations

from pathlib import Path

from services.detector.evaluate_dedup.data import read_data

PICTURES = {"a1": b"portrait", "a2": b"mirrored", "b1": b"mirrored", "b2": b"another print", "c": b"somebody else"}


def listed(folder: Path) -> Path:
    """One portrait under the names A and B, since A's copy and B's first version are one file; and a stranger."""
    for name, content in PICTURES.items():
        (folder / name).write_bytes(content)
    names = ("k:A", "k:A", "k:B", "k:B", "k:C")
    rows = [f"{file},{name}" for file, name in zip(PICTURES, names, strict=True)]
    (folder / "manifest.csv").write_text("\n".join(["file,group", *rows]))
    (folder / "pairs.csv").write_text("a,b,label,set\na1,a2,mirror,s\nb1,b2,mirror,s\na1,c,different,s\n")
    return folder


def test_two_names_that_one_file_bears_are_no_strangers(tmp_path):
    data = read_data(listed(tmp_path))
    assert 1 == len({data.thing[file] for file in ("a1", "a2", "b1", "b2")})
    assert data.thing["c"] != data.thing["a1"]


def test_every_file_keeps_the_name_that_the_lists_give_it(tmp_path):
    data = read_data(listed(tmp_path))
    assert {"a1": "k:A", "a2": "k:A", "b1": "k:B", "b2": "k:B", "c": "k:C"} == data.shown
    assert [("k", sorted(PICTURES))] == [(kind, sorted(names)) for kind, names in data.strangers()]
