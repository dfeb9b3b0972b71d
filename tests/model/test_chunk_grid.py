"""Chunk grids in documents and in options: valid and invalid ones, and their change by a resize."""

from __future__ import annotations

from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._grid import Edges
from zarr_s3_async._model import chunk_grid, formats, v3
from zarr_s3_async._model.document import Named
from zarr_s3_async._model.problems import Invalid, Unknown

from .documents import new_array, sharding, stored, zarr_json


def grid(*shapes: Any) -> dict[str, Any]:
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": list(shapes)}}


def read(document: dict[str, Any], shape: tuple[int, ...]) -> Any:
    return chunk_grid.read(Named(document["name"], document["configuration"], True), shape)


def test_the_example_grid_of_the_specification_is_read() -> None:
    axes = read(grid(4, [1, 2, 3], [[4, 2]], [[1, 3], 3], [4, 4, 4]), (6, 6, 6, 6, 6))
    assert axes == (4, Edges([(1, 1), (2, 1), (3, 1)]), 4, Edges([(1, 3), (3, 1)]), 4)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ([], "empty list"),
        ([2, 2], "covers 4 elements, and the array has 5"),
        ([0, 5], "at least 1"),
        ([[5, 0]], "at least 1"),
        ([[5, 1, 1]], "pairs of a length and a count"),
        ([[[5], 1]], "integer"),
        ([5.0], "integer"),
        ([True, 5], "integer"),
        ("5", "integer"),
        (0, "at least 1"),
    ],
    ids=str,
)
def test_invalid_lists_of_lengths_are_refused(entry: Any, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        read(grid(entry), (5,))


def test_unknown_grids_are_refused() -> None:
    for document in (
        {"name": "rectilinear", "configuration": {"kind": "outline", "chunk_shapes": [2]}},
        {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [2], "more": 1}},
        {"name": "hexagonal", "configuration": {}},
        grid([[2**62, 3]]),
    ):
        with pytest.raises((Unknown, Invalid)):
            read(document, (5,))
    with pytest.raises(Invalid, match="the array has 1 dimensions, its chunk grid has 2"):
        read(grid(2, 2), (5,))


@pytest.mark.parametrize("name", ["regular_bounded", "zarrs.regular_bounded"])
def test_a_bounded_grid_ends_where_the_array_ends(name: str) -> None:
    document = {"name": name, "configuration": {"chunk_shape": [3, 4, 9]}}
    assert read(document, (10, 8, 7)) == (Edges([(3, 3), (1, 1)]), 4, 7)


def array(document: dict[str, Any], shape: tuple[int, ...], **changes: Any) -> Any:
    made = zarr_json(shape=list(shape), chunk_grid=document, **changes)
    return v3.parse_array({"zarr.json": stored(made)}, url="memory://x")


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        ([1, 2, 3], 4, [1, 2, 3]),  # lengths beyond the new end are kept, as the specification allows
        ([1, 2, 3], 6, [1, 2, 3]),
        ([1, 2, 3], 10, [1, 2, 3, 4]),  # one more chunk, as in zarr-python
        ([3, 3], 10, [[3, 4]]),  # equal lengths are a regular grid, which continues
        ([[2, 2], 5], 12, [[2, 2], 5, 3]),
        (4, 10, 4),
    ],
    ids=str,
)
def test_a_resize_keeps_existing_chunks(before: Any, shape: int, after: Any) -> None:
    meta = formats.with_shape(array(grid(before), (5,)), (shape,))
    expected = grid(after)
    assert meta.source["chunk_grid"] == expected
    assert meta.object_axes == read(expected, (shape,))


def test_a_resize_adds_a_shard_of_whole_chunks() -> None:
    codecs = [sharding([4])]
    meta = formats.with_shape(array(grid([4, 8]), (12,), codecs=codecs), (17,))
    assert (meta.source["chunk_grid"], meta.chunks) == (grid([4, [8, 2]]), (4,))
    with pytest.raises(zs.MetadataError, match="shards of 6 in dimension 0 cannot be divided into chunks of 4"):
        array(grid([4, 6, 8]), (18,), codecs=codecs)


def test_a_new_chunk_is_not_larger_than_allowed() -> None:
    with pytest.raises(zs.ConfigError, match="a chunk takes"):
        formats.with_shape(array(grid([1, 2]), (3,)), (2**40,))


def test_a_bounded_grid_is_resized_at_whole_chunks() -> None:
    bounded = {"name": "regular_bounded", "configuration": {"chunk_shape": [3]}}
    assert formats.with_shape(array(bounded, (6,)), (8,)).object_axes == (Edges([(3, 2), (2, 1)]),)
    assert formats.with_shape(array(bounded, (8,)), (3,)).object_axes == (3,)
    for before, after in ((8, 9), (8, 7), (9, 8)):
        with pytest.raises(zs.ConfigError, match="resize at multiples of 3"):
            formats.with_shape(array(bounded, (before,)), (after,))


@pytest.mark.parametrize(
    ("options", "document"),
    [
        ({"shape": (10, 4), "chunks": [[5, 5], [4]]}, {"name": "regular", "configuration": {"chunk_shape": [5, 4]}}),
        ({"shape": (10, 4), "chunks": [[2, 2, 6], -1]}, grid([[2, 2], 6], 4)),
        ({"shape": (10, 4), "chunks": ([(2, 2), 6], 3)}, grid([[2, 2], 6], 3)),
        ({"shape": (0,), "chunks": [[2, 6]]}, grid([2, 6])),
        ({"shape": (10, 4), "chunks": (2, 2), "shards": [[4, 6], 4]}, grid([4, 6], 4)),
    ],
    ids=str,
)
def test_lists_of_lengths_are_accepted_as_options(options: dict[str, Any], document: Any) -> None:
    meta = new_array(dtype="i4", **options)
    assert meta.source["chunk_grid"] == document


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"chunks": [[2, 2, 5], 4]}, "add up to 9, and the array has 10"),
        ({"chunks": [[2, 2, 8], 4]}, "add up to 12, and the array has 10"),
        ({"chunks": [[5, 5]]}, "has 1 dimensions, and the array has 2"),
        ({"chunks": [[], 4]}, "lists no lengths"),
        ({"chunks": [[10, 0], 4]}, "at least 1"),
        ({"chunks": [[9.5, 0.5], 4]}, "integers"),
        ({"chunks": [["5", "5"], 4]}, "integers"),
        ({"chunks": [[(5, 2, 1)], 4]}, "pairs of a length and a count"),
        ({"chunks": [[4, 6], 4], "shards": (10, 4)}, "list lengths in shards"),
        ({"chunks": (2, 2), "shards": [[5, 5], 4]}, "cannot be divided into chunks"),
        ({"chunks": (2, 2), "shards": [[4, 3, 3], 4]}, "cannot be divided into chunks"),
        ({"chunks": [[4, 6], 4], "zarr_format": 2}, "Zarr v2"),
    ],
    ids=str,
)
def test_invalid_lists_of_lengths_as_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(zs.ConfigError, match=problem):
        new_array(shape=(10, 4), dtype="i4", **options)
