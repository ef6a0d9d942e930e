"""The watch on our own resources: kopf tells of every event, and each is handed on at once. Only this module knows kopf.

It decides nothing, and keeps nothing in resources: no finalizer, no annotation. kopf runs in a thread and an event loop
of its own, for it takes the loop that it runs in for its own; it is started anew whenever it ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow_operator.kube.api import Credentials
from fibflow_operator.world import GROUP, VERSION, Kind

log = logger(__name__)
LOOP_TURNS = 60.0
"""Seconds within which kopf's loop must have turned; a list of ten thousand resources holds it up for some."""
AGAIN_AFTER = 2.0
"""Seconds until a watch that ended is started anew."""
IDENTITY: Any = "fibflow"
"""Who we are to other operators of kopf. There are none, but it would ask for the user's name, which a pod's may lack."""

Deliver = Callable[[str, str | None, Mapping[str, Any]], None]


class ResourceWatch:
    """Tells `deliver(kind, event, resource)` of each event, from another thread, between `start` and `stop`."""

    def __init__(self, credentials: Callable[[], Credentials], namespaces: Sequence[str], deliver: Deliver) -> None:
        self._credentials = credentials
        self._namespaces = namespaces
        self._deliver = deliver
        self._stop = threading.Event()
        self._turned = time.monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="kopf", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Begin anew, without a word from the watch that there was."""
        log.warning("watch_renewed")
        self._stop.set()
        self._stop = threading.Event()
        self.start()

    def stop(self) -> None:
        """End it; nothing is delivered any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    @property
    def alive(self) -> bool:
        """Whether its loop turns, or it is about to be started anew."""
        running = self._thread is not None and self._thread.is_alive()
        return running and time.monotonic() - self._turned < LOOP_TURNS

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                asyncio.run(self._watch(stop))
            except (Exception, SystemExit) as error:
                log.warning("watch_ended", error=one_line(error)[:300])
            stop.wait(AGAIN_AFTER)

    async def _watch(self, stop: threading.Event) -> None:
        everywhere = not self._namespaces
        beat = asyncio.ensure_future(self._beat(stop))
        try:
            await kopf.operator(
                registry=self._registry(stop),
                settings=_settings(),
                standalone=True,
                identity=IDENTITY,
                clusterwide=everywhere,
                namespaces=() if everywhere else tuple(self._namespaces),
                stop_flag=stop,
            )
        finally:
            beat.cancel()

    async def _beat(self, stop: threading.Event) -> None:
        """Note that kopf's loop turns."""
        while not stop.is_set():
            self._turned = time.monotonic()
            await asyncio.sleep(1)

    def _registry(self, stop: threading.Event) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in Kind:
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)(self._handler(kind, stop))
        return registry

    def _handler(self, kind: Kind, stop: threading.Event) -> Any:
        async def handler(event: Mapping[str, Any], **_: Any) -> None:
            if not stop.is_set():
                self._deliver(kind, event["type"], event["object"])

        return handler

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        now = self._credentials()
        return kopf.ConnectionInfo(
            server=now.server,
            ca_path=now.ca_file,
            insecure=now.insecure,
            certificate_path=now.certificate,
            private_key_path=now.key,
            scheme="Bearer" if now.token else None,
            token=now.token,
        )


def _settings() -> kopf.OperatorSettings:
    """No rights on other resources are needed, nothing is written, and a silent connection is not waited for long."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.reconnect_backoff = 0.1
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 1
    settings.persistence.diffbase_storage = NothingKept()
    settings.persistence.progress_storage = NoProgress()
    return settings


class NothingKept(kopf.DiffBaseStorage):
    """kopf compares a resource with what it kept of it, for handlers that we have none of: a third of its work."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


class NoProgress(kopf.ProgressStorage):
    """Nor is there any progress of such handlers to keep."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""

    def purge(self, **_: Any) -> None:
        """Nothing was kept."""

    def touch(self, **_: Any) -> None:
        """Nothing is kept."""

    def clear(self, *, essence: Any) -> Any:
        return essence
