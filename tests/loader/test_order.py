"""The order of an epoch, without any array: the samples of each rank and worker, their order, and the rows to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.loader.feeds import Feed, Feeds, Geometry, Shuffle, Window, plan_feeds
from zarr_s3_async.loader.order import Fill, Order, Part, Rows, Span, expand, share_of, share_of_rank

SHUFFLES: tuple[Shuffle | None, ...] = (None, "chunks", "buffer", "global")


@dataclass(frozen=True)
class Case:
    """An epoch and how it is split."""

    feeds: Feeds
    shuffle: Shuffle | None
    batch_size: int
    world_size: int
    workers: int
    drop_last: bool

    def order(self, seed: int = 3, epoch: int = 5) -> Order:
        return Order(self.feeds, self.shuffle, seed, epoch)

    def parts(self) -> list[Part]:
        return [Part(r, self.world_size, w, self.workers) for r in range(self.world_size) for w in range(self.workers)]

    def share(self, part: Part):
        return share_of(self.feeds.samples, self.batch_size, part, drop_last=self.drop_last)

    def samples(self, part: Part, skip: int = 0, epoch: int = 5) -> np.ndarray:
        return joined(list(self.order(epoch=epoch).fills(self.share(part), skip)))


def joined(fills: list[Fill]) -> np.ndarray:
    return np.concatenate([fill.samples for fill in fills]) if fills else np.zeros(0, int)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    length = draw(st.integers(1, 200))
    stride = draw(st.sampled_from([1, 1, 1, 2, 5, 40]))
    geometries = []
    for _ in range(draw(st.integers(1, 3))):
        chunk, width = draw(st.integers(1, 30)), draw(st.integers(1, 20))
        shards = draw(st.sampled_from([None, (chunk * draw(st.integers(1, 4)), width)]))
        geometries.append(Geometry((length, width), (chunk, width), shards, np.dtype("f4")))
    names = [f"field{n}" for n in range(draw(st.integers(1, 4)))]
    arrays = {name: draw(st.integers(0, len(geometries) - 1)) for name in names}
    windows = {
        name: Window(draw(st.integers(1, 9)), stride, draw(st.integers(0, 9)))
        for name in names
        if stride > 1 or draw(st.booleans())
    }
    shuffle = draw(st.sampled_from(SHUFFLES))
    buffer_bytes = draw(st.sampled_from([5000, 20_000, 10**6]))
    try:
        feeds = plan_feeds(arrays, geometries, windows, axis=0, shuffle=shuffle, buffer_bytes=buffer_bytes)
    except zs.ConfigError:
        assume(False)
        raise
    return Case(
        feeds, shuffle, draw(st.integers(1, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.booleans())
    )


@given(cases())
def test_ranks_and_workers_together_have_each_sample_once(case: Case) -> None:
    samples, size = case.feeds.samples, case.batch_size
    found = np.concatenate([case.samples(part) for part in case.parts()])
    assert np.unique(found).size == found.size
    assert found.size == 0 or (found.min() >= 0 and found.max() < samples)
    if case.drop_last:
        assert found.size == samples // case.world_size // size * size * case.world_size
    else:
        assert found.size == samples


@given(cases())
def test_the_batches_of_a_rank_do_not_depend_on_its_workers_and_only_the_last_is_short(case: Case) -> None:
    for rank in range(case.world_size):
        whole = share_of_rank(
            case.feeds.samples, case.batch_size, Part(rank, case.world_size), drop_last=case.drop_last
        )
        shares = [case.share(Part(rank, case.world_size, w, case.workers)) for w in range(case.workers)]
        assert sum(share.batches for share in shares) == whole.batches
        # DataLoader takes batches from its workers in turn, so workers with one batch more must come first.
        assert [s.batches for s in shares] == sorted((s.batches for s in shares), reverse=True)
        assert shares[0].batches - shares[-1].batches <= 1
        sizes = [share.size_of(batch) for share in shares for batch in range(share.batches)]
        assert all(size == case.batch_size for size in sizes[:-1])
        assert sum(sizes) == whole.stop - whole.start


@given(cases())
def test_with_drop_last_every_rank_has_the_same_number_of_whole_batches(case: Case) -> None:
    shares = [
        share_of_rank(case.feeds.samples, case.batch_size, Part(r, case.world_size), drop_last=True)
        for r in range(case.world_size)
    ]
    assert len({share.batches for share in shares}) == 1
    assert all((share.stop - share.start) % case.batch_size == 0 for share in shares)


@given(cases(), st.data())
def test_an_order_after_a_skip_equals_the_rest_of_the_whole_order(case: Case, data: st.DataObject) -> None:
    for part in case.parts():
        everything = case.samples(part)
        skip = data.draw(st.integers(0, everything.size))
        assert np.array_equal(case.samples(part, skip), everything[skip:])


@given(cases())
def test_a_fill_holds_the_rows_of_its_samples_and_none_outside_the_array(case: Case) -> None:
    for part in case.parts():
        for fill in case.order().fills(case.share(part)):
            for feed, rows in zip(case.feeds.feeds, fill.rows, strict=True):
                if rows is None:
                    assert feed.resident
                    continue
                held = expand(rows.starts, rows.stops)
                assert (np.diff(held) > 0).all()
                assert held[0] >= 0
                assert held[-1] < feed.length
                wanted = (feed.first + fill.samples * feed.stride)[:, None] + np.arange(feed.width)
                assert np.array_equal(held[rows.places(wanted)], wanted)


@given(cases())
def test_a_fill_takes_half_of_the_buffer_or_the_necessary_minimum(case: Case) -> None:
    """In stored order, a fill also holds the remaining rows of the bands that it reads."""
    bands = sum(feed.band * feed.row_bytes for feed in case.feeds.feeds)
    for part in case.parts():
        for fill in case.order().fills(case.share(part)):
            assert fill.nbytes(case.feeds) <= case.feeds.fill_bytes + bands


def chunks_of(feed: Feed, rows: Rows, side: int) -> list[int]:
    """Chunks, or bands, that are read for a fill."""
    return [
        chunk
        for start, stop in zip(*(ends.tolist() for ends in rows.to_read()), strict=True)
        for chunk in range(start // side, -(-stop // side))
    ]


@given(cases())
def test_in_stored_order_each_band_is_read_once(case: Case) -> None:
    assume(case.shuffle in (None, "buffer"))
    for number, feed in enumerate(case.feeds.feeds):
        read: list[int] = []
        for fill in case.order().fills(case.share(Part())):
            rows = fill.rows[number]
            if rows is not None:
                read += chunks_of(feed, rows, feed.band)
        assert len(read) == len(set(read))


@given(
    st.integers(1, 30), st.integers(1, 40), st.integers(0, 20), st.sampled_from([None, 2, 3]),
    st.integers(0, 5), st.data(),
)  # fmt: skip
def test_with_windows_in_permuted_chunks_each_chunk_is_read_once(
    chunk: int, width: int, offset: int, shards: int | None, epoch: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(width + offset, 1000))
    stride = data.draw(st.integers(1, width))
    geometry = Geometry((length, 4), (chunk, 4), (chunk * shards, 4) if shards else None, np.dtype("f4"))
    windows = {None: Window(width, stride, offset)}
    buffer_bytes = data.draw(st.integers(16 * (chunk + width) * 20, 16 * 3000))
    try:
        feeds = plan_feeds({None: 0}, [geometry], windows, axis=0, shuffle="chunks", buffer_bytes=buffer_bytes)
    except zs.ConfigError:
        assume(False)
        raise
    share = share_of(feeds.samples, 7, Part(), drop_last=False)
    read: list[int] = []
    keeping: dict[int, int] = {}
    for fill in Order(feeds, "chunks", 0, epoch).fills(share):
        (rows,) = fill.rows
        assert rows is not None
        read += chunks_of(feeds.feeds[0], rows, chunk)
        for span in rows.taken:
            del keeping[span.name]
        keeping.update((span.name, (span.stop - span.start) * 16) for span in rows.kept)
        assert sum(keeping.values()) <= feeds.kept_bytes
    assert not keeping
    assert len(read) == len(set(read))


@given(cases())
def test_reused_rows_were_kept_by_an_earlier_fill(case: Case) -> None:
    for part in case.parts():
        kept: dict[tuple[int, int], Span] = {}
        for fill in case.order().fills(case.share(part)):
            for number, rows in enumerate(fill.rows):
                if rows is None:
                    continue
                for span in rows.taken:
                    assert kept.pop((number, span.name)) == span
                held = set(expand(rows.starts, rows.stops).tolist())
                for span in (*rows.taken, *rows.kept):
                    assert span.start < span.stop
                    assert held.issuperset(range(span.start, span.stop))
                for span in rows.kept:
                    assert (number, span.name) not in kept
                    kept[number, span.name] = span
        assert not kept


@pytest.mark.parametrize("shuffle", ["chunks", "buffer", "global"])
def test_every_epoch_and_every_seed_has_another_order(shuffle: Shuffle) -> None:
    geometry = Geometry((1000, 4), (10, 4), None, np.dtype("f4"))
    feeds = plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=3200)
    share = share_of(1000, 10, Part(), drop_last=False)
    orders = {
        (seed, epoch): tuple(joined(list(Order(feeds, shuffle, seed, epoch).fills(share))))
        for seed in range(-1, 3)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == len(orders)
    for order in orders.values():
        assert sum(a == b for a, b in zip(order, range(1000), strict=True)) < 100


@pytest.mark.parametrize("shuffle", ["chunks", "buffer", "global"])
def test_samples_of_one_chunk_have_another_order_in_every_epoch(shuffle: Shuffle) -> None:
    geometry = Geometry((100, 4), (100, 4), None, np.dtype("f4"))
    feeds = plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=10**6)
    share = share_of(100, 10, Part(), drop_last=False)
    orders = {tuple(joined(list(Order(feeds, shuffle, 0, epoch).fills(share)))) for epoch in range(20)}
    assert len(orders) == 20


def test_buffers_start_at_another_sample_in_every_epoch() -> None:
    geometry = Geometry((1000, 4), (10, 4), None, np.dtype("f4"))
    feeds = plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle="buffer", buffer_bytes=6400)
    share = share_of(1000, 10, Part(), drop_last=False)
    sizes = {next(Order(feeds, "buffer", 0, epoch).fills(share)).samples.size for epoch in range(20)}
    assert len(sizes) > 5


def test_the_order_of_a_million_chunks_needs_no_table_of_samples() -> None:
    geometry = Geometry((10**9,), (1000,), None, np.dtype("f4"))
    for shuffle in SHUFFLES:
        feeds = plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=2**20)
        fill = next(Order(feeds, shuffle, 0, 0).fills(share_of(10**9, 32, Part(3, 64), drop_last=False)))
        assert fill.samples.size <= 2**20


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_the_indices_of_tiny_samples_take_no_more_memory_than_the_buffer(shuffle: Shuffle | None) -> None:
    geometry = Geometry((10**9,), (10_000,), None, np.dtype("u1"))
    feeds = plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=2**28)
    fills = Order(feeds, shuffle, 0, 0).fills(share_of(10**9, 32, Part(), drop_last=False))
    for _ in range(3):
        assert next(fills).samples.size * 64 <= 2**27


def test_arrays_of_different_lengths_are_refused() -> None:
    geometries = [Geometry((n, 4), (10, 4), None, np.dtype("f4")) for n in (100, 99)]
    with pytest.raises(zs.ConfigError, match=r"different lengths along axis 0.*'x': 100, 'y': 99"):
        plan_feeds({"x": 0, "y": 1}, geometries, {}, axis=0, shuffle=None, buffer_bytes=10**6)


def test_windows_of_24_hours_match_a_daily_array() -> None:
    geometries = [Geometry((24 * 30 + 5,), (50,), None, np.dtype("f4")), Geometry((30,), (7,), None, np.dtype("f4"))]
    feeds = plan_feeds(
        {"hours": 0, "day": 1}, geometries, {"hours": Window(24, 24)}, axis=0, shuffle=None, buffer_bytes=10**6
    )
    assert feeds.samples == 30


@pytest.mark.parametrize("shuffle", [None, "chunks", "buffer"])
def test_a_buffer_too_small_for_two_rows_of_chunks_is_refused_with_the_needed_size(shuffle: Shuffle | None) -> None:
    geometry = Geometry((100, 1000), (10, 1000), None, np.dtype("f4"))
    with pytest.raises(zs.ConfigError, match="set buffer_bytes to at least 80000"):
        plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=79_999)
    plan_feeds({None: 0}, [geometry], {}, axis=0, shuffle=shuffle, buffer_bytes=80_000)


def test_small_arrays_are_kept_in_memory_beside_large_ones() -> None:
    geometries = [
        Geometry((1000, 1000), (10, 1000), None, np.dtype("f4")),
        Geometry((1000,), (1000,), None, np.dtype("i8")),
    ]
    feeds = plan_feeds({"x": 0, "y": 1}, geometries, {}, axis=0, shuffle="chunks", buffer_bytes=2**20)
    assert [feed.resident for feed in feeds.feeds] == [False, True]
    assert feeds.resident_bytes == 8000


def test_windows_of_one_array_share_its_rows_unless_they_are_far_apart() -> None:
    geometry = Geometry((10**6, 10), (100, 10), None, np.dtype("f4"))
    for offset, feeds in ((8, 1), (100_000, 2)):
        windows = {"x": Window(8), "y": Window(1, offset=offset)}
        found = plan_feeds({"x": 0, "y": 0}, [geometry], windows, axis=0, shuffle=None, buffer_bytes=2**20)
        assert len(found.feeds) == feeds
