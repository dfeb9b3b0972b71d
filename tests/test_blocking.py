"""The blocking interface: NumPy's notation, the methods of the asynchronous handles, threads, forks, pickles."""

from __future__ import annotations

import asyncio
import inspect
import operator
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zarr_s3_async as zs
from zarr_s3_async import blocking

DATA = np.arange(12 * 20, dtype="i4").reshape(12, 20)


@pytest.fixture(autouse=True, scope="module")
def close_sessions() -> Iterator[None]:
    yield
    blocking.close()


@pytest.fixture
def array(tmp_path: Path) -> blocking.Array:
    array = blocking.create_array(tmp_path / "a", shape=DATA.shape, chunks=(5, 6), dtype="i4")
    array[...] = DATA
    return array


def test_a_blocking_array_reads_and_writes_as_numpy_does(array: blocking.Array) -> None:
    expected = DATA.copy()
    for key, value in (((3, 4), -1), (slice(2, 9, 3), -2), ((..., slice(None, None, -4)), -3), (5, np.arange(20))):
        array[key] = value
        expected[key] = value
        assert np.array_equal(array[key], expected[key])
    assert np.array_equal(array[...], expected)
    array.oindex[[1, 3], [0, 5]] = 9
    expected[np.ix_([1, 3], [0, 5])] = 9
    array.vindex[[0, 11], [0, 19]] = 8
    expected[[0, 11], [0, 19]] = 8
    array.blocks[1, 1] = 7
    expected[5:10, 6:12] = 7
    assert np.array_equal(np.asarray(array), expected)
    assert np.array_equal(array.oindex[[1, 3], [0, 5]], expected[np.ix_([1, 3], [0, 5])])
    assert np.array_equal(array.vindex[[0, 11], [0, 19]], expected[[0, 11], [0, 19]])
    assert np.array_equal(array.blocks[1, 1], expected[5:10, 6:12])


@given(data=st.data())
def test_any_basic_index_equals_numpys(data: Any) -> None:
    key = data.draw(hnp.basic_indices(DATA.shape, allow_newaxis=True))
    assert np.array_equal(_shared_array()[key], DATA[key])


def _shared_array() -> blocking.Array:
    if blocking.exists("memory://indices"):
        return blocking.open_array("memory://indices")
    array = blocking.create_array("memory://indices", shape=DATA.shape, chunks=(5, 6), dtype="i4")
    array[...] = DATA
    return array


def test_numpy_and_pandas_accept_a_blocking_array(array: blocking.Array) -> None:
    assert (len(array), array.ndim, array.size, array.nbytes) == (12, 2, 240, 960)
    assert np.array_equal(np.stack(list(array)), DATA)
    assert np.asarray(array, dtype="f8").dtype == np.dtype("f8")
    assert np.array_equal(np.mean(array, axis=0), DATA.mean(axis=0))
    with pytest.raises(ValueError, match="creates a copy"):
        array.__array__(copy=False)
    scalar = blocking.create_array("memory://scalar", shape=(), dtype="f4", fill_value=2, overwrite=True)
    with pytest.raises(TypeError, match="without dimensions"):
        len(scalar)
    assert float(scalar[()]) == 2
    with pytest.raises(IndexError):
        array[12]
    with pytest.raises(zs.SelectionError, match="broadcast"):
        array[0:2] = np.zeros(3)


def test_a_blocking_group_is_a_mapping(tmp_path: Path) -> None:
    group = blocking.create_group(tmp_path, attributes={"kind": "test"})
    group.create_array("x", shape=(2,), dtype="u1", fill_value=3)
    group.create_array("below/y", shape=(2,), dtype="u1", fill_value=4)
    assert list(group) == ["below", "x"]
    assert len(group) == 2
    assert dict(group.attrs) == {"kind": "test"}
    assert ("x" in group, "below/y" in group, "z" in group, 5 in group) == (True, True, False, False)
    below = group["below"]
    assert isinstance(below, blocking.Group)
    y = below["y"]
    assert isinstance(y, blocking.Array)
    assert y[...].tolist() == [4, 4]
    assert np.array_equal(group["below/y"], y)  # type: ignore[arg-type]  # an array
    with pytest.raises(KeyError, match="z"):
        group["z"]
    with pytest.raises(zs.NodeNotFound):
        group.open("z")
    assert group.get("z") is None
    assert [name for name, _ in group.items()] == list(group.keys()) == ["below", "x"]
    assert [type(node) for node in group.values()] == [blocking.Group, blocking.Array]
    assert [name for name, _ in group.arrays()] == ["x"]
    assert [name for name, _ in group.groups()] == ["below"]
    assert group != blocking.open_group(tmp_path)
    assert len({group, group}) == 1


