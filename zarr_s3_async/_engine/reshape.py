"""Resize and append: change the shape by a conditional write of the metadata, then the chunks.

Shrinking stores the new shape first, so that its readers never see a deleted chunk. Then it deletes the objects outside
and fills the cut-off part of objects at the new edge, so that growing again shows the fill value there.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import numpy as np

from .._grid import grid_shape, is_continued, place
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta, differences
from .._plan import selection
from .._types import Coords, Shape
from ..errors import ConcurrentModification, ConfigError, NodeNotFound, StoreError, ZarrS3Error
from ..stores.optional import delete_stream
from . import nodes, operations
from .runtime import Layout, Runtime, lay_out

_MAY_CHANGE = {"shape", "edges", "dimension_names", "attributes"}
"""Fields of an array's metadata that others may edit while a handle is open."""


async def change_shape(
    runtime: Runtime, path: str, meta: ArrayMeta, new_shape: Callable[[Shape], Shape]
) -> tuple[ArrayMeta, ArrayMeta]:
    """Replace the stored shape by `new_shape` of it. Returns the metadata before and after.

    Raises:
        NodeNotFound: The array was replaced by one of another type or layout.
    """
    before: list[ArrayMeta] = []

    def edit(stored: ArrayMeta) -> ArrayMeta:
        changed = _changed(stored, meta)
        if changed:
            url = nodes.url_of(runtime.store, path)
            raise NodeNotFound(
                f"{url} is no longer the array that was opened: another one was stored in its place, with another "
                f"{', '.join(changed)}; open it again",
                url=url,
                path=path,
            )
        before[:] = [stored]
        return formats.with_shape(stored, new_shape(stored.shape))

    after = await nodes.update(runtime, path, meta.zarr_format, edit, "array")
    return before[0], after


def _changed(stored: ArrayMeta, opened: ArrayMeta) -> list[str]:
    """Fields that differ although no edit can change them: the opened array was replaced by another one."""
    changed = [name for name in differences(stored, opened) if name not in _MAY_CHANGE]
    if stored.edges is None and opened.edges is None:
        return changed
    # Growing adds cells, which may be the longest ones; existing cells keep their lengths.
    name = "chunks" if stored.shards is None else "shards"
    others = [other for other in changed if other != name]
    return others if all(map(is_continued, stored.object_axes, opened.object_axes)) else [name, *others]


async def resize(runtime: Runtime, path: str, meta: ArrayMeta, shape: Shape) -> ArrayMeta:
    """Change the array's shape and delete everything outside; if that fails, a note on the error says so."""
    before, after = await change_shape(runtime, path, meta, lambda _: shape)
    # Growing writes no chunk: new elements are absent, and read as fill.
    if any(new < old for new, old in zip(after.shape, before.shape, strict=True)):
        try:
            await _delete_outside(runtime, path, before, after)
            await _cut_edges(runtime, lay_out(runtime, path, before), after.shape)
        except ZarrS3Error as error:
            error.add_note(
                f"the shape {after.shape} is stored, but some objects outside it may remain, and would reappear if the "
                f"array grows: resize to {before.shape} and back"
            )
            raise
    return after


async def _delete_outside(runtime: Runtime, path: str, before: ArrayMeta, after: ArrayMeta) -> None:
    """Delete the objects of the old grid that the new grid does not contain, found by a listing."""
    prefix = path + "/" if path else ""

    def is_outside(key: str) -> bool:
        coords = after.keys.decode(key.removeprefix(prefix), after.ndim)
        return coords is not None and _between(coords, after.grid_shape, before.grid_shape)

    # By a listing, not by the grid, which may have billions of chunks that were never stored.
    listed = runtime.store.list_prefix(prefix)
    await delete_stream(runtime.store, (entry.key async for entry in listed if is_outside(entry.key)))
    runtime.forget_below(path)


def _between(coords: Coords, inner: Shape, outer: Shape) -> bool:
    inside = all(at < n for at, n in zip(coords, inner, strict=True))
    return not inside and all(at < n for at, n in zip(coords, outer, strict=True))


