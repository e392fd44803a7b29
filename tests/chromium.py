"""Headless Chromium, driven over its own protocol: what a person does with a page, for tests of pages."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
here = pytest.mark.skipif(BINARY is None, reason="no Chromium on the PATH to open the page in")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    *QUIET,
)


class Page:
    def __init__(self, address: str) -> None:
        self.socket, self.asked = websocket.create_connection(address, timeout=60, suppress_origin=True), 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": parameters}))
        while True:  # events come between the answers
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.asked:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def js(self, expression: str) -> Any:
        """Its value; what it promises is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Waits until it is true, or there."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression}: not within {seconds} s"
            time.sleep(0.2)

    def go(self, address: str) -> None:
        """To another page, once all of it is there, pictures too."""
        self.js("window.left = true")
        self.call("Page.navigate", url=address)
        self.until("!window.left && document.readyState == 'complete'")

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def type(self, selector: str, text: str) -> None:
        """Into a field, as if with keys, in the place of what is there."""
        self.js(f"{{ const field = document.querySelector({json.dumps(selector)}); field.focus(); field.select(); }}")
        self.call("Input.insertText", text=text)

    def press(self, selector: str, key: str, code: int) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]))


@contextmanager
def opened(address: str, folder: Path, size: tuple[int, int] = (1280, 900)) -> Iterator[Page]:
    """A page at an address; the browser keeps what it has to in `folder`."""
    assert BINARY is not None
    command = [BINARY, *OPTIONS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            end, told = time.monotonic() + 60, folder / "DevToolsActivePort"
            while not (told.is_file() and len(told.read_text().splitlines()) == 2):
                assert browser.poll() is None and time.monotonic() < end, "the browser did not start"
                time.sleep(0.1)
            port = told.read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=60) as answer:
                target = next(t for t in json.load(answer) if t["type"] == "page")
            page = Page(target["webSocketDebuggerUrl"])
            page.go(address)
            yield page
            page.socket.close()
        finally:
            browser.kill()
