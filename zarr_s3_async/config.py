"""Configuration: frozen, keyword-only option classes, validated on construction."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, NoReturn, Self, TypeAlias, TypedDict, Unpack, cast, get_args
from urllib.parse import SplitResult, urlsplit

from ._options import (
    check_choice,
    check_count,
    check_flag,
    check_line,
    check_names,
    check_seconds,
    check_share,
    optional,
)
from .errors import ConfigError

CachePolicy: TypeAlias = Literal["immutable", "revalidate"] | float
"""Maximum age of cached data of an array: any age, revalidated at each use, or seconds."""
AddressingStyle: TypeAlias = Literal["auto", "virtual", "path"]
Checksums: TypeAlias = Literal["auto", "on", "off"]
ConditionalWrites: TypeAlias = Literal["auto", "require", "off"]
Transport: TypeAlias = Literal["auto", "wire", "sdk"]
Sse: TypeAlias = Literal["AES256", "aws:kms", "aws:kms:dsse"]

_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "bool": check_flag,
    "float": check_seconds,
    "int": check_count,
    "int | None": optional(check_count),
    "str | None": optional(check_line),
    "AddressingStyle": partial(check_choice, choices=get_args(AddressingStyle)),
    "Checksums": partial(check_choice, choices=get_args(Checksums)),
    "ConditionalWrites": partial(check_choice, choices=get_args(ConditionalWrites)),
    "Transport": partial(check_choice, choices=get_args(Transport)),
    "Sse | None": optional(partial(check_choice, choices=get_args(Sse))),
}
"""Check and description of a field's value, by its annotation."""

_MIN_PART_BYTES = 5 * 2**20
"""S3 rejects shorter parts, except for the last one."""


