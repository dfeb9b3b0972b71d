"""Chunks are the same as those of zarr-python, and shards as those of tensorstore."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import ChunkSpec, ShardFormat, build_pipeline

from .chains import numbers, same

zarr = pytest.importorskip("zarr", minversion="3.1")
numcodecs = pytest.importorskip("numcodecs")

SHAPE = (6, 10)


@pytest.fixture(autouse=True)
def _quiet():
    """Ignore zarr-python's warnings that some of its codecs and dtypes are in no specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Stored:
    """An array of one chunk in memory, written by zarr-python."""

    def __init__(self, chunk, **options):
        self.store = zarr.storage.MemoryStore()
        self.array = zarr.create_array(
            self.store, shape=chunk.shape, chunks=options.pop("chunks", chunk.shape), **options
        )
        self.array[...] = chunk

    def document(self):
        name = "zarr.json" if self.array.metadata.zarr_format == 3 else ".zarray"
        return json.loads(self.store._store_dict[name].to_bytes())

    def key(self):
        return ("c/" + "/".join("0" * self.array.ndim)) if self.array.metadata.zarr_format == 3 else "0.0"

    def bytes(self):
        return self.store._store_dict[self.key()].to_bytes()

    def read(self, data):
        """Let zarr-python decode these bytes."""
        buffer = self.store._store_dict[self.key()]
        self.store._store_dict[self.key()] = type(buffer).from_bytes(bytes(data))
        return self.array[...]


def v3_pipeline(document, chunk, fill):
    specs = [CodecSpec(codec["name"], codec.get("configuration", {})) for codec in document["codecs"]]
    return build_pipeline(specs, ChunkSpec(chunk.shape, chunk.dtype, fill))


def v2_pipeline(document, chunk, fill):
    neutral = [CodecSpec("transpose", {"order": [1, 0]})] if document["order"] == "F" else []
    for config in [*(document["filters"] or []), "bytes", document["compressor"]]:
        if config == "bytes":
            if not any(spec.name.startswith("vlen") for spec in neutral):
                order = {"<": {"endian": "little"}, ">": {"endian": "big"}}.get(chunk.dtype.str[0], {})
                neutral.append(CodecSpec("bytes", {} if document["filters"] else order))
        elif config is not None:
            rest = dict(config)
            name = rest.pop("id")
            neutral.append(CodecSpec(name if name.startswith("vlen") else f"numcodecs.{name}", rest))
    return build_pipeline(neutral, ChunkSpec(chunk.shape, chunk.dtype, fill))


def check(stored, line, chunk, *, exact=True):
    theirs = stored.bytes()
    assert same(np.ascontiguousarray(line.decode(theirs)), chunk)
    ours = bytes(line.encode(chunk))
    if exact:
        assert ours == theirs
    assert np.array_equal(stored.read(ours), chunk)


