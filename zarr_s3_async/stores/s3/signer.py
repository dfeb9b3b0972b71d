"""AWS Signature Version 4 for S3. Pure: time and credentials are arguments.

Source: S3 API reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
S3 differs from the other services in two points: a path is encoded once and is not normalised.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from time import gmtime, strftime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Payload hash of a request without a body."""
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""Replaces the payload's hash if TLS protects the payload."""

_BLOCK = 64  # bytes of one SHA-256 block: HMAC pads its key to it
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_needs_no_encoding = re.compile(r"[A-Za-z0-9\-._~/]*").fullmatch


class Credentials(Protocol):
    """Frozen credentials of aiobotocore."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


def encode_path(path: str) -> str:
    """The path percent-encoded once, slashes kept: what is signed and what is sent."""
    return path if _needs_no_encoding(path) else quote(path, safe="/~")


def encode_query(query: Mapping[str, str]) -> str:
    """The query percent-encoded once and sorted: what is signed and what is sent."""
    if not query:
        return ""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


class Signer:
    """Signs for one set of credentials, one region and one service.

    The signing key is derived once per day, and what depends on the time alone once per second.
    """

    __slots__ = (
        "_access_key",
        "_credential",
        "_date",
        "_day",
        "_inner",
        "_inner_key",
        "_outer",
        "_region",
        "_second",
        "_secret",
        "_service",
        "_token",
    )

    def __init__(self, credentials: Credentials, region: str, service: str = "s3") -> None:
        self._access_key = credentials.access_key
        self._secret = b"AWS4" + credentials.secret_key.encode()
        self._token = credentials.token
        self._region = region
        self._service = service
        self._second = -1
        self._day = ""

    def sign(
        self,
        method: str,
        host: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_hash: str,
        now: float,
    ) -> str:
        """The header lines that sign a request, each with its line end.

        Args:
            method: HTTP method in capitals.
            host: Value of the Host header, which is signed and not among the lines returned.
            path: Result of `encode_path`, with its leading slash.
            query: Result of `encode_query`.
            headers: Headers to sign besides, by lower-case name: at least every `x-amz-…` that is sent.
            payload_hash: SHA-256 of the body in hexadecimal, `EMPTY_SHA256`, or `UNSIGNED_PAYLOAD`.
            now: Seconds since the epoch, UTC.
        """
        second = int(now)
        if second != self._second:
            self._set_time(second)
        canonical, names = self._canonical_headers(host, headers, payload_hash)
        request = f"{method}\n{path}\n{query}\n{canonical}\n{names}\n{payload_hash}"
        digest = sha256(request.encode()).hexdigest()
        # HMAC is inlined: hmac.digest() looks up its hash in every call, which costs more than the hashing. The
        # states of both hashes behind what is the same for a second are copied: that costs half of hashing it again.
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(digest.encode())
        outer.update(inner.digest())
        signature = outer.hexdigest()
        token = f"x-amz-security-token: {self._token}\r\n" if self._token else ""
        return (
            f"x-amz-date: {self._date}\r\nx-amz-content-sha256: {payload_hash}\r\n{token}"
            f"authorization: {self._credential}{names}, Signature={signature}\r\n"
        )

    def _canonical_headers(self, host: str, headers: Mapping[str, str], payload_hash: str) -> tuple[str, str]:
        if not headers and not self._token:
            return (
                f"host:{host}\nx-amz-content-sha256:{payload_hash}\nx-amz-date:{self._date}\n",
                "host;x-amz-content-sha256;x-amz-date",
            )
        # The canonical form trims values and collapses spaces in them; the server does the same to what is sent.
        signed = {name: " ".join(value.split()) for name, value in headers.items()}
        signed["host"] = host
        signed["x-amz-content-sha256"] = payload_hash
        signed["x-amz-date"] = self._date
        if self._token:
            signed["x-amz-security-token"] = self._token
        names = sorted(signed)
        return "".join([f"{name}:{signed[name]}\n" for name in names]), ";".join(names)

    def _set_time(self, second: int) -> None:
        self._second = second
        self._date = strftime("%Y%m%dT%H%M%SZ", gmtime(second))
        if self._day != self._date[:8]:
            day = self._date[:8]
            self._day = day
            key = self._secret
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            padded = key.ljust(_BLOCK, b"\0")
            self._inner_key = padded.translate(_INNER_PAD)
            self._outer = sha256(padded.translate(_OUTER_PAD))
            self._credential = f"AWS4-HMAC-SHA256 Credential={self._access_key}/{self._scope()}, SignedHeaders="
        to_sign = f"AWS4-HMAC-SHA256\n{self._date}\n{self._scope()}\n"
        # The part of the string to sign that changes only once per second, already behind the padded key.
        self._inner = sha256(self._inner_key + to_sign.encode())

    def _scope(self) -> str:
        return f"{self._day}/{self._region}/{self._service}/aws4_request"
