"""The same page over HTTP while runs go on: every answer is made of the files as they are, and nothing is kept.

``/`` is the page, ``/content.json`` what records say, ``/live.json`` the curves of networks that have no record yet.
Both carry an ETag of the files that they are made of, so that asking all the time costs a look at file times.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from socketserver import TCPServer
from threading import Lock
from typing import Any

from results.cell import CELLS_FOLDER
from results.record import MEASUREMENTS_NAME, METRICS_NAME, NETWORK_NAME, PACKED_NAME
from results.report import curves, page
from results.report.content import content, encode
from results.runs import within

_RECORDS = (NETWORK_NAME, f"{MEASUREMENTS_NAME}/*.json", PACKED_NAME, f"{CELLS_FOLDER}/*.json")
_JSON = "application/json"


class Server(ThreadingHTTPServer):
    """Serves ``places``; raises ``OSError`` where the address cannot be had."""

    daemon_threads = True

    def __init__(self, places: Sequence[Path], host: str, port: int) -> None:
        self.places = list(places)
        self.is_local = _is_loopback(host)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.one_at_a_time = Lock()  # warnings are caught for the whole process
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking DNS for the host's full name, as ``HTTPServer`` does, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}/"

    def content(self) -> dict[str, Any]:
        with self.one_at_a_time:
            try:
                return content(self.places)
            except ValueError as error:  # nothing is there yet
                return {"version": "", "chapters": [], "left_out": [], "empty": str(error)}

    def live(self) -> dict[str, Any]:
        return {"under_way": curves.under_way(self.places)}

    def tag(self, *names: str) -> str:
        """A digest of the names, times and sizes of files of these names, no deeper than runs folders lie."""
        found = sha256()
        files = ([place] if place.is_file() else within(place, name) for place in self.places for name in names)
        for path in sorted(chain.from_iterable(files)):
            try:
                state = path.stat()
            except OSError:  # gone since
                continue
            found.update(f"{path}\0{state.st_mtime_ns}\0{state.st_size}\n".encode(errors="surrogateescape"))
        return f'"{found.hexdigest()[:32]}"'


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.server.is_local and not _is_loopback(_host_name(self.headers.get("Host", ""))):
            # A page elsewhere that makes its own name point here.
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif path == "/":
            tag = self.server.tag(*_RECORDS)  # before the files are read: what is written meanwhile is new
            self._answer("text/html", page.render(self.server.content(), live=tag))
        elif path == "/content.json":
            self._answer_new(self.server.tag(*_RECORDS), lambda: self.server.content())
        elif path == "/live.json":
            self._answer_new(self.server.tag(METRICS_NAME, NETWORK_NAME), lambda: self.server.live())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer_new(self, tag: str, make: Any) -> None:
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
        else:
            self._answer(_JSON, encode(make()), {"ETag": tag})

    def _answer(self, kind: str, text: str, more: dict[str, str] | None = None) -> None:
        body = text.encode(errors="replace")
        self.send_response(HTTPStatus.OK)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **(more or {})}
        for name, value in {**headers, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line a second and reader says nothing."""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    """The name in ``Host: name:port``, of which an IPv6 address is in brackets."""
    return header.partition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
