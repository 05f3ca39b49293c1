"""The evaluation's report as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]


def table(report: Row) -> str:
    """All of it."""
    return "\n".join(_lines(report))


def _lines(report: Row) -> Iterator[str]:
    yield f"near-duplicate rules {report['rules']}; {report['pictures']} pictures; largest fingerprint "
    yield f"{report['largest_fingerprint_bytes']} bytes. Data with US public figures, mostly white and older."
    yield "\nlisted pairs: alone, and found among all pictures as contents of one subscriber"
    for row in report["pairs"]:
        wish = "should join" if row["should_join"] else "must not   "
        yield f"  {wish} {row['label']:28} {row['set']:18} {_counted(row)}"
    yield "\ntransforms of originals"
    for row in report["transforms"]:
        yield f"  {row['class']:11} {row['transform']:26} {row['of']:15} {_counted(row)}"
    for row in report["classes"]:
        name = f"all {row['class']}"
        yield f"  {name:38} {row['of']:15} {_counted(row)}; worst {row['worst']} {row['worst_share']:.3f}"
    yield "\nstrangers: all pairs"
    for row in report["strangers"]:
        yield f"  {row['of']:28} {row['pictures']:6} pictures  joined {row['joined']}/{row['pairs']}"
        for a, b in row["joined_pairs"]:
            yield f"      {a}  {b}"
    yield "\nmargins: threshold, nearest stranger, copies that the rule joined (1st, 5th, 10th, 50th percentile)"
    for name, row in report["margins"].items():
        spread = " ".join(f"{value:g}" for value in row["copies_percentiles"].values())
        yield f"  {name:12} {row['threshold']:<6} {row['nearest_stranger']!s:8} {row['copies_joined']:6}  {spread}"
    yield "\ntexts"
    for row in report["texts"]["reposts"]:
        yield f"  should join {row['change']:34} {_counted(row)}"
    for row in report["texts"]["others"]:
        yield f"  must not    {row['of']:34} {row['joined']}/{row['pairs']}, most alike {row['most_alike']}"


def _counted(row: Row) -> str:
    text = f"{row['joined']:6}/{row['pairs']:<6} {row['share']:.3f}"
    if "share_among_all" in row:
        text += f" ({row['share_among_all']:.3f})"
    if "floor" in row:
        text += f"  {'meets' if row['holds'] else 'MISSES'} {row['floor']}"
    return text + "  " + ", ".join(f"{rule} {count}" for rule, count in row.get("by_rule", {}).items())
