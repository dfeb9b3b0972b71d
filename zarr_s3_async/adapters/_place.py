"""A store for any event loop of any process: each loop opens it in its shared session."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import zarr_s3_async as zs

from .._shared import session_with
from ..stores import optional
from ..stores.base import StoreRef

_OF_SESSION = ("limits", "retry", "hedge", "cache", "hooks")


class Place:
    """The location of a store, and the options with which each event loop opens it.

    It pickles as a reference: URL and options without keys. The other process needs credentials of its own.

    Args:
        where: A URL, a path of the file system, or a store. The connections of an `S3Store` belong to one event loop:
            the running one, or else the first one that uses the store. Other loops open the store again. Stores of
            other kinds are used from every loop.
        options: Options of `zs.Session`, with a URL only. S3 options apply to this store only. Places with the same
            `limits`, `retry`, `hedge`, `cache` and `hooks` share one session per loop; without any of these, that is
            the loop's shared session.

    Raises:
        ConfigError: The URL or an option is invalid, or options were passed together with a store.
    """

    __slots__ = ("_config", "_given", "_home", "_of_session", "_open", "url")

    def __init__(self, where: str | PathLike[str] | zs.Store, options: Mapping[str, Any]) -> None:
        self._given: zs.Store | None = None
        self._home: AbstractEventLoop | None = None
        """The event loop of the S3Store that was passed."""
        self._open: tuple[AbstractEventLoop, zs.Session, zs.Store] | None = None
        """The last loop that opened the store, with its session and store."""
        self._config: zs.S3Config | None = None
        """None: the session's configuration."""
        self._of_session: zs.SessionOptions = {}
        if isinstance(where, str | PathLike):
            given = {name: value for name, value in options.items() if value is not None}
            url = where if isinstance(where, str) else Path(where).absolute().as_uri()
            session = zs.Session(**given)
            self.url: str = session.store(url).url
            session._abandon()  # noqa: SLF001  # it only checked the URL and the options, and has nothing to close
            of_session: Any = {name: given.pop(name) for name in _OF_SESSION if name in given}
            self._of_session = of_session
            if given:
                self._config = (given.pop("s3", None) or zs.S3Config()).with_options(**given)
            return
        if not isinstance(where, zs.Store):
            raise zs.ConfigError(f"a store must be a URL such as s3://bucket/prefix, or a zs.Store, not {where!r}")
        if options:
            raise zs.ConfigError(
                f"{', '.join(sorted(options))}: options are only for URLs; a store has those of its session"
            )
        self.url = where.url
        self._given = where
        if isinstance(where, zs.S3Store):
            self._config = where.config
            with suppress(RuntimeError):  # no loop is running yet
                self._home = get_running_loop()

    def store(self) -> zs.Store:
        """The store for the running loop, opened if necessary."""
        known = self._open
        loop = get_running_loop()
        if known is not None and known[0] is loop and not known[1].closed:
            return known[2]
        if self._given is not None and self._is_at_home(self._given, loop):
            return self._given
        session = self.session()
        store = session.store(self.url, s3=self._config)
        self._open = (loop, session, store)
        return store

    def session(self) -> zs.Session:
        """The session of the running loop in which arrays of the store are opened."""
        return session_with(self._of_session)

    def _is_at_home(self, given: zs.Store, loop: AbstractEventLoop) -> bool:
        if not isinstance(given, zs.S3Store):
            return True
        if self._home is None:
            self._home = loop
        return self._home is loop

    def forget(self) -> None:
        """Drop the store of the last loop. That loop's session closes the connections."""
        self._open = None

    @property
    def ref(self) -> StoreRef:
        """A reference for other processes: the URL, and the options that differ from their defaults and are not secret.

        Raises:
            TypeError: The store can be used only in this process.
        """
        if self._given is not None:
            return optional.ref(self._given)
        return StoreRef(url=self.url, config={} if self._config is None else self._config.public())

    def __reduce__(self) -> tuple[Any, ...]:
        ref = self.ref
        return _opened_again, (ref.url, dict(ref.config), self._of_session)

    def __eq__(self, other: object) -> bool:
        """Whether both name the same store, reached with the same options; keys are not compared."""
        if not isinstance(other, Place):
            return NotImplemented
        if self._of_session != other._of_session:
            return False
        try:
            return self.ref == other.ref
        except TypeError:
            return self._given == other._given

    def __hash__(self) -> int:
        return hash(self.url)


def _opened_again(url: str, config: dict[str, Any], of_session: dict[str, Any]) -> Place:
    return Place(url, {**of_session, "s3": zs.S3Config(**config)} if config else of_session)


class _BucketErrors:
    """`with bucket_errors:` converts BucketNotFound, a FileNotFoundError, to a StoreError that is not one.

    Other libraries treat every FileNotFoundError as an absent object; zarr-python's shard reader would return fill
    values. This is a class because it is entered for every chunk, and a generator-based context manager is slower.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, zs.BucketNotFound):
            fields = {
                name: getattr(error, name) for name in ("bucket", "key", "status", "code", "request_id", "attempts")
            }
            raise zs.StoreError(str(error), **fields) from error


bucket_errors = _BucketErrors()
