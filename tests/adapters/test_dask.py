"""dask: reads and writes equal NumPy's for any blocks and chunks, on threads and on processes that are killed."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async import blocking
from zarr_s3_async.adapters.dask import _aligned, from_dask, store, to_dask

DATA = np.arange(60 * 50, dtype="i4").reshape(60, 50)


@pytest.fixture(autouse=True, scope="module")
def close_sessions() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield
    blocking.close()


@pytest.mark.parametrize("options", [{"chunks": (7, 11)}, {"chunks": (5, 5), "shards": (20, 10)}])
def test_the_blocks_of_a_dask_array_are_the_stored_objects(options: dict[str, Any], tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=DATA.shape, dtype="i4", **options)
    array[...] = DATA
    lazy = to_dask(tmp_path)
    assert lazy.chunks == (array.shard_sizes or array.chunk_sizes)
    assert np.array_equal(lazy.compute(), DATA)
    assert np.array_equal((lazy[3:40, ::2].T + 1).compute(), DATA[3:40, ::2].T + 1)
    assert np.array_equal(to_dask(tmp_path, chunks=(13, -1)).compute(), DATA)
    whole = to_dask(tmp_path, chunks="auto")
    assert whole.chunks == ((60,), (50,))
    assert np.array_equal(whole.compute(), DATA)
    assert to_dask(tmp_path).name != lazy.name
    assert np.array_equal(da.from_array(array).compute(), DATA)


def test_to_dask_reads_nothing_before_it_computes(tmp_path: Path) -> None:
    blocking.create_array(tmp_path, shape=(4,), dtype="i4", fill_value=1)
    lazy = to_dask(tmp_path)
    blocking.open_array(tmp_path)[...] = 5
    assert lazy.compute().tolist() == [5] * 4


@st.composite
def _lengths(draw: st.DrawFn, total: int) -> tuple[int, ...]:
    cuts = sorted(draw(st.sets(st.integers(1, total - 1), max_size=6)))
    return tuple(b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True))


@given(blocks=_lengths(40), stored=_lengths(60), start=st.integers(0, 20))
def test_blocks_are_split_at_the_borders_of_objects(
    blocks: tuple[int, ...], stored: tuple[int, ...], start: int
) -> None:
    cut = _aligned(blocks, stored, start)
    assert sum(cut) == 40
    assert min(cut) > 0
    assert len(cut) <= len(blocks)
    ends = set(np.cumsum(stored).tolist())
    assert {start + end for end in np.cumsum(cut)[:-1].tolist()} <= ends
    inner = {start + end for end in np.cumsum(blocks)[:-1].tolist()}
    if inner <= ends:
        assert cut == blocks, "aligned blocks are not changed"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    rows=_lengths(60),
    columns=_lengths(50),
    chunks=st.tuples(st.integers(1, 60), st.integers(1, 50)),
    shards=st.booleans(),
    align=st.booleans(),
)
def test_any_blocks_are_stored_into_any_chunks_as_in_numpy(
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    chunks: tuple[int, int],
    shards: bool,
    align: bool,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"chunks": chunks}
    if shards:
        options["shards"] = (2 * chunks[0], 3 * chunks[1])
    target = tmp_path / uuid4().hex
    array = blocking.create_array(target, shape=DATA.shape, dtype="i4", **options)
    source = da.from_array(DATA, chunks=(rows, columns))
    if align:
        store(source, target)
    else:
        da.store(source, array, lock=False)
    assert np.array_equal(array[...], DATA)


def test_storing_a_region_keeps_the_rest(tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=(60, 50), chunks=(16, 16), dtype="i4", fill_value=-1)
    expected = np.full((60, 50), -1)
    for align in (True, False):
        store(da.from_array(DATA[:30, :20], chunks=(7, 9)), array, regions=(slice(5, 35), slice(3, 23)), align=align)
        expected[5:35, 3:23] = DATA[:30, :20]
        assert np.array_equal(array[...], expected)
    later = store(da.ones((60, 50), chunks=20), tmp_path, compute=False)
    assert np.array_equal(array[...], expected)
    later.compute()
    assert (array[...] == 1).all()


def test_from_dask_creates_the_array(tmp_path: Path) -> None:
    source = da.from_array(DATA, chunks=(16, 25))
    array = from_dask(source, tmp_path / "a", attributes={"made": "by dask"})
    assert (array.chunks, array.dtype, dict(array.attrs)) == ((16, 25), np.dtype("i4"), {"made": "by dask"})
    assert np.array_equal(array[...], DATA)
    sharded = from_dask(source, tmp_path / "b", chunks=(5, 5), shards=(20, 10))
    assert np.array_equal(sharded[...], DATA)
    ragged = from_dask(da.from_array(DATA, chunks=((10, 50), (1, 49))), tmp_path / "c")
    assert np.array_equal(ragged[...], DATA)
    with pytest.raises(zs.NodeExists):
        from_dask(source, tmp_path / "a")
    from_dask(source + 1, tmp_path / "a", overwrite=True)
    assert np.array_equal(to_dask(tmp_path / "a").compute(), DATA + 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"regions": (slice(0, 5),)}, "one slice per dimension"),
        ({"regions": (slice(0, 60, 2), slice(None))}, "step 1"),
        ({"regions": (slice(0, 59), slice(None))}, "has shape"),
        ({"regions": (0, slice(None))}, "one slice per dimension"),
    ],
)
def test_invalid_arguments_of_store_are_refused_before_anything_is_stored(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    array = blocking.create_array(tmp_path, shape=DATA.shape, dtype="i4")
    with pytest.raises(zs.ConfigError, match=message):
        store(da.from_array(DATA), array, **wrong)
    for regions in (slice(0, 5), (slice("a", "b"), slice(0, 5)), 5, "ab"):
        with pytest.raises(zs.ConfigError, match="one slice per dimension"):
            store(da.from_array(DATA), array, regions=regions)  # type: ignore[arg-type]  # a wrong type, intentionally
    with pytest.raises(zs.ConfigError, match="from_array"):
        store(DATA, array)  # no dask array, intentionally
    unknown = da.from_array(DATA)[da.from_array(DATA[:, 0]) > 5]
    with pytest.raises(zs.ConfigError, match="compute_chunk_sizes"):
        store(unknown, array)
    with pytest.raises(zs.ConfigError, match="write region="):
        to_dask(tmp_path, region_name="x")  # type: ignore[call-arg]  # what boto3 calls it
    assert not (array[...] != 0).any()


def test_a_graph_contains_references_and_no_secrets(tmp_path: Path) -> None:
    blocking.create_array(tmp_path, shape=(1000,), chunks=(10,), dtype="i4")
    lazy = to_dask(tmp_path, access_key_id="AKIAKEY", secret_access_key="s3cr3t")
    kept = pickle.dumps(dict(lazy.__dask_graph__()))
    assert b"s3cr3t" not in kept
    assert b"AKIAKEY" not in kept
    assert len(kept) < 100 * 1500


def test_a_process_opens_an_array_once_for_many_tasks(tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=(8,), dtype="i4", fill_value=3)
    copies = [pickle.loads(pickle.dumps(array)) for _ in range(4)]
    assert len(set(map(id, copies))) == 1
    array[0] = 4
    after = pickle.loads(pickle.dumps(array))
    assert after is not copies[0], "after a change of the array the handle is opened again"
    copies[0][1] = 5
    assert pickle.loads(pickle.dumps(array)) is after
    assert after[...].tolist() == [4, 5, 3, 3, 3, 3, 3, 3]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=2, processes=True, dashboard_address=":0", memory_limit=None
    ) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_elements_are_stored_even_if_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    """Blocks share objects, and one of three processes is killed."""
    array = blocking.create_array(tmp_path / "a", shape=(400, 90), chunks=(64, 64), dtype="i4")
    data = np.arange(400 * 90, dtype="i4").reshape(400, 90)
    started = tmp_path / "started"

    def slowly(block: Any) -> Any:
        import time
        from pathlib import Path

        Path(started).touch()
        time.sleep(0.05)
        return block

    with distributed.Client(cluster) as client:
        victims = sorted(client.run(os.getpid).values())
        source = da.from_array(data, chunks=(15, 31)).map_blocks(slowly, dtype="i4")
        done = client.compute(store(source, array, align=False, compute=False))
        while not started.exists():
            assert done.status in ("pending", "finished")
        os.kill(victims[0], signal.SIGKILL)
        done.result()
        assert np.array_equal(array[...], data)
        assert np.array_equal(to_dask(tmp_path / "a").compute(), data)
        assert int(to_dask(tmp_path / "a").sum().compute()) == int(data.sum())
        assert array.verify(strict=True).ok


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_clusters_that_write_parts_of_the_same_chunks_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=(200, 60), chunks=(64, 64), dtype="i4")
    data = np.arange(200 * 60, dtype="i4").reshape(200, 60) + 1
    with (
        distributed.LocalCluster(n_workers=1, processes=True, dashboard_address=":0", memory_limit=None) as other,
        distributed.Client(cluster) as first,
        distributed.Client(other) as second,
    ):
        halves = []
        for client, rows in ((first, slice(0, 101)), (second, slice(101, 200))):
            source = da.from_array(data[rows], chunks=(9, 17))
            delayed = store(source, array, regions=(rows, slice(None)), align=False, compute=False)
            halves.append(client.compute(delayed))
        for half in halves:
            half.result()
    assert np.array_equal(array[...], data)


@pytest.mark.parametrize(
    ("call", "typo", "meant"),
    [(to_dask, "chnks", "chunks"), (from_dask, "shrds", "shards"), (store, "aling", "align")],
)
def test_a_misspelt_option_is_compared_with_those_of_the_adapter(call: Any, typo: str, meant: str) -> None:
    source = () if call is to_dask else (da.ones((2,)),)
    with pytest.raises(zs.ConfigError, match=f"'{typo}' of {call.__name__}: write {meant}="):
        call(*source, "memory://typos", **{typo: 1})
