"""Hypothesis strategies for arrays: shapes, chunks, shards, data types, contents, selections.

`hypothesis` is imported only when a strategy is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._types import Coords, Shape

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PLAIN_DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
TIME_DTYPES = ("M8[ns]", "M8[s]", "M8[D]", "m8[us]", "m8[10s]")
TEXT_DTYPES = ("S1", "S7", "U1", "U5")
STRUCTURED_DTYPES = ([("x", "<i4"), ("y", "<f8")], [("name", "S3"), ("at", "<M8[s]"), ("flag", "?")])

_SPECIAL_VALUES: dict[str, tuple[Any, ...]] = {
    "f": (np.nan, -0.0, np.inf, -np.inf),
    "c": (complex(np.nan, 0), complex(-0.0, np.nan), complex(np.inf, -0.0)),
    "M": ("NaT",),
    "m": ("NaT",),
}


def shapes(*, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 12) -> SearchStrategy[Shape]:
    """Shapes of arrays, including sides of 0 and arrays without dimensions."""
    from hypothesis import strategies as st

    side = st.integers(min_side, max_side)
    return st.lists(side, min_size=min_dims, max_size=max_dims).map(tuple)


def chunks_for(shape: Shape, *, max_chunks: int = 200) -> SearchStrategy[Shape]:
    """Chunk shapes for an array: sides from 1 to beyond the array's, with at most `max_chunks` chunks in total."""
    from hypothesis import strategies as st

    # The number of chunks per dimension that keeps the total below the limit if all dimensions have as many.
    per_dim = max(1, int(max_chunks ** (1 / max(1, len(shape)))))
    return st.tuples(*(st.integers(max(1, -(-side // per_dim)), max(1, side) + 2) for side in shape))


def shards_for(chunks: Shape, *, max_factor: int = 4) -> SearchStrategy[Shape]:
    """Shard shapes: integer multiples of the chunk's sides."""
    from hypothesis import strategies as st

    factors = st.tuples(*(st.integers(1, max_factor) for _ in chunks))
    return factors.map(lambda counts: tuple(n * side for n, side in zip(counts, chunks, strict=True)))


def grids(
    *, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 12, max_chunks: int = 200
) -> SearchStrategy[tuple[Shape, Shape]]:
    """Pairs of an array shape and a chunk shape for it."""
    from hypothesis import strategies as st

    some = shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)
    return some.flatmap(lambda shape: st.tuples(st.just(shape), chunks_for(shape, max_chunks=max_chunks)))


def dtypes(
    *, times: bool = True, text: bool = True, structured: bool = True, big_endian: bool = True
) -> SearchStrategy[np.dtype[Any]]:
    """NumPy data types that both Zarr formats support, in both byte orders."""
    from hypothesis import strategies as st

    names: list[Any] = [*PLAIN_DTYPES, *(TIME_DTYPES if times else ()), *(TEXT_DTYPES if text else ())]
    orders = "<>" if big_endian else "<"
    simple = st.builds(
        lambda name, order: np.dtype(name).newbyteorder(order),
        st.sampled_from(names),
        st.sampled_from(orders),
    )
    if not structured:
        return simple
    return st.one_of(simple, st.sampled_from(STRUCTURED_DTYPES).map(np.dtype))


def contents(shape: Shape, dtype: np.dtype[Any]) -> SearchStrategy[np.ndarray[Any, np.dtype[Any]]]:
    """Arrays of this shape and data type with any valid bit patterns, including NaN, -0.0 and NaT."""
    from hypothesis import strategies as st

    count = int(np.prod(shape, dtype=int))
    size = count * dtype.itemsize
    any_bits = st.binary(min_size=size, max_size=size).map(lambda data: _array(data, shape, dtype))
    special = _SPECIAL_VALUES.get(dtype.kind)
    if special is None or not count:
        return any_bits

    def place(drawn: tuple[np.ndarray[Any, np.dtype[Any]], list[tuple[int, Any]]]) -> np.ndarray[Any, np.dtype[Any]]:
        array, places = drawn
        for index, value in places:
            array.reshape(-1)[index] = value
        return array

    # Random bits are rarely special values; without these, a run might draw none.
    places = st.lists(st.tuples(st.integers(0, count - 1), st.sampled_from(special)), max_size=4)
    return st.tuples(any_bits, places).map(place)


def _array(data: bytes, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype.fields is not None:
        result = np.empty(shape, dtype)
        at = 0
        for name, (field, *_) in dtype.fields.items():
            stop = at + field.itemsize * result.size
            result[name] = _array(data[at:stop], shape, field)
            at = stop
        return result
    raw = np.frombuffer(data, dtype=f"u{dtype.itemsize}" if dtype.kind == "b" else "u1")
    if dtype.kind == "b":
        return (raw % 2).astype(dtype).reshape(shape)
    if dtype.kind == "U":
        return _letters(raw, dtype).reshape(shape)
    return raw.view(dtype).reshape(shape).copy()


def _letters(raw: np.ndarray[Any, np.dtype[Any]], dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """Strings of lower-case letters, some empty. Random bits cannot be used: not every number is a code point."""
    codes = raw[::4] % 27
    return (
        np.where(codes, codes + ord("a") - 1, 0).astype("u4").view(np.dtype(dtype.str.replace(">", "<"))).astype(dtype)
    )


def regions(shape: Shape) -> SearchStrategy[tuple[Coords, Coords]]:
    """(start, stop) of a region inside the array, possibly empty."""
    from hypothesis import strategies as st

    sides = [st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda pair: tuple(sorted(pair))) for n in shape]
    return st.tuples(*sides).map(lambda pairs: (tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)))


def basic_selections(shape: Shape) -> SearchStrategy[Any]:
    """Basic selections as in NumPy: integers, slices of any step, and ellipsis."""
    from hypothesis.extra import numpy as npst

    return npst.basic_indices(shape)
