"""Identity of a bucket's location and of its reader, the keys of a session's caches and locks.

Both are derived from the options, without a request. Aliases that cannot be recognised (an access point and its bucket,
two names of one host) count as two locations: they share no cache entries, which only costs requests.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import lru_cache
from urllib.parse import urlsplit

from ...config import S3Config
from .sdk.endpoint import is_amazon

_PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")
"""Region prefixes of AWS's other partitions: bucket names are unique within one partition."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_endpoint_option = re.compile(r"^\s*endpoint_url\s*=\s*(\S+)", re.MULTILINE).search
_DEFAULTS = S3Config()
_SAME_READER = {
    name: getattr(_DEFAULTS, name)
    for name in (
        *("region", "endpoint_url", "addressing_style", "accelerate", "dualstack", "transport", "ca_bundle"),
        *("connect_timeout", "attempt_timeout", "multipart_bytes", "part_bytes", "checksums", "conditional_writes"),
        *("sse", "sse_kms_key_id", "storage_class"),
    )
}
"""Options of transport and storage, which do not change what the reader is allowed to see."""


def place_of_bucket(bucket: str, config: S3Config) -> str:
    """The bucket at its endpoint, in normalised form."""
    return f"{_normalized(_endpoint_url(config), config.region or '')}/{bucket}"


def reader_of(config: S3Config) -> S3Config:
    """The options that determine what a reader sees: the credentials, and what counts as missing."""
    return replace(config, **_SAME_READER)


def _normalized(endpoint_url: str | None, region: str) -> str:
    if endpoint_url is None or is_amazon(endpoint_url):
        partition = next((start for start in _PARTITIONS if region.startswith(start)), "")
        return f"aws {partition}".rstrip(" -")
    parts = urlsplit(endpoint_url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path}".rstrip("/")


def _endpoint_url(config: S3Config) -> str | None:
    """The endpoint according to the standard AWS configuration; None: Amazon's."""
    if config.endpoint_url is not None:
        return config.endpoint_url
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    of_environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    profile = config.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    path = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")  # noqa: PTH111  # as botocore
    return of_environment or _endpoint_of_profile(path, profile)


@lru_cache(maxsize=64)  # stores are made for every call that names a URL
def _endpoint_of_profile(path: str, profile: str) -> str | None:
    """The endpoint of a profile in the shared configuration: for S3, otherwise for all services."""
    if not os.path.isfile(path):  # noqa: PTH113  # as botocore
        return None
    from configparser import ConfigParser, Error  # only needed if there is a file

    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, Error, UnicodeDecodeError):
        return None  # signing the first request reports what is wrong with the file
    section = "default" if profile == "default" else f"profile {profile}"
    if not parser.has_section(section):
        return None
    services = f"services {parser.get(section, 'services', fallback='')}"
    found = _endpoint_option(parser.get(services, "s3", fallback="") if parser.has_section(services) else "")
    return found[1] if found else parser.get(section, "endpoint_url", fallback=None)
