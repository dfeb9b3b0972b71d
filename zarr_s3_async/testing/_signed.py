"""A minimal S3 client, independent of the code under test.

Signature Version 4 as in the S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED = "host;x-amz-content-sha256;x-amz-date"
_TIMEOUT = 5.0


class SignedClient:
    """Sends one blocking, signed request per call, each over a new connection."""

    def __init__(
        self,
        endpoint_url: str,
        *,
        access_key_id: str,
        secret_access_key: str,
        region: str,
        ca_file: Path | None,
    ) -> None:
        self._url = urlsplit(endpoint_url)
        self._access_key_id = access_key_id
        self._secret = secret_access_key
        self._region = region
        self._ca_file = ca_file

    def request(self, method: str, bucket: str, key: str = "", body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the response. Raises OSError or HTTPException if there is none."""
        path = "/" + quote(f"{bucket}/{key}" if key else bucket)
        connection = self._connection()
        try:
            connection.request(method, path, body, self._headers(method, path, body))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return HTTPConnection(host, port, timeout=_TIMEOUT)
        trust = ssl.create_default_context(cafile=self._ca_file)
        return HTTPSConnection(host, port, timeout=_TIMEOUT, context=trust)

    def _headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self._url.netloc, "x-amz-content-sha256": digest, "x-amz-date": now}
        canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"{method}\n{path}\n\n{canonical}\n{_SIGNED}\n{digest}"
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        to_sign = f"{_ALGORITHM}\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        parts = (
            f"Credential={self._access_key_id}/{scope}",
            f"SignedHeaders={_SIGNED}",
            f"Signature={signature}",
        )
        return headers | {"authorization": f"{_ALGORITHM} {', '.join(parts)}"}
