"""A headless Chromium, over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

_START_SECONDS = 60
_ANSWER_SECONDS = 60


class Browser:
    """One page of it."""

    def __init__(self, address: str) -> None:
        # Chromium answers programs that name no origin alone.
        self._socket = websocket.create_connection(address, timeout=_ANSWER_SECONDS, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []
        self.loaded = False

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._happened(message)

    def _happened(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["exception"].get("description", "an exception"))
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif message["method"] == "Page.loadEventFired":
            self.loaded = True

    def open(self, path: Path, width: int, height: int, scheme: str) -> None:
        """At this size, in the colours that the person prefers: light or dark."""
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1 + phone, mobile=phone
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.errors, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + _ANSWER_SECONDS
        while not self.loaded:
            assert time.monotonic() < end, f"{path} does not load"
            self.call("Runtime.evaluate", expression="0")
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, after two frames: what was asked to be drawn has been."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        script = f"{frames}.then(() => ({expression}))"
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Started for the block. Its profile is in the folder."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "there is no Chromium: install it (Debian: apt-get install chromium)"
    # No sandbox of its own, which root and containers cannot have: it opens our file alone.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
    profile = folder / "profile"
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdout=log,
            stderr=log,
        )
    try:
        yield Browser(_address(process, profile, folder / "chromium.log"))
    finally:
        process.terminate()
        process.wait(10)


def _address(process: subprocess.Popen[bytes], profile: Path, log: Path) -> str:
    """Of the first page's socket. The port is in a file, and the page in the list that the port answers with."""
    import urllib.request

    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{int(port)}/json/list", timeout=5) as answer:
                targets = json.load(answer)
            return next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        time.sleep(0.1)
    raise AssertionError(f"Chromium did not start: {log.read_text()[-2000:]}")
