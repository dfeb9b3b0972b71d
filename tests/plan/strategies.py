"""Random arrays and selections, small enough for exhaustive counts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from zarr_s3_async._grid import Edges


def edges(n, multiple=1):
    """Lengths of cells that cover an axis, all multiples of one number."""

    def covering(runs):
        made = Edges((length * multiple, count) for length, count in runs)
        return made.covering(n, multiple)

    return st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5).map(covering)


@st.composite
def grids(draw, min_dims=0, max_dims=3):
    """(shape, chunks, shards or None): regular axes, and axes whose cells differ in length."""
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=min_dims, max_size=max_dims)))
    chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    varies = [draw(st.booleans()) for _ in shape] if draw(st.booleans()) else [False] * len(shape)
    if not draw(st.booleans()):
        return shape, tuple(draw(edges(n)) if v else c for n, c, v in zip(shape, chunks, varies, strict=True)), None
    shards = (
        draw(edges(n, c)) if v else c * draw(st.integers(1, 4)) for n, c, v in zip(shape, chunks, varies, strict=True)
    )
    return shape, chunks, tuple(shards)


@st.composite
def regions(draw, shape):
    """(start, stop, step) of a strict region."""
    start = tuple(draw(st.integers(0, n)) for n in shape)
    stop = tuple(draw(st.integers(a, n)) for a, n in zip(start, shape, strict=True))
    step = draw(st.none() | st.tuples(*(st.integers(1, 5) for _ in shape)))
    return start, draw(st.none()) if draw(st.integers(0, 4)) == 0 else stop, step


def slices(n):
    """Any slice, also beyond the axis, with a step of either sign."""
    bound = st.none() | st.integers(-n - 3, n + 3)
    step = st.none() | st.integers(-5, 5).filter(bool)
    return st.builds(slice, bound, bound, step)


def _integer(n):
    return st.integers(-n, n - 1).flatmap(lambda i: st.sampled_from([i, np.int32(i), np.array(i)]))


def basic_item(n):
    """A slice, or an integer if the axis is not empty."""
    return slices(n) | _integer(n) if n else slices(n)


def index_arrays(n, max_size=14):
    """1-d indices in any order, with repeats and negatives: a list or an array of any integer type."""
    values = st.lists(st.integers(-n, n - 1), max_size=max_size) if n else st.just([])
    everything = st.permutations(range(n)) | st.just(list(range(n)))
    ordered = values | everything | values.map(sorted) | values.map(lambda v: sorted(v, reverse=True))
    return ordered | ordered.map(lambda v: np.array(v, np.int16)) | ordered.map(lambda v: np.array(v, int)[::-1])


def masks(n):
    """A boolean for each position: any, or almost all true."""
    some = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda v: np.array(v, bool))
    without = st.sets(st.integers(0, n), max_size=2).map(lambda v: ~np.isin(np.arange(n), list(v)))
    return some | without


def orthogonal_item(n):
    """A selection of oindex along one axis."""
    return basic_item(n) | index_arrays(n) | masks(n)


@st.composite
def keys(draw, shape, item, *, new_axes=True):
    """A subscript of `item`s: trailing ones may be missing, an ellipsis and new axes may be anywhere."""
    items = [draw(item(n)) for n in shape]
    form = draw(st.sampled_from(["all", "missing", "ellipsis"]))
    if form != "all":
        cut = draw(st.integers(0, len(items)))
        end = draw(st.integers(cut, len(items))) if form == "ellipsis" else len(items)
        items[cut:end] = [Ellipsis] if form == "ellipsis" else []
    if new_axes:
        for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
            items.insert(draw(st.integers(0, len(items))), None)
    if len(items) == 1 and not isinstance(items[0], list) and draw(st.booleans()):
        return items[0]
    return tuple(items)
