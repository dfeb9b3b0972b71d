"""Values that are written must fit the data type, as in NumPy's assignment."""

import array
import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._engine.operations import as_array

NUMBERS = st.one_of(
    st.integers(-(2**66), 2**66), st.integers(-300, 300), st.floats(), st.booleans(), st.complex_numbers()
)


async def by_set_slice(array, data):
    await array.set_slice(data, start=0, stop=3)


async def by_set_slice_without_stop(array, data):
    await array.set_slice(data if isinstance(data, list) else [data] * 3, start=0)


async def by_set(array, data):
    await array[0:3].set(data)


async def by_part_of_a_chunk(array, data):
    await array[1:2].set(data[:1] if isinstance(data, list) else data)


async def by_oindex(array, data):
    await array.oindex[[0, 1, 2]].set(data)


async def by_vindex(array, data):
    await array.vindex[[0, 1, 2]].set(data)


async def by_blocks(array, data):
    await array.blocks[0].set(data)


async def by_append(array, data):
    await array.append(data if isinstance(data, list) else [data] * 3)


@pytest.mark.parametrize("data", [300, -1, 1e3, [300, 1, 2], [-1, 1, 2]], ids=str)
@pytest.mark.parametrize(
    "write",
    [
        *(by_set_slice, by_set_slice_without_stop, by_set, by_part_of_a_chunk, by_oindex, by_vindex, by_blocks),
        by_append,
    ],
)
async def test_a_number_out_of_range_is_an_overflow_error_and_nothing_is_written(write, data):
    async with zs.Session() as session:
        array = await session.create_array("memory://values", shape=3, chunks=3, dtype="u1", overwrite=True)
        await array.set_slice([1, 2, 3], start=0)
        with pytest.raises(zs.DataOverflowError, match=r"memory://values .*uint8.*out of bounds") as raised:
            await write(array, data)
        assert isinstance(raised.value, OverflowError)
        await array.refresh()
        assert (await array[...]).tolist() == [1, 2, 3]


class _Layout:
    url = "memory://x"

    def __init__(self, dtype):
        self.meta = self
        self.dtype = np.dtype(dtype)


@given(
    st.sampled_from(["i1", "u1", "i2", ">u4", "i8", "u8", "f2", "f4", "f8", "c8", "?"]),
    st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=4)),
)
def test_every_number_is_accepted_or_refused_as_in_numpys_assignment(dtype, data):
    expected = np.zeros(np.shape(data), dtype)
    with np.errstate(all="ignore"):
        refused = None
        try:
            expected[...] = data
        except (OverflowError, TypeError, ValueError) as error:
            refused = zs.DataOverflowError if isinstance(error, OverflowError) else zs.DataError
        if refused is None:
            np.testing.assert_array_equal(as_array(_Layout(dtype), data), expected)
        else:
            with pytest.raises(zs.DataError) as raised:
                as_array(_Layout(dtype), data)
            assert type(raised.value) is refused


def test_arrays_are_cast_chunk_by_chunk_without_a_check_of_their_values():
    for data in (np.array([300]), np.int64(300)):
        assert as_array(_Layout("u1"), data).dtype == np.int64


def test_array_likes_and_scalars_are_converted_as_numpy_does():
    assert as_array(_Layout("i2"), array.array("i", [1, 2])).tolist() == [1, 2]
    assert as_array(_Layout("i2"), range(3)).tolist() == [0, 1, 2]
    assert as_array(_Layout("M8[s]"), dt.datetime(2020, 1, 1)) == np.datetime64("2020-01-01T00:00:00")  # noqa: DTZ001
    assert as_array(_Layout([("a", "i1"), ("b", "f4")]), [(1, 2.5)])["b"] == 2.5
    with pytest.raises(zs.DataOverflowError):
        as_array(_Layout([("a", "i1"), ("b", "f4")]), [(300, 2.5)])


def test_integers_of_ml_dtypes_do_not_wrap_around():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for data in (8, -9, [1, 8]):
        with pytest.raises(zs.DataOverflowError, match="int4"):
            as_array(_Layout(ml_dtypes.int4), data)
    assert as_array(_Layout(ml_dtypes.int4), [-8, 7]).astype(int).tolist() == [-8, 7]


async def test_structured_elements_are_set_from_tuples():
    async with zs.Session() as session:
        array = await session.create_array("memory://records", shape=3, dtype=[("a", "i2"), ("b", "f4")])
        await array.set_slice([(1, 2.5), (3, 4.5)], start=0)
        assert (await array[...]).tolist() == [(1, 2.5), (3, 4.5), (0, 0.0)]


@pytest.mark.parametrize("dtype", ["<M8[ns]", "<m8[s]"])
async def test_an_absent_chunk_of_times_with_a_null_fill_value_reads_as_nat(dtype):
    """As in zarr-python, which does not store chunks that are all NaT."""
    async with zs.Session() as session:
        where = f"memory://times-{dtype[1]}"
        array = await session.create_array(where, shape=6, chunks=2, dtype=dtype, zarr_format=2, fill_value=None)
        await array[0:1].set(np.array(5, dtype))
        await array[2:4].set(np.array("NaT", dtype))
        assert np.isnat(await array[...]).tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.array([300, 1, 2], object), zs.DataOverflowError),
        (np.array(["1", "x", "2"]), zs.DataError),
        (np.array([None] * 3), zs.DataError),
    ],
    ids=["objects", "text", "nothing"],
)
async def test_values_in_arrays_of_text_and_objects_are_checked_like_python_values(data, error):
    async with zs.Session() as session:
        array = await session.create_array("memory://text-for-numbers", shape=3, chunks=3, dtype="u1", overwrite=True)
        for write in (lambda: array.set_slice(data, start=0), lambda: array.append(data), lambda: array[...].set(data)):
            with pytest.raises(error, match="memory://text-for-numbers"):
                await write()
        await array.refresh()
        assert (await array[...]).tolist() == [0, 0, 0]
        await array.set_slice(np.array(["1", "2", "3"]), start=0)
        assert (await array[...]).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("S4", np.array(["\u00e9"] * 4)),
        ("i4", np.zeros(4, [("a", "i4"), ("b", "i4")])),
        ([("a", "i4"), ("b", "S2")], np.array([("x", "y")] * 4, [("a", "U1"), ("b", "U1")])),
        ([("a", "i4"), ("b", "S2")], np.array([("1", "\u00e9")] * 4, [("a", "U1"), ("b", "U1")])),
        ([("a", "i4"), ("b", "i4")], np.zeros(4, [("a", "i4")])),
    ],
    ids=str,
)
async def test_an_array_whose_values_cannot_be_cast_is_a_data_error(dtype, data):
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype=dtype)
        for write in (array[...].set, array.append):
            with pytest.raises(zs.DataError):
                await write(data)
        with pytest.raises(zs.DataError):
            async with array.write_stream() as out:
                await out.write(np.s_[:], data)
        assert array.shape == (4,)
        assert not list(await array.stored_chunks())
