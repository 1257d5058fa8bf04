"""A headless Chromium, told what to do by its own debugging protocol."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

#: The names that the program has; `tools/setup local` installs Debian's.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --no-proxy-server
    --disable-background-networking --disable-component-update --disable-sync --remote-debugging-port=0
    --remote-allow-origins=* --window-size=1400,900
""".split()  # noqa: SIM905  a list of words reads better as words


def program() -> str | None:
    """The browser of this computer, if it has one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One window with one page."""

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = Path(self._folder.name)
        self._process = subprocess.Popen(
            [program() or "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not (profile / "DevToolsActivePort").exists():
            assert self._process.poll() is None, "the browser does not start"
            assert time.monotonic() < deadline, "the browser is not ready after 60 s"
            time.sleep(0.1)
        port = (profile / "DevToolsActivePort").read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            (page,) = (each for each in json.load(answer) if each["type"] == "page")
        self._numbers = itertools.count(1)
        self._channel = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, http_no_proxy=["*"])
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._folder.cleanup()

    def tell(self, method: str, **words: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        number = next(self._numbers)
        self._channel.send(json.dumps({"id": number, "method": method, "params": words}))
        while True:
            heard = json.loads(self._channel.recv())
            if heard.get("id") == number:
                assert "error" not in heard, heard
                return heard["result"]

    def go(self, address: str) -> None:
        """Open an address."""
        self.tell("Page.navigate", url=address)

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression, or what its promise gives; None while there is no page."""
        said = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return None if "exceptionDetails" in said else said["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression, once it is true.

        Raises:
            AssertionError: it is not in time.
        """
        deadline = time.monotonic() + seconds
        while not (value := self.ask(script)):
            shown = self.ask("document.title + ': ' + document.body.innerText.slice(0, 300)")
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}; the page shows: {shown}"
            time.sleep(0.2)
        return value

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        box = f"JSON.stringify(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        place = json.loads(self.until(box))
        middle = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.tell("Input.dispatchMouseEvent", type=kind, **middle, **button)
