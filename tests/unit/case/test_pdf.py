"""Is a page drawn as PDF where there is a browser, and refused with a reason where there is none?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.case.adapters.pdf import BROWSERS, PdfUnavailable, render_pdf

PAGE = "<!doctype html><meta charset='utf-8'><title>t</title><p>증거 보고서</p>".encode()


@pytest.mark.slow
def test_a_page_becomes_a_pdf(tmp_path: Path) -> None:
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no Chromium on this machine")
    out = tmp_path / "report.pdf"
    render_pdf(PAGE, out)
    assert b"%PDF-" == out.read_bytes()[:5]


def test_without_a_browser_the_refusal_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(PdfUnavailable) as caught:
        render_pdf(PAGE, tmp_path / "report.pdf", path=str(tmp_path))
    assert "NO_BROWSER" == caught.value.reason
    assert [] == list(tmp_path.iterdir())
