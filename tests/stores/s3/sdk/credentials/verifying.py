"""An S3 server that checks every signature and records the access keys."""

from __future__ import annotations

import re
import threading
from calendar import timegm
from datetime import UTC, datetime, timedelta
from time import strptime
from types import SimpleNamespace
from typing import Any, NamedTuple

from zarr_s3_async.stores.s3.signer import Signer, encode_path, encode_query

from .....servers import faults
from .....servers.exchange import Exchange
from .....servers.fault_server import FaultServer
from .....servers.s3_messages import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)
_ADDED_BY_SIGNER = frozenset({"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})


class Keys(NamedTuple):
    """One set of credentials."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires: datetime | None = None

    @property
    def expiration(self) -> str:
        """The expiry in the format of AWS services."""
        assert self.expires is not None
        return self.expires.strftime("%Y-%m-%dT%H:%M:%SZ")


class VerifyingServer(FaultServer):
    """Accepts only requests that are signed with known keys that are not revoked."""

    def __init__(self, **options: Any) -> None:
        self.known: dict[str, Keys] = {}
        self.revoked: set[str] = set()
        self.signers: list[str] = []
        """Access keys, in the order of the requests; an empty string for one without a signature."""
        super().__init__(**options)

    def admit(self, keys: Keys) -> Keys:
        """Accept these keys from now on."""
        self.known[keys.access_key] = keys
        return keys

    def _note(self, request: Request, connection: int) -> faults.Fault:
        fault = super()._note(request, connection)
        return self._verified if fault is Exchange.reply else fault

    def _verified(self, exchange: Exchange) -> None:
        code = self._refusal(exchange.request)
        if code is None:
            exchange.reply()
        else:
            faults.refuse(403, code)(exchange)

    def _refusal(self, request: Request) -> str | None:
        """S3's error code for this request, or None."""
        match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        self.signers.append(match[1] if match else "")
        if match is None:
            return "AccessDenied"
        keys = self.known.get(match[1])
        if keys is None:
            return "InvalidAccessKeyId"
        if request.headers.get("x-amz-security-token") != keys.token:
            return "InvalidToken"
        if keys.access_key in self.revoked:
            return "ExpiredToken"
        return None if match[4] == _signature(request, keys, match[2], match[3].split(";")) else "SignatureDoesNotMatch"


def _signature(request: Request, keys: Keys, region: str, signed: list[str]) -> str:
    headers = {name: request.headers[name] for name in signed if name not in _ADDED_BY_SIGNER}
    lines = Signer(SimpleNamespace(**keys._asdict()), region).sign(
        request.method,
        request.headers["host"],
        encode_path(f"/{request.bucket}" + (f"/{request.key}" if request.key else "")),
        encode_query(request.query),
        headers,
        request.headers["x-amz-content-sha256"],
        timegm(strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")),
    )
    return lines.rstrip().rpartition("Signature=")[2]


class Issuer:
    """Issues temporary keys that the server accepts, and counts them.

    Args:
        server: The server that accepts the keys.

    Attributes:
        lifetimes: Lifetimes in seconds of the first, the second, … keys; the last value is used for all later ones.
    """

    def __init__(self, server: VerifyingServer) -> None:
        self._server = server
        self.lifetimes = [3600.0]
        self._lock = threading.Lock()
        self.issued: list[Keys] = []

    def issue(self) -> Keys:
        """Issue new keys."""
        with self._lock:
            number = len(self.issued)
            seconds = self.lifetimes[min(number, len(self.lifetimes) - 1)]
            expires = datetime.now(UTC) + timedelta(seconds=seconds)
            keys = Keys(f"ASIA{number:012}", f"secret/{number}", f"token+{number}==", expires)
            self.issued.append(self._server.admit(keys))
            return keys
