"""Callers whose scripts sleep: the runtimes' places are taken, and hardly any CPU is."""

from __future__ import annotations

import threading
import time
import urllib.error
from typing import Any, Self

from .edge_load import call


class Callers:
    """Each a user of its own, with one execution after the other until the end of the block."""

    def __init__(self, seconds: float) -> None:
        self.script = {"script_content": f"import time\ntime.sleep({seconds})\nresult = 1"}
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def at_least(self, count: int) -> None:
        """Start those that are missing."""
        while len(self.threads) < count:
            self.threads.append(threading.Thread(target=self._call_again_and_again, args=(len(self.threads),)))
            self.threads[-1].start()

    def _call_again_and_again(self, number: int) -> None:
        user = {"X-User-ID": f"sleeping-{time.time_ns()}-{number}"}
        session: dict[str, Any] = {}
        while not self.over.is_set():
            try:
                session = session or call(
                    "/api/v1/initialize", self.script, **user, **{"Language-Title": "python-sleeping"}
                )
                call(f"/api/v1/execute/{session['request_id']}", {"params": {}}, **user)
            except urllib.error.HTTPError as error:
                assert error.code >= 500, error  # no room, which is what the callers are for, or something is broken
                self.over.wait(0.5)
