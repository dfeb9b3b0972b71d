"""The arrays of a loader: open arrays, or refs and URLs that are opened when they are needed, in any process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from .._array import Array, ArrayRef
from .._session import Session
from .._shared import shared_session
from .._types import Missing
from .._where import as_url
from ..config import SECRET_OPTIONS
from ..errors import ConfigError, UnsupportedFeature
from .feeds import Geometry


@dataclass(frozen=True, slots=True)
class Source:
    """One stored array."""

    where: str | ArrayRef
    zarr_format: Literal[2, 3] | None = None
    missing: Missing = "fill"
    array: Array | None = None
    """The open array, in a session of the user; None: it is opened when it is needed."""

    @classmethod
    def of(cls, given: Any) -> Self:
        """The source of an item of the user's `arrays`.

        Raises:
            ConfigError: It is of another type.
        """
        match given:
            case Array():
                return cls(given.ref, given.metadata.zarr_format, given.missing, given)
            case ArrayRef():
                return cls(given)
            case str() | os.PathLike():
                return cls(as_url(given))
            case _:
                raise ConfigError(
                    "a BatchLoader reads arrays: an Array, an ArrayRef, a URL or a pathlib.Path, or a dict of them by "
                    f"name, not {type(given).__name__}"
                )

    def closed(self) -> Source:
        """This source without the open array, for another event loop or process."""
        return replace(self, array=None)

    def geometry(self) -> Geometry | None:
        """The geometry of an open array, as of its opening or last refresh; None if it is not open."""
        return None if self.array is None else geometry_of(self.array)


def geometry_of(array: Array) -> Geometry:
    """The geometry of an array. If chunks have different lengths, the longest is used for all."""
    try:
        return Geometry(array.shape, array.chunks, array.shards, array.dtype)
    except UnsupportedFeature:
        longest = tuple(max(lengths, default=1) for lengths in array.shard_sizes or array.chunk_sizes)
        return Geometry(array.shape, longest, None, array.dtype)


class Sources:
    """The distinct arrays of a loader, by number, and the number of each field's array.

    Args:
        arrays: The user's `arrays`: one, or a dict of them.
        session_options: Options of the sessions in which arrays are opened.
    """

    def __init__(self, arrays: Any, session_options: Mapping[str, Any]) -> None:
        self.sources: list[Source] = []
        self.fields: dict[str | None, int] = {}
        self._options = dict(session_options)
        given: dict[str | None, Any] = {None: arrays}
        if isinstance(arrays, Mapping):
            given = dict(arrays)
            if not given or not all(isinstance(name, str) for name in given):
                raise ConfigError("a dict of arrays must have at least one item, and its keys must be str")
        for name, one in given.items():
            self.fields[name] = self._number(Source.of(one))

    def _number(self, source: Source) -> int:
        # Fields of the same array share a source, and so its rows in memory.
        for number, other in enumerate(self.sources):
            if (source.closed(), source.array is None) == (other.closed(), other.array is None):
                return number
        self.sources.append(source)
        return len(self.sources) - 1

    def __getstate__(self) -> dict[str, Any]:
        secret = [name for name in SECRET_OPTIONS if self._options.get(name) is not None]
        if secret:
            raise ConfigError(
                f"a loader with {secret[0]} in session_options cannot be pickled, so that secrets do not leave this "
                "process: give the other process its own credentials (environment, profile, role)"
            )
        return {
            "sources": [source.closed() for source in self.sources],
            "fields": self.fields,
            "_options": self._options,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def geometries(self) -> list[Geometry] | None:
        """The geometries of all arrays; None if some are not open."""
        found = [source.geometry() for source in self.sources]
        return None if None in found else [one for one in found if one is not None]

    async def session(self, stack: AsyncExitStack) -> Session:
        """The session for arrays that are not open: the loop's shared one, or with options one that `stack` closes."""
        return await stack.enter_async_context(Session(**self._options)) if self._options else shared_session()

    async def open(self, stack: AsyncExitStack, session: Session | None, *, here: bool) -> Sequence[Array]:
        """Return all arrays, open.

        Args:
            stack: Closes the session that is opened, if any.
            session: The session for arrays that are not open; None: see `session`.
            here: Whether the user's open arrays belong to this event loop.
        """
        arrays: list[Array] = []
        for source in self.sources:
            if source.array is not None and here:
                arrays.append(source.array)
                continue
            if session is None:
                session = await self.session(stack)
            arrays.append(
                await session.open_array(source.where, zarr_format=source.zarr_format, missing=source.missing)
            )
        return arrays
