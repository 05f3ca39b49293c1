"""What does `jikimi trace` do?"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.console.home import Home
from services.console.output import CannotDo, print_rows
from services.console.spans import SpanStore, store_of
from services.console.trace_tree import Line, TraceTree, duration, tree_of

BAR = 36
SERVICE_TONES = {"detector": "blue", "case": "green", "notify": "magenta", "removal": "yellow", "gate": "cyan"}


async def trace(home: Home, options: argparse.Namespace) -> int:
    """Shows the traces of a case, of another entity, or one by its id; without any, the slowest lately."""
    file = store_of(home)
    if not file.exists():
        raise CannotDo("No spans are kept here; `make observe` starts what keeps them.")
    with closing(SpanStore(file)) as store:
        if not options.case:
            return _list(store, options)
        trees = [tree_of(spans) for each in store.traces_of(options.case) if (spans := store.spans(each))]
    if not trees:
        raise CannotDo("Nothing is known of it here. Spans arrive within seconds; the oldest make room for new ones.")
    if options.html:
        Path(options.html).write_text(page_of(options.case, trees), encoding="utf-8")
        print(f"Saved {options.html}")
    elif options.json:
        print(json.dumps([_facts(tree) for tree in trees]))
    else:
        show(trees, Console())
    return 0


def _list(store: SpanStore, options: argparse.Namespace) -> int:
    found = store.slowest()
    facts = [{"trace_id": trace_id, "seconds": round(seconds, 6), "failed": bad} for trace_id, seconds, bad in found]
    rows = [(trace_id, duration(seconds), "failed" if bad else "") for trace_id, seconds, bad in found]
    print_rows(options, facts, ("trace", "time", ""), rows)
    return 0


def _facts(tree: TraceTree) -> dict[str, object]:
    return {
        "trace_id": tree.trace_id,
        "begin_time": _time(tree).isoformat(),
        "seconds": round(tree.seconds, 6),
        "earlier": tree.earlier,
        "spans": [
            {
                "span_id": line.span.span_id,
                "parent_id": line.span.parent_id,
                "service": line.span.service,
                "name": line.span.name,
                "begin_seconds": round(line.begin * tree.seconds, 6),
                "seconds": round(line.span.seconds, 6),
                "waited_seconds": round(line.span.waited, 6),
                "failed": line.span.failed,
                "slowest": line.slowest,
                "attributes": line.span.attributes,
            }
            for line in tree.lines
        ],
    }


def _time(tree: TraceTree) -> datetime:
    return datetime.fromtimestamp(tree.begin_ns / 1e9, UTC)


# --- terminal ---


def show(trees: list[TraceTree], console: Console) -> None:
    """Every trace as a tree with bars: light where something waited, full where it was worked on."""
    for tree in trees:
        console.print(_heading(tree))
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("span", overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("when", no_wrap=True, min_width=BAR)
        table.add_column("took", justify="right", no_wrap=True)
        table.add_column("of that", overflow="fold")
        for line in tree.lines:
            table.add_row(_name(line), _bar(line), Text(duration(line.span.seconds), _tone(line)), line.notes)
        console.print(table)
        if (slow := tree.slowest) is not None:
            console.print(Text(f"Most of the time: {slow.span.service}, {slow.what}. {_why(slow)}", "bold"))
        console.print()


def _heading(tree: TraceTree) -> Text:
    text = Text(f"trace {tree.trace_id}", "bold")
    text.append(f"  {_time(tree).astimezone():%Y-%m-%d %H:%M:%S}  {duration(tree.seconds)}", "not bold")
    for earlier in tree.earlier:
        text.append(f"\n  goes on from {earlier}", "dim")
    return text


def _why(line: Line) -> str:
    span = line.span
    if span.waited > span.seconds / 2:
        return f"It waited {duration(span.waited)} of {duration(span.seconds)} before {span.service} took it up."
    return f"It was worked on for {duration(span.seconds - span.waited)}."


def _name(line: Line) -> Text:
    text = Text("  " * line.depth)
    text.append(f"{line.span.service} ", SERVICE_TONES.get(line.span.service, "white"))
    return text.append(line.what, "bold" if line.slowest else "")


def _bar(line: Line) -> Text:
    begin, taken, end = (round(BAR * each) for each in (line.begin, line.taken, line.end))
    begin = min(begin, BAR - 1)
    taken, end = max(begin, taken), max(begin + 1, end)
    bar = Text(" " * begin)
    bar.append("░" * (taken - begin), _tone(line)).append("█" * (end - taken), _tone(line))
    return bar


def _tone(line: Line) -> str:
    return "red" if line.span.failed else "yellow" if line.slowest else "bright_black"


# --- page ---


def page_of(wanted: str, trees: list[TraceTree]) -> str:
    """The traces as one page that needs nothing else, Korean and English."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(duration=duration, time_of=_time)
    return environment.get_template("trace.html.j2").render(wanted=wanted, trees=trees)
