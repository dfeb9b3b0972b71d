"""codecs/vlen.py: elements of variable length."""

from __future__ import annotations

import enum
import struct
import tracemalloc

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import VLenArray, VLenBytes, VLenUTF8

import zarr_s3_async as zs
from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError

from .chains import pipeline


def objects(values, shape=None):
    chunk = np.empty(len(values), object)
    chunk[:] = values
    return chunk.reshape(shape or (len(values),))


def packed(*elements: bytes, count: int | None = None) -> bytes:
    parts = [struct.pack("<I", len(elements) if count is None else count)]
    for element in elements:
        parts += [struct.pack("<I", len(element)), element]
    return b"".join(parts)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=12))
@settings(deadline=None)
def test_strings_are_written_as_by_numcodecs_and_read_back(texts):
    line = pipeline("vlen-utf8", shape=(len(texts),), dtype=object)
    chunk = objects(texts)
    data = line.encode(chunk)
    assert data == VLenUTF8().encode(chunk) == packed(*(text.encode() for text in texts))
    assert line.decode(data).tolist() == texts


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=12))
@settings(deadline=None)
def test_byte_strings_are_written_as_by_numcodecs_and_read_back(values):
    line = pipeline("vlen-bytes", shape=(len(values),), dtype=object)
    chunk = objects(values)
    data = line.encode(chunk)
    assert data == VLenBytes().encode(chunk) == packed(*values)
    assert line.decode(data).tolist() == values


@given(st.lists(st.lists(st.integers(-128, 127), max_size=5), min_size=1, max_size=6))
@settings(deadline=None)
def test_arrays_are_written_as_by_numcodecs_and_read_back(values):
    chunk = np.empty(len(values), object)
    for at, value in enumerate(values):
        chunk[at] = np.array(value, "<i2")
    line = pipeline(("vlen-array", {"dtype": "<i2"}), shape=chunk.shape, dtype=object)
    data = line.encode(chunk)
    assert data == VLenArray("<i2").encode(chunk)
    assert [value.tolist() for value in line.decode(data)] == values
    assert {value.dtype for value in line.decode(data)} == {np.dtype("<i2")}


@pytest.mark.parametrize("compressor", ["zstd", "gzip", "blosc", "numcodecs.lz4", "numcodecs.lzma", "crc32c"])
def test_elements_of_variable_length_pass_through_every_compressor(compressor):
    chunk = objects(["", "æøå", "x" * 1000, "日本語", "a", "b"], (2, 3))
    line = pipeline("vlen-utf8", compressor, shape=(2, 3), dtype=object)
    assert line.encoded_nbytes is None
    assert line.cost == "blocking"
    assert line.decode(line.encode(chunk)).tolist() == chunk.tolist()


def test_a_transposed_chunk_is_stored_in_its_new_order():
    chunk = objects(list("abcdef"), (2, 3))
    line = pipeline(("transpose", {"order": [1, 0]}), "vlen-utf8", shape=(2, 3), dtype=object)
    assert line.encode(chunk) == packed(*(letter.encode() for letter in "adbecf"))
    assert line.decode(line.encode(chunk)).tolist() == chunk.tolist()


def test_numpys_variable_length_strings_are_stored_as_strings():
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy 1")
    chunk = np.array([["a", "bøc"], ["", "d" * 50]], dtypes.StringDType())
    line = pipeline("vlen-utf8", "zstd", shape=(2, 2), dtype=dtypes.StringDType(), fill="")
    decoded = line.decode(line.encode(chunk))
    assert decoded.dtype == chunk.dtype
    assert decoded.tolist() == chunk.tolist()


@pytest.mark.parametrize(("codec", "value"), [("vlen-utf8", "a"), ("vlen-bytes", b"a")])
@pytest.mark.parametrize("missing", [None, 0, False])
def test_none_and_zero_are_refused_as_strings(codec, value, missing):
    with pytest.raises(ChunkError, match="element 1 of the chunk"):
        pipeline(codec, shape=(2,), dtype=object).encode(objects([value, missing]))


class Colour(enum.StrEnum):
    RED = "red"


class Other(str, enum.Enum):  # noqa: UP042  its str() is not its value
    BLUE = "blue"


class Name(str):
    __slots__ = ()


def test_values_of_subclasses_of_str_and_bytes_are_stored_by_their_content():
    texts = objects([np.str_("a"), Colour.RED, Other.BLUE, Name("n"), "plain"])
    stored = packed(b"a", b"red", b"blue", b"n", b"plain")
    assert pipeline("vlen-utf8", shape=(5,), dtype=object).encode(texts) == stored
    blobs = objects([np.bytes_(b"a"), bytearray(b"bc"), memoryview(b"d"), b"e"])
    assert pipeline("vlen-bytes", shape=(4,), dtype=object).encode(blobs) == packed(b"a", b"bc", b"d", b"e")


@pytest.mark.parametrize(
    ("codec", "value"), [("vlen-utf8", 5), ("vlen-utf8", b"a"), ("vlen-bytes", "a"), ("vlen-utf8", "\ud800")]
)
def test_values_of_another_type_are_refused_on_writing(codec, value):
    with pytest.raises(ChunkError, match=f"'{codec}'"):
        pipeline(codec, shape=(1,), dtype=object).encode(objects([value]))