async def _cut_edges(runtime: Runtime, old: Layout, shape: Shape) -> None:
    """Fill the cut-off part of objects at the new edge, one dimension after the other."""
    meta = old.meta
    # Up to the end of these objects only: objects further out are deleted already.
    kept = tuple(map(min, meta.shape, shape))
    reach = tuple(map(min, meta.shape, _up_to_objects(kept, meta)))
    for axis, (new, end) in enumerate(zip(shape, reach, strict=True)):
        if new >= end or 0 in reach:
            continue
        start = [0] * meta.ndim
        start[axis] = new
        region = selection.region(start, reach, None, meta.shape)
        await operations.put(runtime, old, region, old.fill, write_empty=False)


def _up_to_objects(shape: Shape, meta: ArrayMeta) -> Shape:
    """The shape extended to the ends of the objects at its edges."""
    cells = zip(meta.object_axes, grid_shape(meta.object_axes, shape), strict=True)
    return tuple(sum(place(axis, n - 1)) if n else 0 for axis, n in cells)


async def append(
    runtime: Runtime, path: str, layout: Layout, data: np.ndarray[Any, Any], axis: int, *, write_empty: bool
) -> ArrayMeta:
    """Claim rows by growing the shape, then write them. Concurrent appends never share a row.

    If the write fails, the shape is restored unless another append has grown it further. Otherwise, and after a
    cancellation, the claimed rows stay and read as fill values. A note on the exception says which.
    """
    if layout.encode_error is not None:
        raise layout.not_writable()
    meta, rows = layout.meta, _rows(layout.meta, data, axis)

    def longer(shape: Shape) -> Shape:
        return tuple(n + rows if dim == axis else n for dim, n in enumerate(shape))

    try:
        before, after = await change_shape(runtime, path, meta, longer)
    except (StoreError, CancelledError) as error:
        if not isinstance(error, ConcurrentModification):
            error.add_note(
                f"it is unknown whether {rows} more rows of axis {axis} of {layout.url} are claimed: compare its shape "
                "after refresh(); claimed rows that are not written read as fill values"
            )
        raise
    # No object at the array's edge counts as covered: concurrent appends may write beyond the edge.
    uncut = lay_out(runtime, path, formats.with_shape(after, _up_to_objects(after.shape, after)), layout.reader)
    start = tuple(n if dim == axis else 0 for dim, n in enumerate(before.shape))
    region = selection.region(start, after.shape, None, uncut.meta.shape)
    try:
        await operations.put(runtime, uncut, region, data, write_empty=write_empty)
    except (ZarrS3Error, CancelledError) as error:
        # A cancelled call must not start further requests: the claim stays.
        shapes = (before.shape, after.shape)
        kept = isinstance(error, CancelledError) or await _give_back(runtime, path, uncut, region, shapes)
        state = "stay claimed, and read as fill values where they were not written" if kept else "were given back"
        error.add_note(f"rows {start[axis]}:{after.shape[axis]} of axis {axis} of {layout.url} {state}")
        raise
    return after


def _rows(meta: ArrayMeta, data: np.ndarray[Any, Any], axis: int) -> int:
    if not -meta.ndim <= axis < meta.ndim:
        raise ConfigError(f"an array of {meta.ndim} dimensions has no axis {axis}")
    across = [n for dim, n in enumerate(meta.shape) if dim != axis]
    if data.ndim != meta.ndim or [n for dim, n in enumerate(data.shape) if dim != axis] != across:
        raise ConfigError(
            f"data of shape {data.shape} cannot be appended along axis {axis} to an array of shape {meta.shape}: "
            "the other dimensions must be equal"
        )
    return int(data.shape[axis])


async def _give_back(
    runtime: Runtime, path: str, uncut: Layout, rows: selection.Selection, shapes: tuple[Shape, Shape]
) -> bool:
    """Clear the claimed rows, then restore the shape unless the array has grown further. True if the claim stays.

    The order matters: once the shape is restored, another append may claim and write the rows.
    """
    unclaimed, claimed = shapes

    def is_last(meta: ArrayMeta | GroupMeta) -> bool:
        return isinstance(meta, ArrayMeta) and meta.shape == claimed

    try:
        node = await nodes.load(runtime, path, uncut.meta.zarr_format, "array")
        if not is_last(node.meta):
            return True
        await operations.put(runtime, uncut, rows, uncut.fill, write_empty=False)
        before, _ = await change_shape(
            runtime, path, uncut.meta, lambda stored: unclaimed if stored == claimed else stored
        )
    except ZarrS3Error:
        return True  # the first error is raised instead of this one; the rows stay claimed
    return not is_last(before)
