"""Shared sessions, one per event loop and process, and functions that use them (`zs.open_array`, …)."""

from __future__ import annotations

import atexit
import os
import sys
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, Unpack, cast

from ._array import Array, ArrayRef, GroupRef
from ._model.create import ArrayOptions
from ._options import check_names, check_options, max_age_of
from ._session import OpenOptions, Session, SessionOptions, Where, is_loop_running, split_options
from ._types import JSON, Missing
from ._where import as_url
from .config import CachePolicy, CacheSize
from .errors import ConfigError, WrongEventLoop

if TYPE_CHECKING:
    from ._engine.hierarchy import Consolidated
    from ._group import Group

Node = TypeVar("Node", bound="Array | Group")
_Call: TypeAlias = Callable[[Session, Where, str], Awaitable[Node]]
"""Opens or creates a node, given a session, a location and a path below it."""


@dataclass(slots=True)
class _Shared:
    session: Session
    options: SessionOptions
    closer: AsyncGenerator[None, None]
    """A suspended generator. The loop closes it when it shuts down, and that closes the session."""


_Key: TypeAlias = tuple[AbstractEventLoop, str]
"""An event loop, and the options given to `session_with` as text; "" for the session of `shared_session`."""
_sessions: dict[_Key, _Shared] = {}
_inherited: list[dict[_Key, _Shared]] = []


def shared_session(**options: Unpack[SessionOptions]) -> Session:
    """The session of this event loop that calls without a session share: `await zs.open_array(url)`.

    It is created by the first call and closed with its loop, at the latest when the interpreter exits. Every loop and
    every forked child has its own. After `aclose`, the next call creates a new one.

    Args:
        options: Options of `Session`, for the call that creates it. Later calls must give the same ones, or none.

    Returns:
        The session. Closing it is optional.

    Raises:
        ConfigError: The session exists with other options.
        WrongEventLoop: No event loop is running.
    """
    check_names(options, SessionOptions.__annotations__, "Session")
    if not is_loop_running():
        raise WrongEventLoop(
            "a shared session belongs to a running event loop of asyncio: call this inside a coroutine"
        )
    found, is_new = _found(get_running_loop(), "", options)
    if not is_new and options and options != found.options:
        raise ConfigError(
            f"the shared session of this event loop already exists, with {_named(found.options)}: give these options "
            "to the first call, before anything is opened, or close it first (aclose(), zs.blocking.close()), or "
            "create your own session (zs.Session)"
        )
    return found.session


def session_with(options: SessionOptions) -> Session:
    """The session of this event loop for these options, shared by all callers; without options, `shared_session()`."""
    if not options:
        return shared_session()
    # As text, because some options are not hashable.
    return _found(get_running_loop(), repr(sorted(options.items())), options)[0].session


def _found(loop: AbstractEventLoop, name: str, options: SessionOptions) -> tuple[_Shared, bool]:
    """The session of this loop and name, created if there is none, and whether this call created it."""
    found = _sessions.get((loop, name))
    if found is not None and not found.session.closed:
        return found, False
    for key in list(_sessions):  # a copy, since other threads may add sessions of their own loops
        if key[0].is_closed() and (shared := _sessions.pop(key, None)) is not None:
            shared.session._abandon()  # noqa: SLF001  # internal to the package
    found = _sessions[loop, name] = _open(options)
    return found, True


def _open(options: SessionOptions) -> _Shared:
    session = Session(**options)
    session._guard()  # noqa: SLF001  # opens it on this loop
    # `asyncio.run` closes suspended generators of its loop at the end; this is the only hook of a loop's end.
    closer = _close_with_loop(session)
    with suppress(StopIteration):  # the first step registers the generator with the loop
        closer.__anext__().send(None)
    return _Shared(session, options, closer)


async def _close_with_loop(session: Session) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.aclose()


def _named(options: SessionOptions) -> str:
    return "the options " + ", ".join(sorted(options)) if options else "the default options"


def _close_at_exit() -> None:
    """Close the sessions of loops that were never shut down, as in notebooks."""
    while _sessions:
        (loop, _), shared = _sessions.popitem()
        # A loop that still runs in another thread cannot be used from here.
        if not loop.is_closed() and not loop.is_running():
            with suppress(Exception):
                loop.run_until_complete(shared.session.aclose())
        shared.session._abandon()  # noqa: SLF001  # as above


