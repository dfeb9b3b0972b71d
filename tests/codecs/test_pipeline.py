"""codecs/pipeline.py: chains of codecs."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zarr_s3_async.codecs import pipeline as pipeline_module
from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError, UnsupportedFeature

from .chains import BIG, LITTLE, numbers, pipeline, same

DTYPES = ["?", "i1", "<u2", ">i4", "<f2", "<f4", ">f8", "<c16", "S4", "<U3", "V3", "<M8[ms]", "<m8[D]"]
COMPRESSORS = [
    "zstd",
    "gzip",
    "blosc",
    "crc32c",
    "numcodecs.lz4",
    "numcodecs.zlib",
    "numcodecs.bz2",
    "numcodecs.shuffle",
]


@st.composite
def chunks(draw):
    """A chunk of any shape, dtype and content."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=5))
    nbytes = int(np.prod(shape)) * dtype.itemsize
    content = draw(st.binary(min_size=nbytes, max_size=nbytes))
    if dtype.kind == "b":
        content = bytes(byte & 1 for byte in content)
    if dtype.kind == "U":
        content = (np.frombuffer(content, "<u4") % 0xD800).astype("<u4").tobytes()
    return np.frombuffer(content, dtype).reshape(shape)


@given(chunks(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_decoded_chunk_equals_the_encoded_one_bit_by_bit(chunk, data):
    order = data.draw(st.permutations(range(chunk.ndim)))
    endian = data.draw(st.sampled_from([LITTLE, BIG]))
    compressors = data.draw(st.lists(st.sampled_from(COMPRESSORS), max_size=3))
    if "numcodecs.shuffle" in compressors:
        compressors = ["numcodecs.shuffle", *(name for name in compressors if name != "numcodecs.shuffle")]
    line = pipeline(("transpose", {"order": order}), endian, *compressors, shape=chunk.shape, dtype=chunk.dtype)
    encoded = bytes(line.encode(chunk))
    assert line.encoded_nbytes in (None, len(encoded))
    assert same(np.asarray(line.decode(encoded)), chunk)
    out = np.empty_like(chunk)
    assert same(np.asarray(line.decode(memoryview(bytearray(encoded)), out)), chunk)


@pytest.mark.parametrize(
    ("steps", "raw", "cost", "encoded"),
    [
        ([LITTLE], True, "view", 96),
        ([BIG], False, "parallel", 96),
        ([LITTLE, "crc32c"], False, "parallel", 100),
        ([LITTLE, "zstd"], False, "parallel", None),
        ([("transpose", {"order": [1, 0]}), LITTLE], False, "view", 96),
        ([("transpose", {"order": [0, 1]}), LITTLE], True, "view", 96),
        ([LITTLE, "crc32c", "crc32c"], False, "parallel", 104),
        ([LITTLE, "zstd", "crc32c"], False, "parallel", None),
    ],
)
def test_a_pipeline_knows_its_size_cost_and_whether_it_is_raw(steps, raw, cost, encoded):
    line = pipeline(*steps)
    assert (line.raw, line.cost, line.encoded_nbytes, line.nbytes) == (raw, cost, encoded, 96)
    assert line.chunk.shape == (4, 6)


def test_big_endian_elements_in_memory_are_raw_if_stored_big_endian():
    assert pipeline(BIG, dtype=">f4").raw
    assert not pipeline(LITTLE, dtype=">f4").raw


@pytest.mark.parametrize("name", ["zstd", "blosc", "numcodecs.lz4", "numcodecs.shuffle"])
def test_the_last_step_of_decoding_writes_into_the_callers_array(name):
    chunk = numbers((4, 6), "<f4")
    out = np.empty_like(chunk)
    line = pipeline(LITTLE, name, "gzip", "crc32c")
    assert line.decode(line.encode(chunk), out) is out
    assert same(out, chunk)


@pytest.mark.parametrize("steps", [[LITTLE], [LITTLE, "crc32c"], [("transpose", {"order": [1, 0]}), LITTLE, "zstd"]])
def test_a_chunk_decoded_as_a_view_is_not_copied_into_the_callers_array(steps):
    chunk = numbers((4, 6), "<f4")
    out = np.full_like(chunk, -1)
    line = pipeline(*steps)
    decoded = line.decode(line.encode(chunk), out)
    assert decoded is not out
    assert same(np.ascontiguousarray(decoded), chunk)
    assert (out == -1).all()


def test_a_raw_chunk_is_encoded_without_a_copy():
    chunk = numbers((4, 6), "<f4")
    data = pipeline(LITTLE).encode(chunk)
    assert isinstance(data, memoryview)
    assert (data.format, data.nbytes) == ("B", 96)
    assert np.shares_memory(np.frombuffer(data, "u1"), chunk)


@pytest.mark.parametrize(
    "chunk", [numbers((8, 6), "<f4")[::2], numbers((6, 4), "<f4").T, np.asfortranarray(numbers((4, 6), "<f4"))]
)
def test_chunks_in_any_memory_order_are_encoded_in_c_order(chunk):
    assert bytes(pipeline(LITTLE).encode(chunk)) == np.ascontiguousarray(chunk).tobytes()


@pytest.mark.parametrize("steps", [[LITTLE], [LITTLE, "zstd"], [LITTLE, "numcodecs.bz2", "crc32c"], [BIG]])
def test_an_encoded_chunk_is_a_buffer_of_bytes(steps):
    data = pipeline(*steps).encode(numbers((4, 6), "<f4"))
    assert isinstance(data, bytes | bytearray | memoryview)
    assert memoryview(data).format == "B"


@pytest.mark.parametrize(
    "chunk", [np.zeros((6, 4), "<f4"), np.zeros((4, 6), "<f8"), np.zeros((4, 6), ">f4"), np.zeros(24, "<f4")]
)
def test_a_chunk_of_another_shape_or_dtype_is_refused_on_writing(chunk):
    with pytest.raises(ChunkError, match=r"\(4, 6\)"):
        pipeline(LITTLE).encode(chunk)


def test_an_error_names_its_codec_keeps_its_cause_and_pickles():
    line = pipeline(LITTLE, "zstd", "gzip", "crc32c")
    inner = pipeline(LITTLE, "zstd", "gzip")
    good = numbers((4, 6), "<f4")
    spoiled = pipeline("bytes", "crc32c", shape=(9,), dtype="u1").encode(np.zeros(9, "u1"))
    with pytest.raises(ChunkDecodeError, match=r"codec 'gzip' cannot decode the chunk: error: ") as caught:
        line.decode(spoiled)
    assert caught.value.codec == "gzip"
    assert caught.value.__cause__ is not None
    assert pickle.loads(pickle.dumps(caught.value)).codec == "gzip"
    with pytest.raises(ChunkDecodeError, match="crc32c"):
        line.decode(inner.encode(good))


def test_running_out_of_memory_is_not_a_decode_error(monkeypatch):
    line = pipeline(LITTLE, "zstd", shape=(200, 200))
    data = line.encode(numbers((200, 200), "<f4"))

    def exhausted(*_args):
        raise MemoryError

    monkeypatch.setattr("zarr_s3_async.codecs.compress.np.empty", exhausted)
    with pytest.raises(MemoryError):
        line.decode(data)


class TestChains:
    """The allowed orders of codecs."""

    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            ([], "empty list"),
            (["zstd"], "'zstd'"),
            ([("transpose", {"order": [1, 0]})], "turns an array into bytes"),
            ([LITTLE, LITTLE], "'bytes'"),
            ([LITTLE, ("transpose", {"order": [1, 0]})], "'transpose'"),
            (["gzip", LITTLE], "'gzip'"),
            ([LITTLE, "zstd", "vlen-utf8"], "'vlen-utf8'"),
            (["numcodecs.zlib"], "'numcodecs.zlib'"),
        ],
    )
    def test_a_chain_out_of_order_is_refused(self, steps, message):
        with pytest.raises(MetadataError, match=message):
            pipeline(*steps)

    def test_an_unknown_codec_is_reported_before_an_invalid_order(self):
        with pytest.raises(UnsupportedFeature, match="'brotli'"):
            pipeline("brotli", LITTLE)

    def test_v2_filters_of_bytes_are_applied_after_the_elements(self):
        chunk = numbers((4, 6), "<f4")
        filters = ("numcodecs.delta", {"dtype": "<f4"}), "numcodecs.shuffle", "numcodecs.crc32"
        v2 = pipeline(*filters, "bytes", "numcodecs.zlib")
        v3 = pipeline(filters[0], LITTLE, *filters[1:], "numcodecs.zlib")
        assert v2.encode(chunk) == v3.encode(chunk)
        assert same(v2.decode(v2.encode(chunk)), chunk)

    def test_v2_keeps_the_byte_order_that_a_filter_names(self):
        chunk = numbers((4, 6), "<f4")
        line = pipeline(("numcodecs.astype", {"encode_dtype": ">i2", "decode_dtype": "<f4"}), "bytes")
        assert bytes(line.encode(chunk)) == chunk.astype(">i2").tobytes()

    def test_a_chunk_without_dimensions_has_one_element(self):
        line = pipeline(LITTLE, "zstd", shape=())
        chunk = np.array(5, "<f4")
        out = np.empty((), "<f4")
        assert line.decode(line.encode(chunk), out) is out
        assert out == 5

    def test_the_repr_of_a_pipeline_shows_its_chain(self):
        assert repr(pipeline(LITTLE, "zstd")) == "<Pipeline bytes → zstd of (4, 6) float32>"