V2_DTYPES = ["|b1", "|i1", "<u2", ">i4", "<f2", ">f8", "<c8", "|S5", "<U3", ">U3", "<M8[ns]", ">m8[s]"]
V2_COMPRESSORS = [
    None,
    {"id": "zlib", "level": 3},
    {"id": "bz2", "level": 2},
    {"id": "lzma", "preset": 1},
    {"id": "lz4", "acceleration": 2},
    {"id": "zstd", "level": 4},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": -1},
    {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2},
    {"id": "gzip", "level": 4},
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", V2_DTYPES)
@pytest.mark.parametrize("compressor", V2_COMPRESSORS, ids=lambda c: c and "-".join(map(str, c.values())))
def test_v2_chunks_are_the_same_bytes(compressor, dtype, order):
    chunk = numbers(SHAPE, dtype)
    codec = numcodecs.get_codec(compressor) if compressor else None
    stored = Stored(chunk, dtype=dtype, zarr_format=2, compressors=codec, filters=None, order=order)
    line = v2_pipeline(stored.document(), chunk, stored.array.fill_value)
    check(stored, line, chunk, exact=not compressor or compressor["id"] != "gzip")


def test_v2_structured_chunks_are_the_same_bytes():
    dtype = np.dtype([("a", ">i4"), ("b", "<f8"), ("c", "S3")])
    chunk = numbers(SHAPE, dtype)
    blosc = numcodecs.Blosc(shuffle=-1)
    stored = Stored(chunk, dtype=dtype, zarr_format=2, compressors=blosc, filters=None)
    check(stored, v2_pipeline(stored.document(), chunk, None), chunk)


@pytest.mark.parametrize(
    ("filters", "dtype"),
    [
        ([numcodecs.Delta("<i4", "<i2")], "<i4"),
        ([numcodecs.Delta(">i4")], ">i4"),
        ([numcodecs.FixedScaleOffset(0, 1, "<f8", ">i4"), numcodecs.Delta(">i4")], "<f8"),
        ([numcodecs.Quantize(1, "<f8", "<f4")], "<f8"),
        ([numcodecs.BitRound(12)], "<f4"),
        ([numcodecs.AsType("<f4", "<f8")], "<f8"),
        ([numcodecs.PackBits()], "|b1"),
        ([numcodecs.Shuffle(4)], "<f4"),
        ([numcodecs.Fletcher32()], "<f4"),
        ([numcodecs.Delta("<i4"), numcodecs.Shuffle(4), numcodecs.CRC32()], "<i4"),
        ([numcodecs.Zlib(1)], "<f4"),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_v2_filters_are_the_same_bytes(filters, dtype, order):
    if order == "F" and isinstance(filters[0], numcodecs.BitRound):
        pytest.skip("zarr-python does not read back what it writes here: the filter gives C order")
    chunk = numbers(SHAPE, dtype)
    if np.dtype(dtype).kind == "b":
        chunk = numbers(SHAPE, "u1") > 50
    stored = Stored(
        chunk, dtype=dtype, zarr_format=2, filters=filters, compressors=numcodecs.Blosc(shuffle=-1), order=order
    )
    check(stored, v2_pipeline(stored.document(), chunk, stored.array.fill_value), chunk)


@pytest.mark.parametrize("order", ["C", "F"])
def test_v2_strings_are_the_same_bytes(order):
    chunk = np.array([["a", "bø", ""], ["日本", "e" * 50, "f"]], object)
    stored = Stored(chunk, dtype=str, zarr_format=2, compressors=numcodecs.Zstd(), order=order)
    line = v2_pipeline(stored.document(), chunk, "")
    assert line.decode(stored.bytes()).tolist() == chunk.tolist()
    assert line.encode(chunk) == stored.bytes()


V3_DTYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64", "<M8[s]", "<U4"]


def v3_codecs():
    codecs = zarr.codecs
    return [
        [],
        [codecs.GzipCodec(level=3)],
        [codecs.ZstdCodec(level=2, checksum=True)],
        [codecs.BloscCodec(cname="lz4", clevel=4)],
        [codecs.BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=2)],
        [codecs.Crc32cCodec()],
        [codecs.ZstdCodec(), codecs.Crc32cCodec()],
    ]


@pytest.mark.parametrize("dtype", V3_DTYPES)
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("turned", [False, True])
def test_v3_chunks_are_the_same_bytes(number, dtype, endian, turned):
    chunk = numbers(SHAPE, dtype)
    stored = Stored(
        chunk,
        dtype=dtype,
        zarr_format=3,
        filters=[zarr.codecs.TransposeCodec(order=(1, 0))] if turned else [],
        serializer=zarr.codecs.BytesCodec(endian=endian),
        compressors=v3_codecs()[number],
    )
    line = v3_pipeline(stored.document(), chunk, stored.array.fill_value)
    check(stored, line, chunk, exact=number != 1)


def numcodecs_of_zarr():
    module = pytest.importorskip("zarr.codecs.numcodecs")
    filters = [
        (module.Delta(dtype="<i4"), "int32"),
        (module.FixedScaleOffset(offset=3, scale=2, dtype="<f8", astype="<i2"), "float64"),
        (module.Quantize(digits=1, dtype="<f4"), "float32"),
        (module.BitRound(keepbits=11), "float32"),
        (module.AsType(encode_dtype="<f4", decode_dtype="<f8"), "float64"),
    ]
    compressors = [
        module.Zlib(level=2), module.BZ2(level=1), module.LZMA(preset=0), module.LZ4(acceleration=1),
        module.Zstd(level=1), module.Blosc(cname="lz4", clevel=5, shuffle=1), module.Shuffle(elementsize=4),
        module.CRC32(), module.Adler32(), module.Fletcher32(), module.JenkinsLookup3(),
    ]  # fmt: skip
    return filters, compressors


@pytest.mark.parametrize("endian", ["little", "big"])
def test_v3_filters_of_numcodecs_are_the_same_bytes(endian):
    serializer = zarr.codecs.BytesCodec(endian=endian)
    for codec, dtype in numcodecs_of_zarr()[0]:
        chunk = numbers(SHAPE, dtype)
        stored = Stored(chunk, dtype=dtype, zarr_format=3, filters=[codec], compressors=[], serializer=serializer)
        if endian == "big" and not np.array_equal(stored.array[...], chunk):
            pytest.skip("this zarr-python does not read back what it writes here")
        check(stored, v3_pipeline(stored.document(), chunk, 0), chunk)


def test_each_library_reads_the_others_v3_compressors_of_numcodecs():
    for codec in numcodecs_of_zarr()[1]:
        chunk = numbers(SHAPE, "float32")
        stored = Stored(chunk, dtype="float32", zarr_format=3, filters=[], compressors=[codec])
        # zarr-python hands blosc single bytes; we hand it elements, as v2 does.
        exact = codec.codec_name != "numcodecs.blosc"
        check(stored, v3_pipeline(stored.document(), chunk, 0), chunk, exact=exact)


def test_v3_strings_are_the_same_bytes():
    chunk = np.array([["a", "bø", ""], ["日本", "e" * 50, "f"]], object)
    stored = Stored(chunk, dtype=str, zarr_format=3)
    line = v3_pipeline(stored.document(), chunk, "")
    assert line.decode(stored.bytes()).tolist() == chunk.tolist()
    assert bytes(line.encode(chunk)) == stored.bytes()


def test_v3_byte_strings_are_the_same_bytes():
    if not hasattr(zarr, "dtype"):
        pytest.skip("this zarr-python has no public name for the type")
    chunk = np.array([b"a", b"", b"\x00\xff"], object)
    stored = Stored(chunk, dtype=zarr.dtype.VariableLengthBytes(), zarr_format=3)
    line = v3_pipeline(stored.document(), chunk, b"")
    assert line.decode(stored.store._store_dict["c/0"].to_bytes()).tolist() == chunk.tolist()
    assert bytes(line.encode(chunk)) == stored.store._store_dict["c/0"].to_bytes()


@pytest.mark.parametrize(
    ("dtype", "filters"),
    [
        ("int16", [{"name": "scale_offset", "configuration": {"offset": 7, "scale": 3}}]),
        ("float32", [{"name": "scale_offset", "configuration": {"offset": 5, "scale": 0.5}}]),
        ("float64", [{"name": "cast_value", "configuration": {"data_type": "int16", "rounding": "towards-zero"}}]),
        (
            "float64",
            [
                {"name": "scale_offset", "configuration": {"offset": -10, "scale": 2}},
                {
                    "name": "cast_value",
                    "configuration": {
                        "data_type": "uint8",
                        "out_of_range": "clamp",
                        "scalar_map": {"encode": [["NaN", 0]], "decode": [[0, "NaN"]]},
                    },
                },
            ],
        ),
    ],
)
def test_v3_value_codecs_are_the_same_bytes(dtype, filters):
    if not hasattr(zarr.codecs, "CastValue"):
        pytest.skip("zarr-python has no cast_value before 3.2")
    pytest.importorskip("cast_value_rs")
    chunk = numbers(SHAPE, dtype)
    # The fill value of the array must survive the codecs.
    stored = Stored(chunk, dtype=dtype, zarr_format=3, filters=filters, compressors=[], fill_value=10)
    check(stored, v3_pipeline(stored.document(), chunk, chunk.dtype.type(10)), chunk)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("checksum", [False, True])
def test_we_and_zarr_python_decode_each_others_shards(location, checksum):
    codecs = zarr.codecs
    chunk = numbers((8, 12), "int32")
    chunk[:4, :4] = 0
    index_codecs = [codecs.BytesCodec(), *([codecs.Crc32cCodec()] if checksum else [])]
    sharding = codecs.ShardingCodec(
        chunk_shape=(4, 4), codecs=[codecs.BytesCodec(), codecs.ZstdCodec()], index_codecs=index_codecs,
        index_location=location,
    )  # fmt: skip
    stored = Stored(chunk, dtype="int32", zarr_format=3, filters=[], serializer=sharding, compressors=[])
    document = stored.document()
    check(stored, v3_pipeline(document, chunk, np.int32(0)), chunk, exact=False)
    (codec,) = document["codecs"]
    shard = ShardFormat.from_spec(CodecSpec(**codec), ChunkSpec((8, 12), chunk.dtype, 0))
    parts = {
        slot: shard.inner.encode(np.ascontiguousarray(chunk[region])) for slot, region in shard.regions() if slot != 0
    }
    assert np.array_equal(stored.read(b"".join(shard.layout.assemble(parts))), chunk)


@pytest.mark.parametrize("location", ["start", "end"])
def test_we_and_tensorstore_decode_each_others_shards(location, tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [4, 4],
            "codecs": [
                {"name": "transpose", "configuration": {"order": [1, 0]}},
                little,
                {"name": "zstd", "configuration": {"level": 1}},
            ],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": location,
        },
    }
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path) + "/"},
        "metadata": {
            "shape": [8, 12], "data_type": "int32", "fill_value": 0, "codecs": [sharding],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 12]}},
        },
    }  # fmt: skip
    chunk = numbers((8, 12), "<i4")
    array = tensorstore.open(spec, create=True).result()
    array[...] = chunk
    path = tmp_path / "c" / "0" / "0"
    line = build_pipeline([CodecSpec(**sharding)], ChunkSpec((8, 12), np.dtype("<i4"), np.int32(0)))
    assert same(line.decode(path.read_bytes()), chunk)
    path.write_bytes(bytes(line.encode(chunk + 1)))
    assert np.array_equal(tensorstore.open(spec).result().read().result(), chunk + 1)


