"""What an array handle is made of: for streams and copies, which work below it."""

from __future__ import annotations

from .._array import Array
from .._engine.runtime import Layout, Runtime


def inside(array: Array) -> tuple[Runtime, str, Layout]:
    """The runtime of its session, its path below the store's root, and the layout that it has now."""
    return array._runtime, array._path, array._layout  # noqa: SLF001  # streams are built on what arrays are built on
