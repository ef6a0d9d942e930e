"""An informer: it lists all objects of a kind, then watches them, again and again, in a thread of its own.

The official client has one. It is not used: it waits for ever for a connection that has gone silent, tries again without a
pause while the API server is away, and keeps objects by name, though a pod is its uid.

Everything is listed anew about once a minute, so that nothing depends on an event. What is told is JSON; what it means is not
known here.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow_operator.kube.api import Api, ApiFailure, ApiUnavailable
from fibflow_operator.kube.lists import pages

log = logger(__name__)
WATCHED = 60
"""Seconds until everything is listed anew."""
SILENT = 10
"""Seconds that the end of a watch may be late."""
LEAST, LONGEST_PAUSE = 1.0, 5.0
"""Seconds from one list to the next, at least; of a pause after a failure, at most, unless the server asks for a longer one."""
DEAF = 150.0
"""Seconds without an answer, be it none, after which it does not follow any more: more than a watch and its end last."""


class Receiver(Protocol):
    """Who is told, in the informer's thread."""

    def whole(self, version: int, objects: list[Mapping[str, Any]], begun: float) -> None:
        """A complete list, as of this version; it was asked for at `begun` (monotonic seconds)."""

    def event(self, type_: str, object_: Mapping[str, Any]) -> None:
        """ADDED, MODIFIED or DELETED."""


class Informer:
    """Follows the objects at `path` that a label selector chooses, between `start` and `stop`."""

    def __init__(self, api: Api, path: str, selector: str, receiver: Receiver) -> None:
        self._api, self._path, self._receiver = api, path, receiver
        self._chosen = {"labelSelector": selector}
        self._stop = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"informer {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell nothing more. A watch that is open ends with its connection."""
        self._stop.set()

    @property
    def alive(self) -> bool:
        """Whether it goes on, be it in vain."""
        return self._thread.is_alive() and time.monotonic() - self._turned < DEAF

    def _run(self) -> None:
        pause = 0.1
        while not self._stop.is_set():
            begun = self._turned = time.monotonic()
            try:
                self._watch(self._list())
                pause = 0.1
                self._stop.wait(max(begun + LEAST - time.monotonic(), 0))  # a watch may end as soon as it began
            except ApiFailure as failure:
                log.warning("informer_failed", path=self._path, error=one_line(failure)[:300])
                self._stop.wait(max(pause * random.uniform(0.5, 1), failure.retry_after))
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:  # what one object holds must not hide the others
                log.exception("informer_failed", path=self._path)
                self._stop.wait(LONGEST_PAUSE)

    def _list(self) -> str:
        """Tell a complete list; its version."""
        found: list[Mapping[str, Any]] = []
        version, begun = 0, time.monotonic()
        for page in pages(self._api, self._path, self._chosen):
            self._turned = time.monotonic()
            version, found = page.version, found + page.items
        if not self._stop.is_set():
            self._receiver.whole(version, found, begun)
        return str(version)

    def _watch(self, version: str) -> None:
        """Tell events from a version on, until the server ends the watch. Raises ApiFailure."""
        query = {**self._chosen, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCHED)}
        for line in self._api.lines(self._path, query, WATCHED + SILENT):
            self._turned = time.monotonic()
            event = json.loads(line)
            if self._stop.is_set():
                return
            if event["type"] == "ERROR":
                raise ApiUnavailable(one_line(event["object"].get("message", "the watch failed")))
            self._receiver.event(event["type"], event["object"])
