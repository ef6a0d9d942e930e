"""A proxy in front of PostgreSQL that cuts a connection after the server did what was asked, and before it answers.

A client whose connection was cut so cannot know whether its transaction is committed: it is, always.
"""

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Passes connections on to a server's port; the next `left` messages that hold `mark` cost their connections."""

    def __init__(self, port: int, mark: bytes) -> None:
        self.target, self.mark, self.left = port, mark, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """One connection, until either side or a cut ends it."""
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            cut = threading.Event()
            answers = threading.Thread(target=self._pass_on, args=(server, client, cut, False), daemon=True)
            answers.start()
            self._pass_on(client, server, cut, True)
            answers.join()

    def _pass_on(self, one: socket.socket, other: socket.socket, cut: threading.Event, asks: bool) -> None:
        with suppress(OSError):
            while said := one.recv(1 << 16):
                if asks and self.mark in said and self._takes_one():
                    cut.set()
                if cut.is_set() and not asks:
                    break  # the server has answered: it is done, and nobody hears of it
                other.sendall(said)
        for side in (one, other):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _takes_one(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
