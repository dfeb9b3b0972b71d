"""codecs/filters.py: numcodecs' filters."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest

from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError

from .chains import encodable, numbers, pipeline, same

SHAPE = (5, 9)


def line(name, configuration, dtype, shape=SHAPE, *more):
    """A chain as in Zarr v2: `bytes` uses the byte order that the filter gives."""
    return pipeline((name, configuration), "bytes", *more, shape=shape, dtype=dtype)


CASES = [
    ("delta", {"dtype": "<i4"}),
    ("delta", {"dtype": "<i4", "astype": "<i2"}),
    ("delta", {"dtype": "<i4", "astype": ">i2"}),
    ("delta", {"dtype": "<u2", "astype": "<u2"}),
    ("delta", {"dtype": "<f8"}),
    ("delta", {"dtype": ">f4"}),
    ("delta", {"dtype": "|u1"}),
    ("fixedscaleoffset", {"dtype": "<f8", "astype": "|u1", "scale": 2, "offset": 3}),
    ("fixedscaleoffset", {"dtype": "<f4", "astype": ">i2", "scale": 0.1, "offset": -10.5}),
    ("fixedscaleoffset", {"dtype": "<f4", "scale": 10, "offset": 0}),
    ("fixedscaleoffset", {"dtype": "<i4", "astype": "<i2", "scale": 1, "offset": 5}),
    ("quantize", {"dtype": "<f8", "digits": 2}),
    ("quantize", {"dtype": "<f8", "astype": "<f4", "digits": 0}),
    ("quantize", {"dtype": "<f4", "astype": "<f2", "digits": -1}),
    ("bitround", {"keepbits": 3}, "<f4"),
    ("bitround", {"keepbits": 0}, "<f8"),
    ("bitround", {"keepbits": 10}, "<f2"),
    ("bitround", {"keepbits": 9}, "<f2"),
    ("astype", {"encode_dtype": "<f4", "decode_dtype": "<f8"}),
    ("astype", {"encode_dtype": "|i1", "decode_dtype": ">i8"}),
    ("astype", {"encode_dtype": "float32", "decode_dtype": "int64"}),
    ("packbits", {}, "?"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[1].values()))}")
def test_filters_write_the_bytes_of_numcodecs_and_read_what_it_reads(case):
    name, configuration, *rest = case
    dtype = rest[0] if rest else configuration.get("decode_dtype", configuration.get("dtype"))
    reference = numcodecs.get_codec({"id": name, **configuration})
    chunk = (numbers(SHAPE, dtype) * (1 if dtype == "?" else np.dtype(dtype).type(1.3))).astype(dtype)
    ours = line(f"numcodecs.{name}", configuration, dtype)
    expected = np.asarray(reference.encode(chunk)).tobytes()
    data = ours.encode(chunk)
    assert bytes(data) == expected
    decoded = np.asarray(reference.decode(expected))
    assert same(ours.decode(data), decoded.reshape(-1).view(dtype).reshape(SHAPE))


def test_bitround_takes_big_endian_numbers_too():
    chunk = numbers(SHAPE, ">f4") / 7
    chunk = chunk.astype(">f4")
    ours = line("numcodecs.bitround", {"keepbits": 4}, ">f4")
    assert same(
        ours.decode(ours.encode(chunk)), numcodecs.BitRound(4).encode(chunk.astype("<f4")).view("<f4").astype(">f4")
    )


def test_filters_are_applied_in_order_and_to_transposed_chunks_in_c_order():
    chunk = numbers((4, 6), "<f8")
    ours = pipeline(
        ("transpose", {"order": [1, 0]}),
        ("numcodecs.fixedscaleoffset", {"dtype": "<f8", "astype": "<i4", "scale": 1, "offset": 0}),
        ("numcodecs.delta", {"dtype": "<i4", "astype": "<i2"}),
        "bytes",
        "numcodecs.zlib",
        shape=(4, 6),
        dtype="<f8",
    )
    flat = chunk.T.reshape(-1)
    reference = numcodecs.Delta("<i4", "<i2").encode(numcodecs.FixedScaleOffset(0, 1, "<f8", "<i4").encode(flat))
    assert ours.encode(chunk) == numcodecs.Zlib().encode(reference)
    assert same(ours.decode(ours.encode(chunk)), chunk)


@pytest.mark.parametrize("endian", ["little", "big"])
def test_in_v3_the_bytes_codec_sets_the_byte_order(endian):
    chunk = numbers(SHAPE, "<i4")
    ours = pipeline(("numcodecs.delta", {"dtype": "<i4"}), ("bytes", {"endian": endian}), shape=SHAPE, dtype="<i4")
    expected = numcodecs.Delta("<i4").encode(chunk)
    assert bytes(ours.encode(chunk)) == expected.astype(expected.dtype.newbyteorder(endian)).tobytes()
    assert same(ours.decode(ours.encode(chunk)), chunk)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64])
def test_packbits_packs_any_number_of_booleans(count):
    chunk = numbers((count,), "u1") > 50
    ours = line("numcodecs.packbits", {}, "?", (count,))
    data = ours.encode(chunk)
    assert bytes(data) == numcodecs.PackBits().encode(chunk).tobytes()
    assert same(ours.decode(data), chunk)


@pytest.mark.parametrize("padding", [0, 4, 8, 255])
def test_packbits_refuses_any_other_padding(padding):
    data = bytearray(line("numcodecs.packbits", {}, "?").encode(np.zeros(SHAPE, bool)))
    data[0] = padding
    with pytest.raises(ChunkDecodeError, match="padding"):
        line("numcodecs.packbits", {}, "?").decode(data)


class TestCategorize:
    LABELS = ("red", "green", "", "blue", "red")
    TEXTS = np.array(["green", "red", "blue", "violet", "", "green"], object).reshape(2, 3)

    @pytest.mark.parametrize("dtype", [object, "<U6"])
    @pytest.mark.parametrize("astype", ["|u1", "<i2", ">u4"])
    def test_categorize_writes_the_bytes_of_numcodecs(self, dtype, astype):
        chunk = self.TEXTS.astype(dtype)
        config = {"labels": list(self.LABELS), "dtype": np.dtype(dtype).str, "astype": astype}
        reference = numcodecs.Categorize(**config)
        ours = line("numcodecs.categorize", config, dtype, (2, 3))
        data = ours.encode(chunk)
        assert bytes(data) == reference.encode(chunk).tobytes()
        assert ours.decode(data).tolist() == reference.decode(bytes(data)).reshape(2, 3).tolist()
        assert ours.decode(data).dtype == np.dtype(dtype)

    def test_numbers_without_a_label_are_empty_strings(self):
        ours = line("numcodecs.categorize", {"labels": ["a"], "astype": "|i1"}, object, (4,))
        assert ours.decode(np.array([1, 2, -1, 0], "i1").tobytes()).tolist() == ["a", "", "", ""]

    @pytest.mark.parametrize(
        ("configuration", "key"),
        [
            ({"labels": "abc"}, "labels"),
            ({"labels": [1]}, "labels"),
            ({"labels": [], "dtype": "<f4"}, "dtype"),
            ({"labels": [], "astype": "<f4"}, "astype"),
            ({"labels": ["a"] * 256}, "astype"),
            ({}, "labels"),
        ],
    )
    def test_a_wrong_option_is_named(self, configuration, key):
        with pytest.raises(MetadataError, match=rf"'numcodecs.categorize'.*'{key}'"):
            line("numcodecs.categorize", configuration, object)


@pytest.mark.parametrize(
    ("name", "configuration", "dtype", "message"),
    [
        ("delta", {"dtype": "|O"}, "<i4", "'dtype'"),
        ("delta", {"dtype": "<i4,<i4"}, "<i8", "'dtype'"),
        ("delta", {"dtype": "(1000000,)i8"}, "<i8", "'dtype'"),
        ("delta", {"dtype": [["a", "<i4"]]}, "<i4", "'dtype'"),
        ("delta", {"dtype": "<i8"}, "<i4", "elements of int64"),
        ("delta", {"dtype": "S4"}, "<i4", "does not compute"),
        ("delta", {"dtype": "<i4", "step": 2}, "<i4", "'step'"),
        ("delta", {"dtype": "<i7"}, "<i4", "'dtype'"),
        ("fixedscaleoffset", {"dtype": "<f4", "offset": 0}, "<f4", "'scale'"),
        ("fixedscaleoffset", {"dtype": "<f4", "offset": "0", "scale": 1}, "<f4", "'offset'"),
        ("fixedscaleoffset", {"dtype": "<f4", "offset": 0, "scale": 0}, "<f4", "'scale'"),
        ("fixedscaleoffset", {"dtype": "<f4", "offset": float("nan"), "scale": 1}, "<f4", "'offset'"),
        ("quantize", {"dtype": "<i4", "digits": 1}, "<i4", "does not compute"),
        ("quantize", {"dtype": "<f4", "digits": 1000}, "<f4", "'digits'"),
        ("bitround", {"keepbits": 24}, "<f4", "'keepbits'"),
        ("bitround", {"keepbits": -1}, "<f4", "'keepbits'"),
        ("bitround", {"keepbits": 3}, "<i4", "rounds"),
        ("astype", {"decode_dtype": "<i4"}, "<i4", "'encode_dtype'"),
        ("astype", {"encode_dtype": "O", "decode_dtype": "<i4"}, "<i4", "'encode_dtype'"),
        ("packbits", {}, "<i4", "packs booleans"),
        ("packbits", {"bits": 1}, "?", "'bits'"),
    ],
)
def test_a_wrong_configuration_is_named_with_its_codec(name, configuration, dtype, message):
    with pytest.raises(MetadataError, match=rf"'numcodecs.{name}'.*{message}"):
        encodable(line(f"numcodecs.{name}", configuration, dtype))


def test_extreme_numbers_are_decoded_without_warnings():
    every = np.array([0, 0x7FF0000000000000, 0x7FF8000000000001, 2**63, 0x7FEFFFFFFFFFFFFF], "<u8").tobytes()
    for name, config in (
        ("fixedscaleoffset", {"astype": "<f8", "dtype": "<i8", "scale": 1e-300, "offset": 1}),
        ("astype", {"encode_dtype": "<f8", "decode_dtype": "<i8"}),
        ("delta", {"astype": "<f8", "dtype": "<i8"}),
    ):
        try:
            decoded = line(f"numcodecs.{name}", config, "<i8", (5,)).decode(every)
        except ChunkDecodeError:
            continue
        assert decoded.shape == (5,)


def test_values_that_are_not_strings_are_refused_on_writing():
    chunk = np.empty(1, object)
    chunk[0] = ["not even hashable"]
    with pytest.raises(ChunkError, match=r"'numcodecs.categorize'"):
        line("numcodecs.categorize", {"labels": ["a"]}, object, (1,)).encode(chunk)


@pytest.mark.parametrize(
    ("name", "configuration", "dtype"),
    [
        ("delta", {"dtype": "<f4"}, "<c8"),
        ("delta", {"dtype": "<i2"}, "<i4"),
        ("delta", {"dtype": "<i4", "astype": "<i2"}, "<M8[s]"),
        ("fixedscaleoffset", {"dtype": "<f4", "astype": "<i2", "offset": 0, "scale": 10}, "<c8"),
        ("quantize", {"dtype": "<f4", "digits": 2}, "<c8"),
        ("astype", {"encode_dtype": "<f8", "decode_dtype": "<f4"}, "<c8"),
        ("delta", {"dtype": "<i8"}, "<i4"),
    ],
    ids=str,
)
def test_a_filter_reads_the_chunk_as_elements_of_its_own_type(name, configuration, dtype):
    """The type may have another width than the array's; numcodecs does the same."""
    chunk = numbers((4, 6), dtype)
    line = pipeline((f"numcodecs.{name}", configuration), "bytes", dtype=dtype)
    theirs = numcodecs.get_codec({"id": name, **configuration})
    assert bytes(line.encode(chunk)) == theirs.encode(chunk).tobytes()
    decoded = theirs.decode(theirs.encode(chunk)).view(dtype).reshape(4, 6)
    assert same(line.decode(line.encode(chunk)), decoded)


def test_a_filter_type_of_a_width_that_does_not_divide_the_chunk_is_refused():
    with pytest.raises(MetadataError, match=r"numcodecs\.delta"):
        pipeline(("numcodecs.delta", {"dtype": "<i8"}), "bytes", shape=(3,), dtype="<i4")