@pytest.mark.parametrize("codec", ["vlen-utf8", "vlen-bytes", ("vlen-array", {"dtype": "|u1"})])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\0\0",
        packed(b"a"),
        packed(b"a", b"b", b"c"),
        packed(count=2**32 - 1),
        packed(count=2),
        packed(b"a", b"b", count=3),
        packed(b"a", b"b") + b"\0",
        packed(b"a", b"b")[:-1],
        struct.pack("<III", 2, 2**32 - 1, 0),
        struct.pack("<III", 2, 5, 0) + b"a",
    ],
)
def test_invalid_counts_and_lengths_are_refused(codec, data):
    with pytest.raises(ChunkDecodeError, match="'vlen-"):
        pipeline(codec, shape=(2,), dtype=object).decode(data)


def test_nothing_is_allocated_for_a_claimed_count():
    line = pipeline("vlen-utf8", shape=(2**28,), dtype=object)
    tracemalloc.start()
    try:
        with pytest.raises(ChunkDecodeError, match="claim"):
            line.decode(packed(b"abc", count=2**28))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"\xff", b"\xed\xa0\x80", b"a\xc3"])
def test_bytes_that_are_not_utf_8_are_refused(data):
    with pytest.raises(ChunkDecodeError, match=r"'vlen-utf8'") as caught:
        pipeline("vlen-utf8", shape=(1,), dtype=object).decode(packed(data))
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_lengths_of_incomplete_elements_are_refused():
    with pytest.raises(ChunkDecodeError, match="'vlen-array'"):
        pipeline(("vlen-array", {"dtype": "<i4"}), shape=(1,), dtype=object).decode(packed(b"abc"))


def test_decompression_of_elements_of_variable_length_has_a_limit():
    text = objects(["x" * 100_000])
    data = pipeline("vlen-utf8", "gzip", shape=(1,), dtype=object).encode(text)
    assert pipeline("vlen-utf8", "gzip", shape=(1,), dtype=object, variable_limit=100_008).decode(data)[0] == text[0]
    with pytest.raises(ChunkDecodeError, match="'gzip'"):
        pipeline("vlen-utf8", "gzip", shape=(1,), dtype=object, variable_limit=100_007).decode(data)


@pytest.mark.parametrize(
    ("codec", "dtype", "message"),
    [
        ("vlen-utf8", "<U4", "any length"),
        ("vlen-bytes", "S4", "any length"),
        ("vlen-utf8", "<i4", "any length"),
        (("vlen-utf8", {"x": 1}), object, "'x'"),
        ("vlen-array", object, "'dtype'"),
        (("vlen-array", {"dtype": "|O"}), object, "'dtype'"),
    ],
)
def test_a_wrong_dtype_or_option_is_refused(codec, dtype, message):
    with pytest.raises(MetadataError, match=f"'vlen-.*{message}"):
        pipeline(codec, dtype=dtype)


# Any values


ANY = [None, True, 1.5, "text", ["a", 1], {"b": [2], "a": None}]


def theirs(codec):
    pytest.importorskip("msgpack" if codec == "msgpack2" else "numcodecs")
    return numcodecs.get_codec({"id": codec})


@pytest.mark.parametrize("codec", ["json2", "msgpack2"])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_any_values_are_written_as_by_numcodecs_and_read_back(codec, shape):
    chunk = objects(ANY, shape)
    line = pipeline(codec, shape=shape, dtype=object, fill=None)
    assert bytes(line.encode(chunk)) == bytes(theirs(codec).encode(chunk))
    assert line.decode(line.encode(chunk)).tolist() == chunk.tolist()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"1", b"null", b'["a","|O",[3]]', b'["a","b","<i4",[2]]', b'["a","b","|O",[1]]', b"[" * 100_000),
        *(b'[["a"],["b"],"|O",[2,1]]', b'["a","b","|O"]', b'{"a":1}', b"\xff\xfe"),
    ],
    ids=lambda data: str(data[:20]),
)
def test_json_that_is_not_a_chunk_is_refused(data):
    with pytest.raises(ChunkDecodeError, match="json2"):
        pipeline("json2", shape=(2,), dtype=object, fill=None).decode(data)
    with pytest.raises(ChunkDecodeError, match="json2"):
        pipeline("json2", shape=(2, 2), dtype=object, fill=None).decode(b'[["a","b"],["c"],"|O",[2,2]]')


async def test_v2_arrays_of_any_values_are_written_and_read():
    async with zs.Session() as session:
        options = {"dtype": object, "filters": [{"id": "json2"}], "zarr_format": 2, "fill_value": ""}
        array = await session.create_array("memory://any-values", shape=4, chunks=2, **options)
        values = objects([{"a": 1}, None, [1, 2], "x"])
        await array[1:4].set(values[1:4])
        assert (await (await session.open_array("memory://any-values"))[...]).tolist() == ["", None, [1, 2], "x"]
