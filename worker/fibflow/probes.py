"""HTTP answers about a process, for the kubelet and for Prometheus: a page is a path and a function that tells.

It answers from threads of its own, so that an event loop that stands still can be told of. What is right or wrong with a
process is not known here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Complaints = Callable[[], list[str]]
"""What is wrong just now, called from any thread; nothing is good."""


def serve(port: int, pages: Mapping[str, Complaints]) -> ThreadingHTTPServer:
    """Answer 200 or 503 on each page, and the metrics on /metrics; the server, to be shut down. Raises OSError."""
    known = ", ".join([*pages, "/metrics"])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in pages:
                found = pages[self.path]()
                self._answer(503 if found else 200, "\n".join(found) or "ok")
            elif self.path == "/metrics":
                self._answer(200, generate_latest().decode(), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, f"there are {known}")

        def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Who asks how it goes is not worth a line."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
