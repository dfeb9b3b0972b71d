"""A web server over a MemoryStore, with ranges, ETags and scripted faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import zarr_s3_async as zs

Script = Callable[["Handler"], bool]
"""Answers a request itself and returns True, or leaves it to the server."""


@dataclass
class WebServer:
    """The server's settings; tests may change them while it runs."""

    store: zs.MemoryStore = field(default_factory=zs.MemoryStore)
    script: Script = lambda _: False
    ranges: bool = True
    unchanged: int = 0
    """Answers of 304."""
    etags: str = '"{}"'
    """Format of the ETag; "": responses have none."""
    modified: bool = True
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a response, with a Content-Length unless the headers override it."""
        self.send_response_only(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.web.requests.append((self.command, self.path, headers))
        if not self.web.script(self):
            self.serve_object(headers)

    def serve_object(self, headers: dict[str, str]) -> None:
        """Serve an object as a correct web server does."""
        web = self.web
        found = web.store._objects.get(unquote(self.path).lstrip("/"))
        if found is None:
            return self.answer(404, b"<html>Not found</html>", content_type="text/html")
        data, version, written = found
        validators = {
            "etag": web.etags.format(version),
            "last_modified": formatdate(written, usegmt=True) * web.modified,
        }
        if "if-match" in headers and headers["if-match"] != validators["etag"]:
            return self.answer(412)
        if validators["etag"] and headers.get("if-none-match") == validators["etag"]:
            web.unchanged += 1
            return self.answer(304, **validators)
        if not web.ranges or "range" not in headers:
            return self.answer(200, data, **validators)
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= stop:
            return self.answer(416, content_range=f"bytes */{len(data)}")
        return self.answer(206, data[start:stop], content_range=f"bytes {start}-{stop - 1}/{len(data)}", **validators)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A server on its own port."""
    web = WebServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Handler", (Handler,), {"web": web}))
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
