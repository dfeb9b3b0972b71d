"""Resolve the endpoint of a bucket by botocore's endpoint rules (`plain.py` handles the simple cases).

The client builds and signs one GetObject, which is stopped right before it is sent; its URL and its signature contain
the URL root, the region and the service. (A presigned URL does not: it contains the global endpoint.)
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_EVENT = "before-send.s3.GetObject"
_PORTS = {"http": 80, "https": 443}
_CREDENTIAL = r"Credential=.+/\d{8}/([^/,]+)/([^/,]+)/aws4_request"


class Endpoint(NamedTuple):
    """The endpoint of one bucket."""

    scheme: str
    host: str
    """Host name or address; IPv6 without brackets."""
    port: int
    path_prefix: str
    """Path before `/` and the key, percent-encoded: `/bucket` in path style, empty in virtual-hosted style."""
    region: str
    """Region to sign for."""
    service: str = "s3"
    unsupported: str | None = None
    """Why the wire cannot serve this bucket and the SDK must; other fields may be empty then."""

    @property
    def authority(self) -> str:
        """Value of the Host header: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_AMAZON = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".csp.hci.ic.gov",
    ".cloud.adc-e.uk",
)
"""DNS suffixes of AWS's partitions, private links and dual-stack endpoints included."""


def is_amazon(endpoint_url: str) -> bool:
    """True for an endpoint of AWS."""
    return is_amazon_host(urlsplit(endpoint_url).hostname or "")


def is_amazon_host(host: str) -> bool:
    """True for a host of AWS."""
    return host.endswith(_AMAZON)


class _Stopped(Exception):
    """Stops our own request before it is sent, and carries it."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


async def resolve_endpoint(client: Any, bucket: str) -> Endpoint:
    """Resolve the endpoint of a bucket by the client's rules. No request is sent; other requests are not affected.

    Args:
        client: An aiobotocore S3 client.
        bucket: Name of the bucket, or an ARN.

    Raises:
        BotoCoreError: The rules reject the bucket, or there are no credentials.
    """
    reason = _unsupported_name(bucket)
    if reason is not None:
        # Not resolved: for these botocore sends requests first, or needs libraries that may be missing.
        return Endpoint(
            scheme="https",
            host="",
            port=443,
            path_prefix="",
            region=client.meta.region_name,
            unsupported=reason,
        )
    # A random key: the handler must stop this request and no other one of the client.
    key = f"zarr-s3-async-{os.urandom(16).hex()}"
    return _endpoint(client, await _stopped_request(client, bucket, key), key)


def _unsupported_name(bucket: str) -> str | None:
    if bucket.startswith("arn:"):
        return "it is named by an ARN (access point, Outposts, Object Lambda or multi-region access point)"
    if bucket.endswith(("--x-s3", "--xa-s3")):
        return "it is a directory bucket (S3 Express)"
    return None


async def _stopped_request(client: Any, bucket: str, key: str) -> Any:
    def stop(request: Any, **_: Any) -> None:
        if key in request.url:
            raise _Stopped(request)

    client.meta.events.register(_EVENT, stop, unique_id=key)
    try:
        await client.get_object(Bucket=bucket, Key=key)
    except _Stopped as stopped:
        return stopped.request
    finally:
        client.meta.events.unregister(_EVENT, stop, unique_id=key)
    raise AssertionError("botocore sent a request without its before-send event")


def _endpoint(client: Any, request: Any, key: str) -> Endpoint:
    url = urlsplit(request.url)
    authorization = request.headers.get("Authorization") or ""
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    region, service = _scope(authorization) or (client.meta.region_name, "s3")
    return Endpoint(
        scheme=url.scheme,
        host=url.hostname or "",
        port=url.port or _PORTS[url.scheme],
        path_prefix=url.path.removesuffix(f"/{key}"),
        region=region,
        service=service,
        unsupported=_unsupported_way(client.meta.config, request.url, authorization, service),
    )


def _scope(authorization: str) -> tuple[str, str] | None:
    """(region, service) of a version 4 signature."""
    match = re.search(_CREDENTIAL, authorization)
    return (match[1], match[2]) if match else None


def _unsupported_way(config: Any, url: str, authorization: str, service: str) -> str | None:
    from botocore import UNSIGNED
    from botocore.utils import get_environ_proxies

    proxies = config.proxies if config.proxies is not None else get_environ_proxies(url)
    if proxies.get(urlsplit(url).scheme):
        return "a proxy is configured"
    if config.client_cert is not None:
        return "a client certificate is configured"
    if config.signature_version is UNSIGNED and not authorization:
        return None
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return "it needs a signature other than AWS4-HMAC-SHA256"
    return None if service == "s3" else f"it is served by {service!r}"
