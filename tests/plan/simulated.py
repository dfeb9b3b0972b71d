"""A chunked array in a dict, read and written through plans only, and what a plan is compared with."""

from __future__ import annotations

from itertools import product

import numpy as np

from zarr_s3_async._plan.plan import covers_object

OUTSIDE = -1
"""Stands in chunks where they reach beyond the array; never to be read."""


class ChunkedArray:
    """Full-size chunks of int64, by object coordinates and slot."""

    def __init__(self, data, chunks, shards=None):
        self.shape, self.chunks, self.shards = data.shape, chunks, shards
        self.objects = {}
        outer = shards or chunks
        inner = tuple(s // c for s, c in zip(outer, chunks, strict=True))
        grid = tuple(-(-n // s) for n, s in zip(data.shape, outer, strict=True))
        padded = np.full([g * s for g, s in zip(grid, outer, strict=True)], OUTSIDE)
        padded[tuple(slice(0, n) for n in data.shape)] = data
        for coords in product(*map(range, grid)):
            slots = []
            for place in product(*map(range, inner)):
                corner = [o * s + p * c for o, s, p, c in zip(coords, outer, place, chunks, strict=True)]
                box = tuple(slice(x, x + c) for x, c in zip(corner, chunks, strict=True))
                slots.append(padded[(*box, ...)].copy())
            self.objects[coords] = slots

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
        """All of it, put together without a plan."""
        outer = self.shards or self.chunks
        inner = tuple(s // c for s, c in zip(outer, self.chunks, strict=True))
        out = np.full(self.shape, OUTSIDE - 2)
        for coords, slots in self.objects.items():
            for place, chunk in zip(product(*map(range, inner)), slots, strict=True):
                rows = zip(coords, outer, place, self.chunks, strict=True)
                target = out[(*(slice(o * s + p * c, o * s + p * c + c) for o, s, p, c in rows), ...)]
                inside = chunk[(*(slice(0, n) for n in target.shape), ...)]
                target[...] = inside
                assert (chunk >= 0).sum() == inside.size, "something was written outside the array"
        return out


def numbered(shape):
    """Every element is its own row-major position."""
    return np.arange(int(np.prod(shape))).reshape(shape)


def assign(array, positions, values):
    """`array` after one assignment after the other, as its row-major positions say: what comes last stays."""
    flat = array.ravel().copy()
    values = np.broadcast_to(values, positions.shape)
    for position, value in zip(positions.ravel().tolist(), values.ravel().tolist(), strict=True):
        flat[position] = value
    return flat.reshape(array.shape)


def check_plan(plan, shape, chunks, shards, expected):
    """Reads give `expected` (positions), and every figure and flag of the plan is what a count finds."""
    array = ChunkedArray(numbered(shape), chunks, shards)
    got = array.read(plan)
    assert got.shape == plan.out_shape == expected.shape
    assert np.array_equal(got, expected)
    seen, n_chunks, n_partly = [], 0, 0
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
        n_partly += len(slots) - covered
        touchable = sum(bool((chunk >= 0).any()) for chunk in array.objects[coords])
        assert covers_object(parts) == (covered == touchable)
    assert seen == sorted(set(seen))
    assert (plan.n_objects, plan.n_chunks, plan.partly_covered()) == (len(seen), n_chunks, n_partly)
