"""The cost of planning: nothing per chunk for selections that are even along every axis, otherwise one sort."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import numpy as np
import pytest

from zarr_s3_async._grid import Edges
from zarr_s3_async._plan.plan import plan
from zarr_s3_async._plan.selection import basic, orthogonal, region, vectorized

KIB = 1024


@pytest.fixture
def peak():
    """A function that returns the peak memory in bytes since its last call."""
    tracemalloc.start()

    def measured():
        _, max_bytes = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return max_bytes

    yield measured
    tracemalloc.stop()


@pytest.mark.parametrize("shards", [None, (100, 100)], ids=["plain", "sharded"])
@pytest.mark.parametrize(
    "key",
    [np.s_[:, :], np.s_[::-1, 1:], np.s_[::7, ::-3], np.s_[..., 5:-5:2]],
    ids=["all", "back", "steps", "some"],
)
def test_a_grid_of_a_million_by_a_million_chunks_takes_a_few_kib(peak, key, shards):
    """The selection is planned, counted and iterated at its start: nothing is listed in advance."""
    shape, chunks = (10**7, 10**7), (10, 10)
    peak()
    made = plan(basic(key, shape), shape, chunks, shards)
    assert made.n_chunks > 10**11
    assert made.partly_covered() <= made.n_chunks
    assert peak() < 16 * KIB
    assert len(list(islice(made.objects(), 1000))) == 1000
    assert peak() < 1024 * KIB


@pytest.mark.parametrize(("shape", "chunks"), [((10**6,), (1,)), ((1000, 1000), (1, 1)), ((10**5, 2, 5), (1, 1, 1))])
def test_iterating_a_million_objects_keeps_none_in_memory(peak, shape, chunks):
    """Memory does not grow during the iteration over all objects."""
    made = plan(region((0,) * len(shape), None, None, shape), shape, chunks)
    peak()
    assert sum(1 for _ in islice(made.objects(), 10**5)) == 10**5
    assert peak() < 256 * KIB


def test_the_parts_of_a_huge_object_are_not_listed(peak):
    """A shard has 10**6 chunks: its parts are counted and iterated without creating all of them."""
    made = plan(region(0, None, None, (10**7,)), (10**7,), (1,), (10**6,))
    coords, parts = next(made.objects())
    assert coords == (0,)
    assert len(parts) == 10**6
    assert parts[-1].slot == 10**6 - 1
    assert sum(part.whole for part in islice(parts, 10**4)) == 10**4
    assert peak() < 64 * KIB


def test_an_empty_selection_of_a_huge_array_has_no_iterations():
    """If nothing is selected along one axis, the others are not iterated."""
    shape = (2**60, 2**60)
    made = plan(region((0, 5), (2**60, 5), None, shape), shape, (1, 1), (4, 4))
    assert list(made.objects()) == []
    assert (made.n_objects, made.n_chunks, made.partly_covered()) == (0, 0, 0)


def test_counts_beyond_64_bits_are_exact():
    """They are Python integers."""
    shape = (2**40, 2**40, 2**40)
    made = plan(basic(np.s_[1:, ::-1, :], shape), shape, (2, 1, 1), (8, 8, 8))
    assert made.n_chunks == 2**39 * 2**80
    assert made.n_objects == 2**37 * 2**74
    assert made.partly_covered() == 2**80
    coords, parts = next(made.objects())
    assert coords == (0, 0, 0)
    assert len(parts) == 4 * 8 * 8
    assert parts[0].put[1] == slice(2**40 - 1, 2**40)


def test_an_axis_longer_than_64_bits_can_be_sliced():
    """Regions and slices use only Python integers."""
    shape = (2**80,)
    made = plan(region(2**79 - 3, 2**79 + 3, None, shape), shape, (4,))
    assert [(coords[0] - 2**77, part.put[0]) for coords, (part,) in made.objects()] == [
        (-1, slice(0, 3)),
        (0, slice(3, 6)),
    ]


def test_distant_points_are_grouped_in_row_major_order():
    """Their grid has more cells than 64 bits can number."""
    rng = np.random.default_rng(5)
    shape = (2**50, 2**50)
    spots = rng.integers(0, 2**50, (20, 2))
    points = spots[rng.integers(0, 20, 200)]
    for shards in (None, (64, 64)):
        made = plan(vectorized(tuple(points.T), shape), shape, (16, 16), shards)
        outer = shards or (16, 16)
        found = {}
        order = []
        for coords, parts in made.objects():
            order.append(coords)
            for part in parts:
                inner = np.unravel_index(part.slot, (4, 4)) if shards else (0, 0)
                rows = zip(coords, outer, inner, part.take, strict=True)
                where = np.stack([o * s + int(i) * 16 + t for o, s, i, t in rows], axis=1)
                for place, position in zip(part.put[0].tolist(), where.tolist(), strict=True):
                    found[place] = position
        assert order == sorted({tuple(int(x) // s for x, s in zip(p, outer, strict=True)) for p in points})
        assert [found[i] for i in range(200)] == points.tolist()


def test_a_million_points_have_one_part_per_chunk():
    """Coordinates are grouped by chunk, so the number of parts does not depend on the points."""
    rng = np.random.default_rng(7)
    shape = (1000, 1000)
    x, y = rng.integers(0, 1000, (2, 10**6))
    made = plan(vectorized((x, y), shape), shape, (100, 100))
    assert made.n_chunks == made.n_objects == 100 == sum(len(parts) for _, parts in made.objects())
    made = plan(orthogonal((x[:5000], y[:5000]), shape), shape, (100, 100), (500, 500))
    assert (made.n_objects, made.n_chunks) == (4, 100)
    assert sum(len(parts) for _, parts in made.objects()) == 100


def test_evenly_spaced_index_arrays_become_slices():
    """An index array that is a range inside a chunk is a slice there, which gives a view instead of a copy."""
    made = plan(orthogonal((np.arange(3, 50), [0, 2, 4, 9]), (50, 10)), (50, 10), (10, 10))
    takes = [part.take for _, (part,) in made.objects()]
    assert takes[0][0] == slice(3, 10)
    assert all(isinstance(take[0], slice) for take in takes)
    assert all(isinstance(take[1], np.ndarray) for take in takes)


def test_a_grid_of_few_runs_is_never_listed(peak):
    """Run-length lists may describe more cells than memory can hold: memory is proportional to the runs."""
    edges = Edges([(3, 10**12), (5, 10**12)])
    made = plan(region((0,), None, None, (8 * 10**12,)), (8 * 10**12,), (edges,))
    assert made.n_chunks == 2 * 10**12
    assert sum(1 for _ in islice(made.objects(), 10**4)) == 10**4
    far = plan(basic(np.s_[3 * 10**12 + 4 :], (8 * 10**12,)), (8 * 10**12,), (edges,))
    (coords, (part,)) = next(far.objects())
    assert (coords, part.take, part.whole) == ((10**12,), (slice(4, 5),), False)
    assert peak() < 64 * KIB
