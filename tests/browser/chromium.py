"""How does a test look at a page in a real browser? Debian's Chromium over its debugging pipe; no port, no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 60.0
"""Longest wait for one answer of the browser."""

MEASURE = """
(() => {
  const told = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth + 1) told.push(`the page is ${page.scrollWidth} wide in ${page.clientWidth}`);
  for (const e of document.body.querySelectorAll('*')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (style.display === 'none' || style.visibility === 'hidden' || !box.width || !box.height) continue;
    const words = (e.textContent || '').trim().slice(0, 40);
    const name = `${e.tagName.toLowerCase()}.${e.getAttribute('class') || ''} "${words}"`;
    const hides = ['hidden', 'clip'].includes(style.overflowX);
    if (hides && e.scrollWidth > e.clientWidth + 1 && e.tagName !== 'svg') told.push(`cut: ${name}`);
    const scrolled = e.closest('.scroll');
    if (!scrolled && !e.closest('.switch') && box.right > page.clientWidth + 1) told.push(`beyond the edge: ${name}`);
    if (e.tagName === 'text') {
      const chart = e.ownerSVGElement, frame = chart.getBoundingClientRect();
      const scale = frame.width / chart.viewBox.baseVal.width;
      if (box.left < frame.left - 1 || box.right > frame.right + 1) told.push(`outside its chart: ${name}`);
      if (parseFloat(style.fontSize) * scale < 9) told.push(`too small: ${name}`);
    }
  }
  return told;
})()
"""
"""What a reader would stumble over: anything wider than the screen, cut off, outside its chart or too small to read."""


def chromium() -> str:
    """The browser's path; empty where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""


class Browser:
    """One headless Chromium with one page."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self._process = process
        self._read = read
        self._write = write
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        """What the page's console and the page's scripts complained of since it was opened."""

    def attach(self) -> None:
        """Opens a page and listens to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def resize(self, width: int, scheme: str) -> None:
        """Gives the window a width and a colour scheme ("light", "dark")."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="", features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def show(self, file: Path) -> None:
        """Opens a file."""
        self.complaints.clear()
        self.call("Page.navigate", url=file.as_uri())
        end = time.monotonic() + ANSWER_SECONDS
        while self.value("document.readyState + location.href") != f"complete{file.as_uri()}":
            if time.monotonic() > end:
                raise TimeoutError("the page did not load")
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        return base64.b64decode(data)

    def print(self) -> bytes:
        """The page as it prints, PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol. Raises RuntimeError, TimeoutError."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self._heard(answer)

    def _heard(self, event: dict[str, Any]) -> None:
        """Keeps what is a complaint."""
        parameters = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"].get("text")))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(parameters["entry"]["text"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], ANSWER_SECONDS)
            if not ready:
                raise TimeoutError("the browser does not answer")
            found = os.read(self._read, 1 << 20)
            if not found:
                raise RuntimeError("the browser has gone")
            self._buffer += found
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in a folder; it ends with the block."""
    commands, write = os.pipe()
    read, answers = os.pipe()
    words = [
        chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder}",
    ]  # fmt: skip
    # The browser reads commands from 3 and answers on 4; a shell puts them there.
    script = f'exec "$@" 3<&{commands} 4>&{answers}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "bash", *words],
        pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(commands)
    os.close(answers)
    made = Browser(process, read, write)
    try:
        made.attach()
        yield made
    finally:
        with suppress(OSError):
            os.close(write)
        os.close(read)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
