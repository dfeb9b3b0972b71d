"""The room of write ids: how a writer whose answer was lost finds out that it had won. Pure but for the dice.

A conditional write leaves a random id in the object's metadata, before the last ones of those that came before it. If
the answer is lost and the retry is told 412, the id among them says that the first try had been carried out, also
where others have written on top since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import token_hex

from ..._types import Version, When

HEADER = "x-amz-meta-zarr-s3-async-writes"
_KEPT = 16
_is_id = re.compile(r"[0-9a-f]{16}").fullmatch


class WrittenVersion(str):
    """An ETag that remembers which writes led to it, the last one first. It compares as the ETag that it is."""

    __slots__ = ("writes",)

    writes: tuple[str, ...]


def new_id() -> str:
    """An id that no other write has."""
    return token_hex(8)


def version_of(headers: Mapping[str, str]) -> Version:
    """The version that an answer tells, with the writes that it tells of."""
    said = headers.get(HEADER)
    return Version(headers["etag"]) if said is None else version_with_history(headers["etag"], _ids(said))


def is_same(one: Version, other: Version) -> bool:
    """True where both name one state: some servers quote an ETag in one answer and not in the next."""
    return one == other or _opaque(one) == _opaque(other)


def if_match(version: Version) -> str:
    """The version as `If-Match` takes it: proxies that compress make ETags weak, which match no condition."""
    return version.removeprefix("W/")


def _opaque(version: Version) -> str:
    return version.removeprefix("W/").strip('"')


def version_with_history(etag: str, writes: tuple[str, ...]) -> Version:
    """A version that remembers its writes."""
    version = WrittenVersion(etag)
    version.writes = writes
    return Version(version)


def writes_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The ids that an answer tells, the last write first."""
    return _ids(headers.get(HEADER, ""))


def history_including(write: str, base: When) -> tuple[str, ...]:
    """The ids of an object that `write` puts in the place of `base`."""
    before = base.writes if isinstance(base, WrittenVersion) else ()
    return (write, *before)[:_KEPT]


def header_of(writes: tuple[str, ...]) -> dict[str, str]:
    """The header that keeps them."""
    return {HEADER: ",".join(writes)}


def _ids(text: str) -> tuple[str, ...]:
    # Anyone may have written there: take what is ours, and no more than that.
    return tuple(part for part in text.split(",", _KEPT)[:_KEPT] if _is_id(part))
