"""A local Amazon S3: all names resolve to it, and all connections to port 443 lead to it, with a real TLS handshake.

It answers as S3 does for one object, and records the requests.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zarr_s3_async.testing._certificate import Certificate, make_certificate

from .wire_server import Peer, ScriptedServer, response

BODY = b"data"
_LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    b"</ListBucketResult>"
)
_DELETED = b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>'
_SESSION = (
    b'<?xml version="1.0" encoding="UTF-8"?><CreateSessionResult><Credentials><SessionToken>express-token'
    b"</SessionToken><SecretAccessKey>express-secret</SecretAccessKey><AccessKeyId>ASIAEXPRESS</AccessKeyId>"
    b"<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"
)
_SCOPE = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


class Captured(NamedTuple):
    """One request as received."""

    method: str
    target: str
    headers: dict[str, str]
    """Lower-case names."""

    @property
    def scope(self) -> tuple[str, str, str]:
        """(access key, region, service) of the signature, or empty strings."""
        found = _SCOPE.search(self.headers.get("authorization", ""))
        return (found[1], found[2], found[3]) if found else ("", "", "")


def captured(head: str) -> Captured:
    """Parse the head of a request."""
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    return Captured(method, target, {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)})


def answer(requested: Captured) -> bytes:
    """The response that S3 would send."""
    query = requested.target.partition("?")[2]
    if "list-type=2" in query:
        return response(_LISTING, etag="")
    if query == "session":
        return response(_SESSION, etag="")
    if query == "delete":
        return response(_DELETED, etag="")
    if requested.method == "DELETE":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    return response(BODY if requested.method == "GET" else b"")


class Amazon:
    """See the module."""

    def __init__(self, certificate: Certificate) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.chain, certificate.key)
        self.server = ScriptedServer(self._serve, tls=context)
        self.certificate = certificate
        self.answer = answer
        self.bodies: list[bytes] = []
        """Method, target and headers of the requests, in order of arrival."""
        self.looked_up: list[str] = []
        """Host names that were resolved."""

    @property
    def requests(self) -> list[Captured]:
        """The requests so far."""
        return [captured(head) for head in self.server.requests]

    def _serve(self, peer: Peer) -> None:
        while True:
            head, body = peer.request()
            self.bodies.append(body)
            peer.send(self.answer(captured(head)))

    def forget(self) -> None:
        """Forget the requests, and answer as S3 does."""
        self.server.requests.clear()
        self.bodies.clear()
        self.looked_up.clear()
        self.answer = answer

    def isolated(self, monkeypatch: pytest.MonkeyPatch, config_file: Path) -> Amazon:
        """For this test: no other network, no AWS option or proxy in the environment, no recorded requests."""
        for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config_file))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(config_file.with_name("none")))
        self.forget()
        self.take_over(monkeypatch)
        return self

    def take_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Redirect all network access of this test to this server."""
        connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

        def look_up(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
            self.looked_up.append(host if isinstance(host, str) else host.decode())
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port or 0)))]

        async def here(loop: Any, sock: Any, address: Any) -> None:
            assert address[0] == "127.0.0.1", f"a connection to {address} would have been made"
            await connect(loop, sock, ("127.0.0.1", self.server.port) if address[1] == 443 else address)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", here)


@contextmanager
def amazon(folder: Path, hosts: list[str]) -> Iterator[Amazon]:
    """A server with a certificate for these names, signed by its own authority."""
    here = Amazon(make_certificate(folder, hosts))
    with here.server:
        yield here
