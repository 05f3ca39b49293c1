"""Can every page of the gate be read in a real browser, at both widths, in both colour schemes and both languages?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import MEASURE, Browser, browser, chromium
from tests.data import gate_pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium(), reason="no chromium on this machine: pages are not looked at"),
]
LOOKS = ((1280, "light", "ko"), (390, "dark", "en"), (1280, "dark", "en"), (390, "light", "ko"))
PAGES = gate_pages.names()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page, saved."""
    made = tmp_path_factory.mktemp("pages")
    gate_pages.write_pages(made)
    return made


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages."""
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_and_nothing_complains(name: str, folder: Path, window: Browser) -> None:
    told: dict[str, list[str]] = {}
    window.show(folder / f"{name}.html")
    for width, scheme, language in LOOKS:
        window.resize(width, scheme)
        window.value(f"document.getElementById('show-{language}').click()")
        found = [*window.value(MEASURE), *window.complaints]
        if found:
            told[f"{width} {scheme} {language}"] = found
    assert {} == told


def test_a_page_that_is_cut_off_would_be_found(tmp_path: Path, window: Browser) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><body><p style='width:90px;overflow:hidden;white-space:nowrap'>far too many words for this</p>"
        "<p style='width:2000px'>wide</p><script>console.error('no')</script>"
    )
    window.show(bad)
    window.resize(390, "light")
    told = " ".join(window.value(MEASURE))
    assert all(what in told for what in ("cut: p", "beyond the edge: p", "the page is"))
    assert 1 == len(window.complaints)


def test_the_switch_shows_one_language_alone(folder: Path, window: Browser) -> None:
    window.show(folder / "index.html")
    shown = "[...document.querySelectorAll('main span[lang=%s]')].filter(e => e.offsetParent).length"
    counts = [(window.value(shown % "ko") > 0, window.value(shown % "en") > 0)]
    window.value("document.getElementById('show-en').click()")
    counts.append((window.value(shown % "ko") > 0, window.value(shown % "en") > 0))
    assert [(True, False), (False, True)] == counts


def test_dark_pages_are_dark(folder: Path, window: Browser) -> None:
    window.show(folder / "index.html")

    def shade(scheme: str) -> int:
        window.resize(1280, scheme)
        first = "parseInt(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"
        return int(window.value(first))

    assert shade("dark") < 64 < 192 < shade("light")


def test_a_page_prints(folder: Path, window: Browser) -> None:
    window.show(folder / "PlatformTTRReport_v1.html")
    assert window.print().startswith(b"%PDF")