_IMPORTED_BY_THREADS = ("zarr_s3_async", "numcodecs", "aiobotocore", "botocore", "aiohttp")
_LONGEST_IMPORT = 5.0
"""Seconds after which a fork no longer waits for an import."""


def _wait_for_imports() -> None:
    """Before a fork: wait until no thread is importing what this library imports when it is needed first.

    A child inherits a module that is being imported as such, but not the thread that imports it: its first import of
    that module would wait for ever.
    """
    end = monotonic() + _LONGEST_IMPORT
    while monotonic() < end and any(
        name.partition(".")[0] in _IMPORTED_BY_THREADS
        # Python's import system uses the same mark to decide whether to wait.
        and getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
    ):
        sleep(0.001)


def _forget_parent() -> None:
    """In a forked child: keep the parent's sessions unused, since collecting them would close the parent's sockets."""
    global _sessions  # noqa: PLW0603  # one table per process
    _inherited.append(_sessions)
    _sessions = {}


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports, after_in_child=_forget_parent)


class Opening(Generic[Node]):
    """An array or a group that is not opened or created yet: await it, or enter it with `async with`.

    `await` uses the event loop's shared session (`zs.shared_session`), and the handle is valid as long as the loop
    runs. `async with` creates a separate session, which is closed after the block.
    """

    __slots__ = ("_call", "_options", "_path", "_session", "_where")

    def __init__(
        self, where: Where, path: str, options: SessionOptions, call: _Call[Node], of: Callable[..., Opening[Node]]
    ) -> None:
        """What the function `of` returns, which has the options of its signature and those of a session."""
        check_options(options, of, SessionOptions.__annotations__)
        self._call = call
        self._where = where
        self._path = path
        self._options = options
        self._session: Session | None = None

    def __await__(self) -> Generator[Any, None, Node]:
        return self._shared().__await__()

    async def _shared(self) -> Node:
        s3, of_session = split_options(self._options)
        if of_session:
            raise ConfigError(
                f"{', '.join(sorted(of_session))} is an option of a whole session: give it to zs.shared_session(...) "
                "or zs.blocking.configure(...) before anything is opened, or use `async with` instead of await"
            )
        session = shared_session()
        where, path = _with_options(session, self._where, self._path, s3) if s3 else (self._where, self._path)
        return await self._call(session, where, path)

    async def __aenter__(self) -> Node:
        if self._session is not None:
            raise ConfigError("this object was already entered once; call the function again")
        self._session = session = Session(**self._options)
        await session.__aenter__()
        try:
            return await self._call(session, self._where, self._path)
        except BaseException:
            await session.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.aclose()

    def __repr__(self) -> str:
        return f"<{self._where!s}, not opened yet: await it, or enter it with `async with`>"

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report such uses

        def __getitem__(self, _: object) -> NoReturn:
            raise TypeError("not opened yet: write `array = await ...` first, then `await array[...]`")

        def __iter__(self) -> NoReturn:  # otherwise Python iterates by __getitem__
            raise TypeError("not opened yet, and not iterable: write `await` before it, or use `async with`")

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with`, not `with`; code that cannot await uses zs.blocking")

        def __exit__(self, *_: object) -> None: ...

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"not opened yet, so it has no {name!r}: write `await` before it, or use `async with`")


def _with_options(session: Session, where: Where, path: str, options: Mapping[str, Any]) -> tuple[Where, str]:
    """A location and the path below it, with its own S3 options instead of the session's."""
    match where:
        case ArrayRef() | GroupRef():
            path = "/".join(part for part in (where.path, path) if part)
            return session.store(where.url, **{**where.config, **options}), path
        case str() | os.PathLike():
            return session.store(as_url(where), **options), path
        case _:
            raise ConfigError("S3 options can be given with a URL, a path or a ref; a Store already has its own")


def _split_cache(
    cache: CachePolicy | CacheSize | None, options: OpenOptions
) -> tuple[CachePolicy | None, SessionOptions]:
    """Split `cache`: a policy is returned as such, a `CacheSize` is added to the options of the session."""
    max_age_of(
        None if isinstance(cache, CacheSize) else cache
    )  # an invalid value is reported by this call, not by the await
    of_session = cast("SessionOptions", options)
    if not isinstance(cache, CacheSize):
        return cache, of_session
    of_session["cache"] = cache
    return None, of_session


def open_array(
    where: Where,
    *,
    path: str = "",
    zarr_format: Literal[2, 3] | None = None,
    missing: Missing = "fill",
    cache: CachePolicy | CacheSize | None = None,
    **options: Unpack[OpenOptions],
) -> Opening[Array]:
    """Open an array: `array = await zs.open_array(url)`, or `async with zs.open_array(url) as array:`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        zarr_format: See `Session.open_array`.
        missing: See `Session.open_array`.
        cache: A policy (`"immutable"`, `"revalidate"`, seconds) applies to this array, see `Session.open_array`. A
            `CacheSize` applies to the session, see `Session`.
        options: Other options of `Session`. With `await`, only S3 options, which apply to this array.

    Returns:
        An object to await (shared session) or to enter (own session); see `Opening`.
    """
    policy, of_session = _split_cache(cache, options)
    return Opening(
        where,
        path,
        of_session,
        lambda session, at, below: session.open_array(
            at, path=below, zarr_format=zarr_format, missing=missing, cache=policy
        ),
        open_array,
    )


def open_group(
    where: Where,
    *,
    path: str = "",
    zarr_format: Literal[2, 3] | None = None,
    consolidated: Consolidated = True,
    cache: CachePolicy | CacheSize | None = None,
    **options: Unpack[OpenOptions],
) -> Opening[Group]:
    """Open a group, by await or `async with`; see `open_array` and `Session.open_group`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        zarr_format: See `Session.open_group`.
        consolidated: See `Session.open_group`.
        cache: A policy, or a `CacheSize`; see `open_array`.
        options: See `open_array`.

    Returns:
        An object to await (shared session) or to enter (own session); see `Opening`.
    """
    policy, of_session = _split_cache(cache, options)
    return Opening(
        where,
        path,
        of_session,
        lambda session, at, below: session.open_group(
            at, path=below, zarr_format=zarr_format, consolidated=consolidated, cache=policy
        ),
        open_group,
    )


def open(  # noqa: A001  # zs.open, as zarr.open and h5py's are called
    where: Where,
    *,
    path: str = "",
    zarr_format: Literal[2, 3] | None = None,
    missing: Missing = "fill",
    consolidated: Consolidated = True,
    cache: CachePolicy | CacheSize | None = None,
    **options: Unpack[OpenOptions],
) -> Opening[Array | Group]:
    """Open an array or a group, whichever is stored, by await or `async with`; see `open_array`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        zarr_format: See `Session.open`.
        missing: See `Session.open_array`.
        consolidated: See `Session.open_group`.
        cache: A policy, or a `CacheSize`; see `open_array`.
        options: See `open_array`.

    Returns:
        An object to await (shared session) or to enter (own session); see `Opening`.
    """
    policy, of_session = _split_cache(cache, options)
    return Opening(
        where,
        path,
        of_session,
        lambda session, at, below: session.open(
            at, path=below, zarr_format=zarr_format, missing=missing, consolidated=consolidated, cache=policy
        ),
        open,
    )


class CreateOptions(ArrayOptions, SessionOptions):
    """The options of a new array and of the session that creates it."""


def create_array(where: Where, *, path: str = "", **options: Unpack[CreateOptions]) -> Opening[Array]:
    """Create an array, by await or `async with`; see `open_array` and `Session.create_array`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        options: Options of `ArrayOptions` (`shape`, `dtype`, `chunks`, …) and of `Session`.

    Returns:
        An object to await (shared session) or to enter (own session); see `Opening`.
    """
    check_options(options, create_array, CreateOptions.__annotations__)
    of_array: Any = {name: value for name, value in options.items() if name in ArrayOptions.__annotations__}
    of_session: Any = {name: value for name, value in options.items() if name not in of_array}
    return Opening(
        where,
        path,
        of_session,
        lambda session, at, below: session.create_array(at, path=below, **of_array),
        create_array,
    )


def create_group(
    where: Where,
    *,
    path: str = "",
    attributes: Mapping[str, JSON] | None = None,
    zarr_format: Literal[2, 3] = 3,
    overwrite: bool = False,
    **options: Unpack[SessionOptions],
) -> Opening[Group]:
    """Create a group, by await or `async with`; see `open_array` and `Session.create_group`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        attributes: See `Session.create_group`.
        zarr_format: See `Session.create_group`.
        overwrite: See `Session.create_group`.
        options: Options of `Session`. With `await`, only S3 options.

    Returns:
        An object to await (shared session) or to enter (own session); see `Opening`.
    """
    return Opening(
        where,
        path,
        options,
        lambda session, at, below: session.create_group(
            at, path=below, attributes=attributes, zarr_format=zarr_format, overwrite=overwrite
        ),
        create_group,
    )