ZARRS = [
    ("bool", [{"name": "packbits"}]),
    ("bool", [{"name": "packbits", "configuration": {"padding_encoding": "first_byte"}}]),
    ("bool", [{"name": "packbits", "configuration": {"padding_encoding": "last_byte"}}, "zstd"]),
    ("uint16", [{"name": "packbits", "configuration": {"first_bit": 2, "last_bit": 10}}]),
    ("int32", [{"name": "packbits"}]),
    ("float32", [{"name": "bitround", "configuration": {"keepbits": 5}}]),
    ("int16", [{"name": "reshape", "configuration": {"shape": [[0], 1]}}]),
    ("int16", ["zarrs.squeeze"]),
]


@pytest.mark.parametrize(("dtype", "codecs"), ZARRS, ids=str)
async def test_codecs_of_zarr_extensions_agree_with_zarrs(dtype, codecs, tmp_path):
    """zarrs reads what we store, and what it stores has the same bytes."""
    zarrista = pytest.importorskip("zarrista")
    stores = pytest.importorskip("zarrista.store")
    numbers = np.arange(11) * 4
    values = (numbers % 3 == 0) if dtype == "bool" else numbers.astype(dtype)
    async with zs.Session() as session:
        array = await session.create_array(tmp_path / "a", shape=11, chunks=11, dtype=dtype, codecs=codecs)
        await array.set_slice(values, start=0)
        stored = (tmp_path / "a/c/0").read_bytes()
        theirs = zarrista.Array.open(stores.FilesystemStore(str(tmp_path / "a")))
        np.testing.assert_array_equal(np.asarray(theirs.retrieve_array_subset((slice(0, 11),))), await array[...])
        theirs.store_array_subset((slice(0, 11),), np.ascontiguousarray(values))
        assert (tmp_path / "a/c/0").read_bytes() == stored