def test_an_array_compares_with_numpy_by_element_and_with_handles_by_identity(
    array: blocking.Array, tmp_path: Path
) -> None:
    array[...] = DATA
    # np.float64 is a Python float too, and must not be refused.
    for value in (DATA[0, 0], np.float64(DATA[0, 0]), DATA):
        assert np.array_equal(array == value, value == DATA)
        assert np.array_equal(array != value, value != DATA)
        assert np.array_equal(value == array, value == DATA)
    for refused in (1, 1.5, True, "1", [1], (1, 2)):
        for compare in (operator.eq, operator.ne):
            with pytest.raises(TypeError, match=r"array\[\.\.\.\] == value"):
                compare(array, refused)
            with pytest.raises(TypeError, match=r"array\[\.\.\.\] == value"):
                compare(refused, array)
    other = blocking.create_array(tmp_path / "other", shape=1, dtype="i4")
    assert array == array  # identity
    assert array != other
    assert array != None  # noqa: E711  # no TypeError
    assert {array: 1}[array] == 1
    assert {id(array): 1, array: 2}[array] == 2  # not compared with the number


def test_encoded_chunks_can_be_read_and_written(array: blocking.Array) -> None:
    array[...] = DATA
    chunk = array.chunk_at((1, 2))
    assert chunk is not None
    np.testing.assert_array_equal(chunk.decode(), DATA[5:10, 12:18])
    before = array.__dask_tokenize__()
    array.erase_chunk((1, 2), version=chunk.version)
    assert array.__dask_tokenize__() != before
    stored = array.stored_chunks()
    assert np.argwhere(~stored.bitmap).tolist() == [[1, 2]]
    assert array.chunk_at((1, 2)) is None
    array.put_chunk((1, 2), chunk.data, version="absent")
    np.testing.assert_array_equal(array.get_slice((0, 0), DATA.shape, consistent=True), DATA)
    np.testing.assert_array_equal(array.decode_chunk(chunk.data), chunk.decode())


def test_options_of_the_blocking_interface_are_checked(tmp_path: Path) -> None:
    with pytest.raises(zs.ConfigError, match="write region="):
        blocking.open_array(tmp_path, region_name="x")  # type: ignore[call-arg]  # what boto3 calls it
    with pytest.raises(zs.ConfigError, match=r"blocking\.configure"):
        blocking.open_array(tmp_path, limits=zs.Limits())
    with pytest.raises(zs.ConfigError, match="did you mean 'raise'"):
        blocking.open_array(tmp_path, missing="rise")  # type: ignore[arg-type]  # a typo
    with pytest.raises(zs.NodeNotFound):
        blocking.open_array(tmp_path / "none")


def test_session_options_are_set_before_the_first_call(tmp_path: Path) -> None:
    blocking.close()
    heard: list[zs.Event] = []
    blocking.configure(limits=zs.Limits(requests=3), hooks=[heard.append])
    try:
        array = blocking.create_array(tmp_path, shape=(4,), dtype="i4")
        assert array._live()._runtime.limits.requests == 3
        with pytest.raises(zs.ConfigError, match="hooks, limits"):
            blocking.configure(limits=zs.Limits(requests=4))
        assert blocking.open_array(tmp_path)._live()._runtime.limits.requests == 3
        blocking.close()
        assert array[...].tolist() == [0] * 4, "the session is opened again with the same options"
        assert array._live()._runtime.limits.requests == 3
    finally:
        blocking.close()
        blocking.configure()


def test_threads_share_one_session_and_lose_no_writes(tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=(64,), chunks=(16,), dtype="i4")

    def write(at: int) -> None:
        array[at] = at

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(64)))
        assert list(pool.map(lambda at: int(array[at]), range(64))) == list(range(64))
    assert len([t for t in threading.enumerate() if t.name == "zarr-s3-loop"]) == 1


