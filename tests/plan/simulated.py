"""A chunked array in a dict that is read and written through plans only, and checks of plans."""

from __future__ import annotations

from itertools import chain, product, repeat

import numpy as np

from zarr_s3_async._plan.plan import covers_object

OUTSIDE = -1
"""The value of elements of chunks beyond the array's edge; no plan may read it."""


def cells(axis, n):
    """(start, length) of each cell of an axis of length `n`, in order."""
    lengths = repeat(axis) if isinstance(axis, int) else chain(*([length] * count for length, count in axis.runs))
    found, start = [], 0
    while start < n:
        length = next(lengths)
        found.append((start, length))
        start += length
    return found


class ChunkedArray:
    """Full-size chunks of int64, by object coordinates and slot."""

    def __init__(self, data, chunks, shards=None):
        self.shape, self.objects, self.corners = data.shape, {}, {}
        outer = [cells(axis, n) for axis, n in zip(shards or chunks, data.shape, strict=True)]
        padded = np.full([n + 100 for n in data.shape], OUTSIDE)
        padded[tuple(slice(0, n) for n in data.shape)] = data
        for coords in product(*(range(len(axis)) for axis in outer)):
            spans = [axis[at] for axis, at in zip(outer, coords, strict=True)]
            inner = [length for _, length in spans] if shards is None else chunks
            corners = product(
                *(range(start, start + n, c) for (start, n), c in zip(spans, inner, strict=True)),
            )
            self.corners[coords] = list(corners)
            self.objects[coords] = [
                padded[(*(slice(x, x + c) for x, c in zip(corner, inner, strict=True)), ...)].copy()
                for corner in self.corners[coords]
            ]

    def read(self, plan):
        out = np.full(plan.buffer_shape, OUTSIDE - 1)
        for coords, parts in plan.objects():
            for part in parts:
                chunk = self.objects[coords][part.slot]
                assert isinstance(chunk[part.take], np.ndarray)
                assert chunk[part.take].shape == out[part.put].shape
                assert not plan.basic or np.shares_memory(out[part.put], out)
                out[part.put] = chunk[part.take]
        return out.reshape(plan.out_shape)

    def write(self, plan, values):
        values = np.broadcast_to(values, plan.out_shape).reshape(plan.buffer_shape)
        for coords, parts in plan.objects():
            for part in parts:
                self.objects[coords][part.slot][part.take] = values[part.put]

    def whole(self):
        """The whole array, assembled without a plan."""
        out = np.full(self.shape, OUTSIDE - 2)
        for coords, slots in self.objects.items():
            for corner, chunk in zip(self.corners[coords], slots, strict=True):
                target = out[(*(slice(x, x + c) for x, c in zip(corner, chunk.shape, strict=True)), ...)]
                inside = chunk[(*(slice(0, n) for n in target.shape), ...)]
                target[...] = inside
                assert (chunk >= 0).sum() == inside.size, "something was written outside the array"
        return out


def numbered(shape):
    """An array in which every element is its row-major position."""
    return np.arange(int(np.prod(shape))).reshape(shape)


def assign(array, positions, values):
    """`array` after the assignments at row-major positions in order: the last value for a position is kept."""
    flat = array.ravel().copy()
    values = np.broadcast_to(values, positions.shape)
    for position, value in zip(positions.ravel().tolist(), values.ravel().tolist(), strict=True):
        flat[position] = value
    return flat.reshape(array.shape)


def check_plan(plan, shape, chunks, shards, expected):
    """Check that reads give `expected` (positions), and that every figure and flag of the plan equals a count."""
    array = ChunkedArray(numbered(shape), chunks, shards)
    got = array.read(plan)
    assert got.shape == plan.out_shape == expected.shape
    assert np.array_equal(got, expected)
    seen, n_chunks, n_partly, n_replaced = [], 0, 0, 0
    for coords, parts in plan.objects():
        assert all(type(c) is int for c in coords)
        seen.append(coords)
        slots = [part.slot for part in parts]
        assert slots == sorted(set(slots))
        assert len(parts) == len(slots)
        n_chunks += len(slots)
        covered = 0
        for part in parts:
            chunk = array.objects[coords][part.slot]
            inside = chunk[chunk >= 0]
            touched = set(chunk[part.take].ravel().tolist())
            assert touched
            assert min(touched) >= 0
            assert part.whole == (len(touched) == inside.size)
            covered += part.whole
            n_replaced += len(touched) == chunk.size
        n_partly += len(slots) - covered
        touchable = sum(bool((chunk >= 0).any()) for chunk in array.objects[coords])
        assert covers_object(parts) == (covered == touchable)
    assert seen == sorted(set(seen))
    assert (plan.n_objects, plan.n_chunks, plan.partly_covered()) == (len(seen), n_chunks, n_partly)
    assert plan.n_replaced() == n_replaced
