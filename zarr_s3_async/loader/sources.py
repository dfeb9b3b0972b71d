"""The arrays of a loader, wherever it runs: open ones, references, or URLs that are opened when they are needed."""

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
from ..errors import ConfigError, UnsupportedFeature
from .feeds import Geometry

_SECRETS = ("access_key_id", "secret_access_key", "session_token")


@dataclass(frozen=True, slots=True)
class Source:
    """One stored array."""

    where: str | ArrayRef
    zarr_format: Literal[2, 3] | None = None
    missing: Missing = "fill"
    array: Array | None = None
    """Open, in a session of the user's."""

    @classmethod
    def of(cls, given: Any) -> Self:
        """From what the user gave."""
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
        """The same array, to be opened elsewhere."""
        return replace(self, array=None)

    def geometry(self) -> Geometry | None:
        """Where the array is open: what it was when it was given or refreshed."""
        return None if self.array is None else geometry_of(self.array)


def geometry_of(array: Array) -> Geometry:
    """What planning needs of an array. Where chunks differ in length, that of the longest stands for all."""
    try:
        return Geometry(array.shape, array.chunks, array.shards, array.dtype)
    except UnsupportedFeature:
        longest = tuple(max(lengths, default=1) for lengths in array.shard_sizes or array.chunk_sizes)
        return Geometry(array.shape, longest, None, array.dtype)


class Sources:
    """The distinct arrays of a loader, by number, and which field is which.

    Args:
        arrays: What the user gave: one, or a dict of them.
        session_options: Of the sessions that are made for those that are not open.
    """

    def __init__(self, arrays: Any, session_options: Mapping[str, Any]) -> None:
        self.sources: list[Source] = []
        self.fields: dict[str | None, int] = {}
        self._options = dict(session_options)
        given: dict[str | None, Any] = {None: arrays}
        if isinstance(arrays, Mapping):
            given = dict(arrays)
            if not given or not all(isinstance(name, str) for name in given):
                raise ConfigError("a dict of arrays names each with a str, and has one at least")
        for name, one in given.items():
            self.fields[name] = self._number(Source.of(one))

    def _number(self, source: Source) -> int:
        for number, other in enumerate(self.sources):
            if (source.closed(), source.array is None) == (other.closed(), other.array is None):
                return number
        self.sources.append(source)
        return len(self.sources) - 1

    def __getstate__(self) -> dict[str, Any]:
        secret = [name for name in _SECRETS if name in self._options]
        if secret:
            raise ConfigError(
                f"a loader whose session_options hold {secret[0]} is not pickled, so that keys do not leave this "
                "process: let the other one have keys of its own (environment, profile, role)"
            )
        return {
            "sources": [source.closed() for source in self.sources],
            "fields": self.fields,
            "_options": self._options,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def geometries(self) -> list[Geometry] | None:
        """Of all arrays, where all are open."""
        found = [source.geometry() for source in self.sources]
        return None if None in found else [one for one in found if one is not None]

    async def session(self, stack: AsyncExitStack) -> Session:
        """For arrays that are not open: this loop's shared session, or one with the loader's options on the stack."""
        return await stack.enter_async_context(Session(**self._options)) if self._options else shared_session()

    async def open(self, stack: AsyncExitStack, session: Session | None, *, here: bool) -> Sequence[Array]:
        """All arrays.

        Args:
            stack: Closes what is opened for it.
            session: For arrays that are not open; None: see `session`.
            here: Whether open arrays of the user's are of this event loop.
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
