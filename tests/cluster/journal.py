"""The calls that have been made, as they are answered; read and waited for from any thread."""

import threading
import time

from .calls import Call


class Journal:
    """A list of calls that one can wait on."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._more = threading.Condition()

    def add(self, call: Call) -> None:
        """Append a call and wake who waits."""
        with self._more:
            self._calls.append(call)
            self._more.notify_all()

    def calls(self, **where: str) -> list[Call]:
        """The calls so far that fit: calls(verb="list", resource="pods")."""
        with self._more:
            return [call for call in self._calls if call.fits(where)]

    def forget(self) -> None:
        """Begin anew."""
        with self._more:
            self._calls.clear()

    def wait_for(self, count: int = 1, seconds: float = 30, **where: str) -> list[Call]:
        """Return the calls that fit once there are so many of them."""
        deadline = time.monotonic() + seconds
        with self._more:
            while len(found := self.calls(**where)) < count:
                if not self._more.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(found)} of {count} calls with {where} within {seconds:g} seconds")
        return found