def test_one_pipeline_serves_many_threads():
    line = pipeline(("transpose", {"order": [1, 0]}), BIG, "blosc", "gzip", "crc32c", shape=(64, 32))
    wanted = [numbers((64, 32), "<f4", seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        encoded = list(threads.map(line.encode, wanted * 8))
        decoded = list(threads.map(line.decode, encoded))
    assert all(same(np.ascontiguousarray(got), expected) for got, expected in zip(decoded, wanted * 8, strict=True))


def test_data_compressed_twice_has_a_size_limit():
    """Compression makes incompressible data only a little longer; longer encoded data is refused."""
    line = pipeline(LITTLE, "gzip", "zstd", shape=(64,))
    chunk = np.frombuffer(np.random.default_rng(0).bytes(256), "<f4")
    assert same(line.decode(line.encode(chunk)), chunk)
    from numcodecs import Zstd

    with pytest.raises(ChunkDecodeError, match="'zstd'"):
        line.decode(Zstd().encode(bytes(256 + 256 // 32 + pipeline_module._SLACK + 1)))


def test_many_layers_of_compression_do_not_raise_the_limit_much():
    """A document may name any number of compressors; each one's bound stays near the chunk's size."""
    line = pipeline(LITTLE, *["gzip"] * 40, shape=(2**20,))
    outermost = line._unpack[0]
    assert outermost.name == "gzip"
    assert outermost.limit < 4 * 2**22 + 40 * 2 * pipeline_module._SLACK


@pytest.mark.parametrize(
    "steps",
    [
        [("scale_offset", {"offset": 1, "scale": 2}), LITTLE],
        [("cast_value", {"data_type": "int8", "scalar_map": {"encode": [[5, 6]], "decode": [[6, 5]]}}), LITTLE],
        [("cast_value", {"data_type": "float64"}), BIG],
        [("numcodecs.delta", {}), "bytes"],
        [("numcodecs.fixedscaleoffset", {"offset": 1, "scale": 2, "astype": "|i1"}), "bytes"],
        [("numcodecs.quantize", {"digits": 3}), "bytes"],
        [("numcodecs.bitround", {"keepbits": 20}), "bytes"],
        [("numcodecs.astype", {"encode_dtype": "<i2"}), "bytes"],
    ],
)
def test_a_chunk_without_dimensions_passes_through_every_codec_as_an_array(steps):
    line = pipeline(*steps, shape=())
    decoded = line.decode(line.encode(np.array(5, "<f4")))
    assert isinstance(decoded, np.ndarray)
    assert same(decoded, np.array(5, "<f4"))


def test_the_error_of_a_codec_that_rejects_its_input_names_it(monkeypatch):
    def refuses(self, spec):
        raise ValueError("no such chunk")

    monkeypatch.setattr("zarr_s3_async.codecs.cast.ScaleOffset.encoded", refuses)
    with pytest.raises(MetadataError, match=r"'scale_offset'.*no such chunk"):
        pipeline("scale_offset", LITTLE)


@pytest.mark.parametrize(
    "steps",
    [[LITTLE], [LITTLE, "zstd"], [LITTLE, "gzip", "numcodecs.lz4", "crc32c"], [LITTLE, "numcodecs.base64", "blosc"]],
)
def test_no_encoded_chunk_is_longer_than_the_upper_bound(steps):
    """Incompressible bytes are the worst case; the bound has no slack beyond them."""
    noise = np.random.default_rng(0).integers(0, 256, 2**18, "u1").view("<f4").reshape(256, 256)
    line = pipeline(*steps, shape=noise.shape)
    assert len(line.encode(noise)) < line.max_encoded_nbytes / 1.5
    assert line.max_encoded_nbytes < 4 * noise.nbytes + 2**20
