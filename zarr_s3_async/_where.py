"""Convert the `where` of a call to a URL; errors suggest the correct URL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from .errors import ConfigError
from .stores.base import Store

_TAKES = "a URL (s3://bucket/prefix, file:///folder, memory://name), a pathlib.Path, a Store, or a ref (array.ref)"
_VIRTUAL = r"(?P<bucket>.+)\.s3(?:[.-](?:dualstack\.)?(?P<region>[a-z]{2}-[a-z0-9-]+))?\.amazonaws\.com"
_PATH_STYLE = r"s3(?:[.-](?:dualstack\.)?(?P<region>[a-z]{2}-[a-z0-9-]+))?\.amazonaws\.com"
_LOOKS_LIKE_S3 = re.compile(r"(?:s3[an]?|S3[AaNn]?):/*(?P<place>.*)", re.DOTALL)


def as_url(where: str | os.PathLike[str]) -> str:
    """The URL of a location; a path of the file system becomes a `file://` URL.

    Raises:
        ConfigError: It is not a URL of a store; the message suggests one if possible.
    """
    if isinstance(where, os.PathLike):
        from pathlib import Path  # only needed for local paths

        # `as_uri` needs an absolute path; the current folder may change before a later open.
        return Path(where).absolute().as_uri()
    if not isinstance(where, str):
        raise ConfigError(f"a location must be {_TAKES}, not {_name(where)}")
    meant = _meant(where)
    if meant is not None:
        raise ConfigError(f"{where!r} is not the URL of a store: write {meant}")
    return where


_STORES: WeakSet[type] = WeakSet()
"""Types that passed the check of `checked_store`, which is slow."""


def checked_store(where: Any) -> Store:
    """Return `where` if it implements the `Store` protocol.

    Raises:
        ConfigError: It is not a store.
    """
    kind = type(where)
    if kind in _STORES or isinstance(where, Store):  # slow: checks each method of the protocol
        _STORES.add(kind)
        return cast("Store", where)
    advice = ""
    # An open array or group of this library.
    if hasattr(where, "ref") and hasattr(where, "url"):
        advice = ": it is already open; to open it in this session, pass its .ref"
    raise ConfigError(f"a location must be {_TAKES}, not {_name(where)}{advice}")


def check_where(where: Any) -> None:
    """Raise ConfigError if this is neither a store nor a URL of a known scheme, for callers that open it later."""
    from .stores.registry import get_store, split_url  # only such callers need them

    if isinstance(where, str | os.PathLike):
        get_store(split_url(as_url(where))[0])
    else:
        checked_store(where)


def _name(where: object) -> str:
    return "None" if where is None else f"an object of type {type(where).__name__}"


def _meant(url: str) -> str | None:
    """The URL that was probably meant, or None."""
    # The usual case, without a regular expression.
    if url.startswith("s3://"):
        return None
    found = _LOOKS_LIKE_S3.fullmatch(url)
    if found is not None:
        return repr(f"s3://{found['place']}")
    if url.startswith(("http://", "https://")):
        return _of_amazon(url)
    return None


def _of_amazon(url: str) -> str | None:
    """The s3 URL for an HTTP URL of Amazon S3; None for other servers."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    path = unquote(parts.path.lstrip("/"))
    for pattern, place in _ADDRESSES:
        found = re.fullmatch(pattern, host)
        if found is not None:
            region = found["region"]
            return repr(f"s3://{place(found, path)}".rstrip("/")) + (f" with region={region!r}" if region else "")
    return None


_ADDRESSES: tuple[tuple[str, Callable[[re.Match[str], str], str]], ...] = (
    (_PATH_STYLE, lambda _, path: path),
    (_VIRTUAL, lambda found, path: f"{found['bucket']}/{path}"),
)


def is_known_url(url: str) -> bool:
    """Whether a store can be opened by this URL."""
    from .stores.registry import is_known  # only such callers need it

    return is_known(url.partition("://")[0])
