"""Access to the internals of an array handle, for streams and copies, which use the engine directly."""

from __future__ import annotations

from .._array import Array
from .._engine.runtime import Layout, Runtime


def internals(array: Array) -> tuple[Runtime, str, Layout]:
    """The runtime of the array's session, its path below the store's root, and its current layout."""
    return array._runtime, array._path, array._layout  # noqa: SLF001  # streams use the same engine as arrays
