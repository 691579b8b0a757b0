# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of `xdptui export`: no client can keep others from scraping.

The number of open connections is limited. A new one replaces the oldest that has not sent a request yet; if
all have, the new one is closed. Clients that send no request, or do not read the answer, are closed after a
time limit.
"""

from __future__ import annotations

import errno
import http.client
import socket
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["ANSWER_S", "CONNECTIONS", "REQUEST_BYTES", "REQUEST_S", "ScrapeServer"]

CONNECTIONS: Final = 16
REQUEST_BYTES: Final = 16 << 10
REQUEST_S: Final = 5.0
"""Seconds within which a request must arrive, from the first byte to the last."""

ANSWER_S: Final = 30.0
"""Seconds within which the answer must be read."""

_PAUSE_S: Final = 0.1
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ScrapeServer(ThreadingMixIn, WSGIServer):
    """Answers each connection in its own thread, one request each. ``serve_forever`` runs it, ``shutdown``
    and ``server_close`` end it. Raises OSError, as bind(2) does.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, address = found[0][0], found[0][4]
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, float] = {}
        self._answered: dict[socket.socket, float] = {}
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(app)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORT:  # the connection stays queued, so a retry would be immediate
                self._make_room(0)
                time.sleep(_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._waiting) + len(self._answered) >= CONNECTIONS
        if full and not self._make_room(CONNECTIONS - 1):
            super().shutdown_request(request)
            return
        with self._lock:
            self._waiting[request] = time.monotonic()
        super().process_request(request, client_address)

    def asked(self, connection: Any) -> None:
        """A complete request arrived."""
        with self._lock:
            if self._waiting.pop(connection, None) is not None:
                self._answered[connection] = time.monotonic()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._waiting.pop(request, None)
            self._answered.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections past their time limit; called twice a second."""
        now = time.monotonic()
        with self._lock:
            late = [sock for sock, since in self._waiting.items() if now - since > REQUEST_S]
            late += [sock for sock, since in self._answered.items() if now - since > ANSWER_S]
            for connection in late:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections."""

    def _make_room(self, most: int) -> bool:
        """Close the oldest connections still without a request until at most ``most`` are left; returns
        whether that was possible. Their threads notice at once and end.
        """
        with self._lock:
            while self._waiting and len(self._waiting) + len(self._answered) > most:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                _hang_up(oldest)
            return len(self._waiting) + len(self._answered) <= most


class _Handler(WSGIRequestHandler):
    server: ScrapeServer

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _Limited(self.rfile)

    def parse_request(self) -> bool:
        whole = super().parse_request()
        if whole:
            self.server.asked(self.connection)
        return whole

    def address_string(self) -> str:
        return str(self.client_address[0])  # without a reverse DNS lookup

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log scrapes."""


class _Limited:
    """An incoming request, limited to `REQUEST_BYTES`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = REQUEST_BYTES
        self._begun = False

    def readline(self, size: int = -1) -> bytes:
        most = self._left + 1
        line = self._file.readline(most if size < 0 else min(size, most))
        self._left -= len(line)
        if self._left < 0:
            if not self._begun:
                return b""
            raise http.client.LineTooLong("header")
        self._begun = True
        return line

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client is gone
        pass