def test_closing_ends_running_calls_and_the_next_call_opens_a_session(tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path, shape=(64,), chunks=(4,), dtype="i4", fill_value=7)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with suppress(zs.StateError):  # the session was closed during the call
                assert array[...].tolist() == [7] * 64

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for _ in range(5):
                array[0]
                blocking.close()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert array[0] == 7


def test_a_blocking_array_pickles_as_a_reference_and_opens_on_first_use(tmp_path: Path) -> None:
    keys: Any = {"access_key_id": "AKIA", "secret_access_key": "s3cr3t"}
    array = blocking.create_array(tmp_path / "a", shape=(4,), dtype="i4", **keys)
    array[...] = 5
    kept = pickle.dumps(array)
    assert b"s3cr3t" not in kept
    assert b"AKIA" not in kept
    again = pickle.loads(kept)
    assert again._found is None, "no request before the first use"
    assert again[...].tolist() == [5] * 4
    strict = blocking.open_array(tmp_path / "a", missing="raise")
    (tmp_path / "a" / "c" / "0").unlink()
    with pytest.raises(zs.ChunkNotFound):
        pickle.loads(pickle.dumps(strict))[...]
    group = pickle.loads(pickle.dumps(blocking.create_group(tmp_path)))
    assert list(group) == ["a"]


def test_equal_dask_tokens_mean_equal_data(array: blocking.Array) -> None:
    first = array.__dask_tokenize__()
    assert first == array.__dask_tokenize__()
    for change in (
        lambda: array.set_slice(1, (0, 0), (1, 1)),
        lambda: array.__setitem__(0, 1),
        lambda: array.oindex.__setitem__([0], 1),
        lambda: array.append(np.zeros((1, 20))),
        lambda: array.resize((12, 20)),
        array.refresh,
    ):
        before = array.__dask_tokenize__()
        change()
        assert array.__dask_tokenize__() != before
    assert blocking.open_array(array.ref).__dask_tokenize__() != array.__dask_tokenize__()


@pytest.mark.usefixtures("interrupts_raise")
def test_an_interrupt_cancels_the_waiting_call(tmp_path: Path) -> None:
    released = threading.Event()

    class Hanging(zs.MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:
            if key.startswith("c/"):
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    await asyncio.Event().wait()
                finally:
                    released.set()
            return await super().get(key, **options)

    array = blocking.create_array(Hanging(), shape=(4,), dtype="i4")
    with pytest.raises(KeyboardInterrupt):
        array[...]
    assert released.is_set()
    array[...] = 1


def test_a_blocking_call_in_a_callback_is_refused_instead_of_deadlocking(array: blocking.Array) -> None:
    def progress(_: Any) -> None:
        array[0, 0]

    with pytest.raises(zs.StateError, match="wait for itself"):
        array.verify(progress=progress)


async def test_blocking_calls_work_in_a_notebook_with_a_running_loop(array: blocking.Array) -> None:
    assert array[0, 0] == 0


WORKERS = """
    import multiprocessing, os, sys
    from pathlib import Path
    import numpy as np
    import zarr_s3_async as zs
    from zarr_s3_async import blocking

    class Dataset:
        def __init__(self, array):
            self.array = array
        def __getitem__(self, at):
            return int(self.array[at])

    def work(item):
        dataset, at = item
        dataset.array[at] = 100 + at  # 16 elements of one chunk, by several processes at once
        return dataset[at]

    def main():
        array = blocking.create_array(Path(sys.argv[1]), shape=(16,), chunks=(16,), dtype="i4", overwrite=True)
        array[...] = np.arange(16)
        group = blocking.open_array(array.ref)
        dataset = Dataset(array)
        for method in sys.argv[2:]:
            with multiprocessing.get_context(method).Pool(3) as pool:
                assert pool.map(work, [(dataset, at) for at in range(16)]) == [100 + at for at in range(16)]
            assert array[...].tolist() == [100 + at for at in range(16)]
            array[...] = np.arange(16)
        if hasattr(os, "fork"):
            # Inherited, not pickled, as a DataLoader's worker has it; in the middle of other threads' calls.
            child = os.fork()
            if child == 0:
                os._exit(0 if [dataset[at] for at in range(16)] == list(range(16)) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert dataset[3] == 3
        print("fine")

    if __name__ == "__main__":
        main()
"""


def test_worker_processes_of_every_start_method_open_the_array_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(WORKERS))
    methods = [m for m in ("fork", "spawn", "forkserver") if m in __import__("multiprocessing").get_all_start_methods()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program), str(tmp_path / "a"), *methods],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr


