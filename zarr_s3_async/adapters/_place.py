"""A store that any event loop of any process may use: opened where it is used, by the session that the loop shares."""

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
    """Where objects are, and how the loop that asks reaches them.

    Pickled, it is a reference: URL and options without keys, which the other process has to have of its own.

    Args:
        where: A URL, a path of the file system, or a store. The connections of an `S3Store` belong to one loop: the one
            that runs now, or else the first to use it. On others it is opened again. Other stores are used as they are.
        options: Of the session, as `zs.Session` takes them; with a URL only. Those of S3 concern this store alone.
            Places that have the same `limits`, `retry`, `hedge`, `cache` and `hooks` share a session per loop; where
            there are none, it is the loop's shared session.

    Raises:
        ConfigError: The URL or an option cannot be, or there are options beside a store.
    """

    __slots__ = ("_config", "_given", "_home", "_of_session", "_open", "url")

    def __init__(self, where: str | PathLike[str] | zs.Store, options: Mapping[str, Any]) -> None:
        self._given: zs.Store | None = None
        self._home: AbstractEventLoop | None = None
        """Of a given S3Store."""
        self._open: tuple[AbstractEventLoop, zs.Session, zs.Store] | None = None
        """The last other loop, with its session and store."""
        self._config: zs.S3Config | None = None
        """None: what the session has."""
        self._of_session: zs.SessionOptions = {}
        if isinstance(where, str | PathLike):
            given = {name: value for name, value in options.items() if value is not None}
            url = where if isinstance(where, str) else Path(where).absolute().as_uri()
            session = zs.Session(**given)
            self.url: str = session.store(url).url
            session._abandon()  # noqa: SLF001  # it was to check the URL and the options, and has nothing to close
            of_session: Any = {name: given.pop(name) for name in _OF_SESSION if name in given}
            self._of_session = of_session
            if given:
                self._config = (given.pop("s3", None) or zs.S3Config()).with_options(**given)
            return
        if not isinstance(where, zs.Store):
            raise zs.ConfigError(f"a store is a URL such as s3://bucket/prefix, or a zs.Store, not {where!r}")
        if options:
            raise zs.ConfigError(f"{', '.join(sorted(options))}: a store has the options of its session already")
        self.url = where.url
        self._given = where
        if isinstance(where, zs.S3Store):
            self._config = where.config
            with suppress(RuntimeError):  # no loop is running yet
                self._home = get_running_loop()

    def store(self) -> zs.Store:
        """The store, for the running loop."""
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
        """The session of the running loop, for arrays of the store."""
        return session_with(self._of_session)

    def _is_at_home(self, given: zs.Store, loop: AbstractEventLoop) -> bool:
        if not isinstance(given, zs.S3Store):
            return True
        if self._home is None:
            self._home = loop
        return self._home is loop

    def forget(self) -> None:
        """Forget the store of the last loop; that loop's session closes its connections."""
        self._open = None

    @property
    def ref(self) -> StoreRef:
        """Where another process finds the store, and the options that differ from their defaults and are no secret.

        Raises:
            TypeError: The store can be used in this process alone.
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
    """`with bucket_errors:` turns BucketNotFound, a FileNotFoundError, into a StoreError that is none.

    Other libraries take a FileNotFoundError for an absent object: zarr-python's shard reader returns fill values then.
    A class rather than a generator: it is entered for every chunk.
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
