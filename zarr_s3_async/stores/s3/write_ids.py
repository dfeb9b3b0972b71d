"""Write ids: detect that an attempt without a response was executed. Pure, except for random numbers.

A conditional write stores a random id in the object's metadata, followed by the last ids of earlier writes. If the
response is lost and the retry fails with 412, finding the id proves that the first attempt was executed, even if others
have written since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import urandom

from ..._types import Version, When

HEADER = "x-amz-meta-zarr-s3-async-writes"
_KEPT = 16
_is_id = re.compile(r"[0-9a-f]{16}").fullmatch


class WrittenVersion(str):
    """An ETag with the ids of the writes that led to it, the last one first. It compares like a plain ETag."""

    __slots__ = ("writes",)

    writes: tuple[str, ...]


def new_id() -> str:
    """A new unique id."""
    return urandom(8).hex()


def version_of(headers: Mapping[str, str]) -> Version:
    """The version of a response, with the ids of its writes."""
    ids = headers.get(HEADER)
    return Version(headers["etag"]) if ids is None else version_with_history(headers["etag"], _ids(ids))


def is_same(one: Version, other: Version) -> bool:
    """True if both are the same version: some servers quote an ETag in one response and not in the next."""
    return one == other or _opaque(one) == _opaque(other)


def if_match(version: Version) -> str:
    """The version for `If-Match`, as a strong ETag: compressing proxies make ETags weak, which never match."""
    return version.removeprefix("W/")


def _opaque(version: Version) -> str:
    return version.removeprefix("W/").strip('"')


def version_with_history(etag: str, writes: tuple[str, ...]) -> Version:
    """A version with the ids of its writes."""
    version = WrittenVersion(etag)
    version.writes = writes
    return Version(version)


def writes_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The ids in a response, the last write first."""
    return _ids(headers.get(HEADER, ""))


def history_including(write: str, base: When) -> tuple[str, ...]:
    """The ids of the object with which `write` replaces `base`."""
    before = base.writes if isinstance(base, WrittenVersion) else ()
    return (write, *before)[:_KEPT]


def header_of(writes: tuple[str, ...]) -> dict[str, str]:
    """The header that stores the ids."""
    return {HEADER: ",".join(writes)}


def _ids(text: str) -> tuple[str, ...]:
    # Untrusted input: accept valid ids only, and a bounded number of them.
    return tuple(part for part in text.split(",", _KEPT)[:_KEPT] if _is_id(part))