NOT_HERE = {
    "Array": {
        "stream": "an asynchronous iterator",
        "stream_slices": "an asynchronous iterator",
        "write_stream": "an asynchronous writer",
    },
    "Group": {},
}
"""Attributes of the asynchronous handles that the blocking ones do not have, with the reasons."""


@pytest.mark.parametrize("name", ["Array", "Group"])
def test_blocking_handles_have_the_methods_of_the_asynchronous_ones(name: str) -> None:
    """Add what is missing to `zarr_s3_async/blocking.py`, or to NOT_HERE with the reason."""
    ours, theirs = getattr(blocking, name), getattr(zs, name)
    for attribute, member in inspect.getmembers(theirs):
        if attribute.startswith("_") or attribute in NOT_HERE[name]:
            continue
        assert hasattr(ours, attribute), f"blocking.{name} lacks {attribute}"
        if inspect.isfunction(member):
            assert _parameters(getattr(ours, attribute)) == _parameters(member), attribute
        else:
            assert isinstance(inspect.getattr_static(ours, attribute), property), attribute


def test_blocking_functions_have_the_signatures_of_the_package() -> None:
    for name in ("open", "open_array", "open_group", "create_array", "create_group"):
        assert _parameters(getattr(blocking, name)) == _parameters(getattr(zs, name)), name
    for name in ("exists", "delete", "verify"):
        assert _parameters(getattr(blocking, name)) == _parameters(getattr(zs.Session, name)), name


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values() if p.name != "self"]


def test_the_blocking_module_is_loaded_on_first_use() -> None:
    program = "import sys, zarr_s3_async as zs; assert 'zarr_s3_async.blocking' not in sys.modules; zs.blocking.open"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_pickled_group_still_ignores_consolidated_metadata(tmp_path: Path) -> None:
    root = zs.blocking.create_group(tmp_path)
    root.create_group("inner").create_array("a", shape=4, chunks=2, dtype="i4")
    root.consolidate()
    shutil.rmtree(tmp_path / "inner" / "a")  # by another program, so the consolidated metadata is outdated
    assert [name for name, _ in zs.blocking.open_group(tmp_path)["inner"].members()] == ["a"]
    group = zs.blocking.open_group(tmp_path, consolidated=False)
    again = pickle.loads(pickle.dumps(group))
    inner = group["inner"]
    zs.blocking.close()  # the handles are opened again on another loop
    for one in (group["inner"], inner, again["inner"], zs.blocking.open(tmp_path, consolidated=False)["inner"]):
        assert one.members() == []


def test_the_cache_policy_is_kept_for_members_and_pickles(tmp_path: Path) -> None:
    group = zs.blocking.create_group(tmp_path)
    made = group.create_array("a", shape=(4,), dtype="i4")
    made[...] = 5
    kept = zs.blocking.open_group(tmp_path, cache="immutable")
    for opened in (
        zs.blocking.open_array(tmp_path / "a", cache="immutable"),
        pickle.loads(pickle.dumps(zs.blocking.open_array(tmp_path / "a", cache="immutable"))),
        kept["a"],
        pickle.loads(pickle.dumps(kept))["a"],
        pickle.loads(pickle.dumps(kept["a"])),
        group.open("a", cache="immutable"),
    ):
        assert isinstance(opened, zs.blocking.Array)
        assert opened._live()._layout.reader.max_age == float("inf")
    fresh = zs.blocking.open(tmp_path, path="a", cache=None)
    assert isinstance(fresh, zs.blocking.Array)
    assert fresh._live()._layout.reader.max_age is None
    with pytest.raises(zs.ConfigError, match="cache"):
        zs.blocking.open_array(tmp_path / "a", cache="always")  # type: ignore[arg-type]  # no such policy


def test_the_error_of_a_numpy_attribute_says_how_to_read() -> None:
    array: Any = zs.blocking.create_array("memory://attributes", shape=(2,), dtype="i4")
    with pytest.raises(AttributeError, match=r"array\[...\] first, as in \(array\[...\]\).mean"):
        array.mean()
    assert not hasattr(array, "shpae")
