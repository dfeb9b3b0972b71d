"""The registry of stores: a table from URL scheme to factory, to which other packages can add theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

from ..errors import ConfigError
from .base import Store, StoreContext

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "zarr_s3_async.stores"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


StoreFactory: TypeAlias = Callable[[str, StoreContext], Store]
"""Creates a store from a URL without IO: problems with the location show at the first request."""


def _s3_store(url: str, context: StoreContext) -> Store:
    from .s3.service import open_store

    return open_store(url, context)


def _local_store(url: str, _context: StoreContext) -> Store:
    from .local import LocalStore

    host, _, path = split_url(url)[1].partition("/")
    if host not in ("", "localhost"):
        raise ConfigError(f"{url!r} names the host {host!r}; the path of a file URL is absolute: file:///{host}/{path}")
    return LocalStore("/" + unquote(path))


def _http_store(url: str, context: StoreContext) -> Store:
    from .http.store import open_store

    return open_store(url, context)


def _memory_store(url: str, context: StoreContext) -> Store:
    from .memory import MemoryStore

    name, _, path = split_url(url)[1].partition("/")
    if not name:
        raise ConfigError(f"{url!r} names no store: write memory://name, any name")
    store: MemoryStore = context.shared.setdefault(("memory", name), MemoryStore(name))
    return store.below(path)


_BUILT_IN: dict[str, StoreFactory] = {
    "file": _local_store,
    "http": _http_store,
    "https": _http_store,
    "memory": _memory_store,
    "s3": _s3_store,
}
_registered: dict[str, StoreFactory] = {}
_installed: dict[str, StoreFactory] = {}  # loaded entry points


def register_store(scheme: str, factory: StoreFactory) -> None:
    """Open URLs of this scheme with `factory`, which takes precedence over an installed entry point.

    Args:
        scheme: Such as `sqlite`: lower-case letters, digits, `+`, `.` and `-`.
        factory: Called with the URL and a `StoreContext`; returns the store.

    Raises:
        ConfigError: The scheme is built in, registered already, or not a URL scheme in lower case; or the factory is
            not callable.
    """
    if not (isinstance(scheme, str) and _SCHEME.fullmatch(scheme)):  # type: ignore[redundant-expr]  # untyped callers
        raise ConfigError(f"a URL scheme is lower-case letters, digits, + . and -, not {scheme!r}")
    if not callable(factory):
        raise ConfigError(f"a factory is called as factory(url, context); {factory!r} cannot be called")
    if scheme in _BUILT_IN:
        raise ConfigError(f"{scheme}:// is built in and cannot be replaced; register another scheme")
    if scheme in _registered:
        raise ConfigError(f"{scheme}:// is registered already: unregister_store({scheme!r}) first")
    _registered[scheme] = factory


def unregister_store(scheme: str) -> None:
    """Undo `register_store`. Open stores stay usable.

    Args:
        scheme: A scheme that was registered in this process.

    Raises:
        ConfigError: The scheme is built in, or not registered in this process.
    """
    if scheme in _BUILT_IN:
        raise ConfigError(f"{scheme}:// is built in and cannot be unregistered")
    if _registered.pop(scheme, None) is None:
        raise ConfigError(f"{scheme}:// was not registered with register_store; known: {_known()}")


def get_store(scheme: str) -> StoreFactory:
    """The factory of this scheme; an installed entry point is loaded on first use.

    Args:
        scheme: Such as `s3`.

    Returns:
        The function that creates a store from a URL and a `StoreContext`.

    Raises:
        ConfigError: The scheme is unknown, or its entry point cannot be loaded.
    """
    factory = _BUILT_IN.get(scheme) or _registered.get(scheme) or _installed.get(scheme)
    if factory is None:
        points = [point for point in _entry_points() if point.name == scheme]
        if not points:
            raise ConfigError(f"no store for {scheme}://; known: {_known()}. register_store() adds one")
        # Which of the two is meant cannot be known, and they may read different data.
        if len({point.value for point in points}) > 1:
            raise ConfigError(f"more than one installed package provides {scheme}://: {_described(points)}")
        try:
            factory = points[0].load()
        except Exception as error:
            raise ConfigError(f"{scheme}:// cannot be loaded from {_described(points)}: {error}") from error
        if not callable(factory):
            raise ConfigError(f"what {_described(points)} provides for {scheme}:// is not callable")
        _installed[scheme] = factory
    return factory


def list_stores() -> tuple[str, ...]:
    """All known schemes, sorted. Entry points are listed without loading them.

    Returns:
        Built-in, registered and installed schemes.
    """
    names = {point.name for point in _entry_points()}
    return tuple(sorted(names | _BUILT_IN.keys() | _registered.keys()))


def is_known(scheme: str) -> bool:
    """Whether URLs of a scheme can be opened. Entry points are searched last, which takes milliseconds."""
    known = scheme in _BUILT_IN or scheme in _registered or scheme in _installed
    return known or any(point.name == scheme for point in _entry_points())


def open_store(where: str, context: StoreContext) -> Store:
    """Create the store of a URL. No request is sent.

    Raises:
        ConfigError: The URL is invalid, its scheme is unknown, or the factory did not return a store.
    """
    scheme, _ = split_url(where)
    store = get_store(scheme)(where, context)
    # A factory of another package: its mistake should show here, not in the first read.
    if not isinstance(store, Store):
        raise ConfigError(f"the factory of {scheme}:// returned {store!r}, which lacks methods of a Store")
    return store


def split_url(where: str) -> tuple[str, str]:
    """Split a URL into its scheme and the rest after `://`, which is not decoded."""
    if not isinstance(where, str):
        raise ConfigError(f"a place is a URL like s3://bucket/prefix or file:///folder, not {where!r}")
    scheme, separator, rest = where.partition("://")
    if not separator:
        raise ConfigError(
            f"{where!r} has no scheme: write s3://bucket/prefix, or file:// and an absolute path, "
            f"which Path({where!r}).absolute().as_uri() gives"
        )
    if not _SCHEME.fullmatch(scheme):
        raise ConfigError(f"{where!r} does not start with a URL scheme (lower-case letters, digits, + . and -)")
    return scheme, rest


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # takes 10 ms, needed for third-party stores only

    return entry_points(group=ENTRY_POINT_GROUP)


def _described(points: list[EntryPoint]) -> str:
    return ", ".join(f"{p.value} ({p.dist.name if p.dist else 'unknown package'})" for p in points)


def _known() -> str:
    return ", ".join(list_stores())
