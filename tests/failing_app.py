"""An application whose worker fails by a fault of its own, while a thread runs that never ends."""

import threading

from fibflow import App
from fibflow_worker.maintenance import Maintenance

app = App()


class Fault(Exception):
    """What nobody expects."""


async def fail(self: Maintenance) -> None:
    threading.Thread(target=threading.Event().wait).start()
    raise Fault


Maintenance._prune = fail  # type: ignore[method-assign]
