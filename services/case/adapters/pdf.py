"""How does a page become a PDF? By the Chromium of the machine, where there is one, without network.

Scripts cannot be turned off (Chromium then prints nothing); the page's own policy allows none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120


class PdfUnavailable(Exception):
    """No PDF could be drawn; `reason` is NO_BROWSER or BROWSER_FAILED."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def render_pdf(page: bytes, out: Path, *, path: str | None = None) -> None:
    """Draws a self-contained page as PDF with a browser that is found in `path` (default: PATH). Raises PdfUnavailable,
    OSError where `out` cannot be written.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name, path=path))), None)
    if browser is None:
        raise PdfUnavailable("NO_BROWSER", "A PDF needs Chromium (Debian: chromium); the page itself is in the pack.")
    with tempfile.TemporaryDirectory(prefix="jikimi-pdf-") as folder:
        source, made = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_bytes(page)
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--no-pdf-header-footer",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={made}",
            # Chromium refuses to run as root in its sandbox; the page is ours, has no script and no address in it.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            source.as_uri(),
        ]
        try:
            subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise PdfUnavailable("BROWSER_FAILED", "The browser did not draw the page.") from None
        if not made.exists():
            raise PdfUnavailable("BROWSER_FAILED", "The browser did not draw the page.")
        out.write_bytes(made.read_bytes())