def _check_fields(owner: Any) -> None:
    """Check the value of every field of an option class against its annotation."""
    kind = type(owner).__name__
    for f in fields(owner):
        check = _CHECKS.get(cast("str", f.type))  # text, as annotations are here
        if check is not None:
            check(f"{kind}.{f.name}", getattr(owner, f.name))


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def check_endpoint_url(url: str, where: str) -> None:
    """Raise ConfigError for an invalid endpoint URL. The message never contains a possible password or token."""
    parts = _parts(url)
    if parts is None:
        raise ConfigError(f"{where} is not a URL (it is not shown here)")
    if "@" in parts.netloc or parts.query or parts.fragment or "@" in url.partition("?")[0]:
        raise ConfigError(
            f"{where} must not contain a user, password, query or fragment (it is not shown here): "
            "give keys as access_key_id and secret_access_key"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        guess = _parts(f"http://{url}") if "://" not in url else None
        hint = f": write http://{url}" if guess is not None and guess.hostname else ""
        raise ConfigError(f"{where} must start with http:// or https:// and name a host, not {url!r}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Keys and their expiry, as returned by the function in `S3Config.credentials`."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """Expiry, with a time zone. Keys are refreshed ten minutes earlier, or after half of a shorter lifetime."""

    def __post_init__(self) -> None:
        _check_fields(self)
        check_line("Credentials.access_key_id", self.access_key_id)
        check_line("Credentials.secret_access_key", self.secret_access_key)
        end: Any = self.expires_at
        if end is not None and (not isinstance(end, datetime) or end.tzinfo is None):
            raise ConfigError("Credentials.expires_at must be a datetime with a time zone, or None")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise ConfigError("Credentials cannot be pickled, so that keys do not leave this process")


SECRET_OPTIONS = ("access_key_id", "secret_access_key", "session_token", "credentials")
"""Fields of `S3Config` that never leave this process. `credentials` is a function, which may contain keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """Options of S3. None means the value of the standard AWS configuration.

    Region: this field, then `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's region, then `us-east-1`.
    Endpoint: this field, then `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's, then Amazon's.
    Credentials: the key fields, else the standard chain of the AWS SDK (environment, shared files, profiles,
    SSO, web identity, process, container and instance metadata).

    A config with keys cannot be pickled, so that keys do not leave the process.
    """

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    credentials: Callable[[], Awaitable[Credentials]] | None = field(default=None, repr=False)
    """An async function that provides keys instead of the standard chain. It is called at the first request, before the
    keys expire, and when S3 reports that they have expired."""
    anonymous: bool = False
    addressing_style: AddressingStyle = "auto"
    accelerate: bool = False
    dualstack: bool = False
    requester_pays: bool = False
    sse: Sse | None = None
    sse_kms_key_id: str | None = None
    storage_class: str | None = None
    ca_bundle: str | None = None
    """Path of a PEM file with the certificate authorities to trust instead of the system's."""
    connect_timeout: float = 10.0
    """Seconds within which a connection must be established."""
    attempt_timeout: float = 60.0
    """Seconds that one HTTP attempt may take, body included."""
    transport: Transport = "auto"
    checksums: Checksums = "auto"
    """Send a checksum with every upload, and verify those of downloads. `auto`: only with Amazon's endpoints, since
    many S3-compatible servers reject them."""
    conditional_writes: ConditionalWrites = "auto"
    multipart_bytes: int = 32 * 2**20
    """Objects of more bytes are uploaded in parts, in parallel: one connection transfers 85 to 90 MB/s, and a multipart
    upload takes two additional requests."""
    part_bytes: int = 8 * 2**20
    """Bytes of a part; increased if an object would need more than 10,000 parts."""
    missing_on_403: bool = False
    """Treat a chunk as missing if S3 responds 403 AccessDenied, as it does for absent keys without ListBucket."""
    accept_bare_404: bool = False
    """Treat a 404 without an S3 error document as missing, for servers that omit the document."""

    def __post_init__(self) -> None:
        _check_fields(self)
        check_count("S3Config.part_bytes", self.part_bytes, least=_MIN_PART_BYTES)
        self._check_credentials()
        if self.endpoint_url is not None:
            check_endpoint_url(self.endpoint_url, "S3Config.endpoint_url")
        if self.accelerate and (self.endpoint_url is not None or self.addressing_style == "path"):
            raise ConfigError(
                "S3Config.accelerate needs Amazon's own endpoint and virtual-hosted addressing: "
                "drop endpoint_url and addressing_style='path', or accelerate"
            )

    def _check_credentials(self) -> None:
        keys = (self.access_key_id, self.secret_access_key)
        if (keys[0] is None) != (keys[1] is None):
            raise ConfigError("S3Config needs access_key_id and secret_access_key together, or neither")
        if self.session_token is not None and keys[0] is None:
            raise ConfigError("S3Config.session_token needs access_key_id and secret_access_key beside it")
        if self.credentials is not None and not callable(self.credentials):
            raise ConfigError("S3Config.credentials must be an async function that returns zs.Credentials")
        if self.credentials is not None and (keys[0] is not None or self.profile is not None):
            raise ConfigError("S3Config.credentials replaces keys and a profile: give only one of them")
        if self.anonymous and (keys[0], self.profile, self.credentials) != (None, None, None):
            raise ConfigError(
                "S3Config.anonymous sends unsigned requests: remove the keys, the profile and the function"
            )

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.access_key_id is not None or self.credentials is not None:
            raise ConfigError(
                "an S3Config with keys cannot be pickled, so that they do not leave this process: "
                "configure keys in the other process (environment, profile, role)"
            )
        return object.__reduce_ex__(self, protocol)  # not super(): slots=True replaces the class

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: Any) -> Self:
        return self

    def with_options(self, **options: Unpack[S3Options]) -> Self:
        """A copy with some options changed; None leaves an option unchanged.

        Args:
            options: Fields of this class.

        Returns:
            A new config.

        Raises:
            ConfigError: An option is unknown, invalid, or set both here and in this config.
        """
        check_names(options, _DEFAULTS, "S3Config")
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        for name in given:
            # Even if both are equal: a later change of one of them would silently have no effect.
            if getattr(self, name) != _DEFAULTS[name]:
                raise ConfigError(f"{name!r} is given both as an option and in S3Config; give it once")
        return replace(self, **given)

    def brief(self) -> str:
        """Options that differ from the defaults, without secrets, as short text for a repr."""
        return "".join(f", {name}={value!r}" for name, value in self.public().items())

    def public(self) -> dict[str, Any]:
        """Fields that differ from their defaults, without secrets, as an `ArrayRef` carries them."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in SECRET_OPTIONS and getattr(self, f.name) != f.default
        }


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(S3Config)}


class S3Options(TypedDict, total=False):
    """The fields of `S3Config` as options of a call; None leaves one at its default."""

    region: str | None
    endpoint_url: str | None
    profile: str | None
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None
    credentials: Callable[[], Awaitable[Credentials]] | None
    anonymous: bool | None
    addressing_style: AddressingStyle | None
    accelerate: bool | None
    dualstack: bool | None
    requester_pays: bool | None
    sse: Sse | None
    sse_kms_key_id: str | None
    storage_class: str | None
    ca_bundle: str | None
    connect_timeout: float | None
    attempt_timeout: float | None
    transport: Transport | None
    checksums: Checksums | None
    conditional_writes: ConditionalWrites | None
    multipart_bytes: int | None
    part_bytes: int | None
    missing_on_403: bool | None
    accept_bare_404: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and after which delay failed HTTP attempts are retried (full jitter: uniform from 0 to a bound)."""

    attempts: int = 5
    """Maximum number of HTTP attempts per request, including the first."""
    base_delay: float = 0.1
    """Bound of the first delay in seconds. It doubles with every attempt."""
    max_delay: float = 20.0
    """Maximum delay in seconds."""
    conflict_attempts: int = 32
    """Attempts of a partial write to merge with concurrent writers before ConcurrentModification is raised."""

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """When a slow read is sent a second time, on another connection."""

    percentile: float = 0.95
    """A read slower than this share of the recent ones is hedged."""
    max_share: float = 0.05
    """At most this share of the reads is hedged."""

    def __post_init__(self) -> None:
        check_share("HedgePolicy.percentile", self.percentile)
        check_share("HedgePolicy.max_share", self.max_share)


def _default_threads() -> int:
    # In a container, a process may have fewer cores than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(4, cores))  # two, so that one large chunk does not hold up all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a session, over all its arrays."""

    requests: int = 64
    """Maximum number of HTTP requests in flight."""
    bytes: int = 256 * 2**20
    """Decoded bytes of the objects being read or written; the result of a read is not counted."""
    max_chunks_per_call: int = 10_000_000
    """A call that touches more chunks is rejected before the first request."""
    max_chunk_bytes: int = 2**34
    """Decoded bytes of a chunk: reads and writes of arrays with larger chunks are rejected before the first request. A
    few stored bytes can decode to a huge chunk: if the arrays are untrusted input, set this to the size of your
    chunks."""
    gap_bytes: int = 256 * 2**10
    """Maximum number of unwanted bytes between two chunks of a shard, or two runs of an uncompressed chunk, that are
    fetched in one request. Requests run in parallel, so a gap costs its transfer and saves the overhead of one request,
    not its latency."""
    range_bytes: int = 16 * 2**20
    """Maximum number of bytes of one range request; longer ranges are split and fetched in parallel."""
    max_waiting: int | None = None
    """Maximum number of requests and objects that wait for a slot or for memory. A call that starts while more wait
    is rejected (`Overloaded`) before it does anything. Calls with `priority="high"` are always accepted. None: no
    limit."""
    cpu_threads: int = field(default_factory=_default_threads)
    """Maximum number of threads that decode and encode large chunks. Default: the number of cores that the process may
    use, but at least 2 and at most 4: with more threads than cores, the event loop waits for a core."""

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Sizes of a session's caches in bytes. 0 disables a cache."""

    shard_indexes: int = 64 * 2**20
    """Decoded shard indexes."""
    chunks: int | None = None
    """Decoded chunks, and the information that a chunk is absent. A number: chunks of all arrays are cached, and a
    change by another session is not noticed. Writes, deletes and resizes of this session invalidate entries, and
    `Array.refresh` invalidates all entries of an array. Default: up to 256 MiB, only for arrays opened with `cache=`,
    which sets the maximum age of a chunk. Arrays of strings are not cached."""

    def __post_init__(self) -> None:
        check_count("CacheSize.shard_indexes", self.shard_indexes, least=0)
        if self.chunks is not None:
            check_count("CacheSize.chunks", self.chunks, least=0)
