"""zarr-python and we read each other's documents, with the same result."""

import json
import warnings

import numpy as np
import pytest

from zarr_s3_async._model import formats

from .documents import URL, new_array

zarr = pytest.importorskip("zarr")
buffers = pytest.importorskip("zarr.core.buffer")
VERSION = tuple(int(part) for part in zarr.__version__.split(".")[:2])

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

DTYPES = [
    *(
        "?",
        "i1",
        "u1",
        "<i2",
        ">i2",
        "<i4",
        ">i4",
        "<i8",
        ">u8",
        "<u8",
        "<f2",
        ">f2",
        "<f4",
        ">f4",
        "<f8",
        ">f8",
    ),
    *(
        "<c8",
        ">c8",
        "<c16",
        "M8[ns]",
        ">M8[s]",
        "M8[10us]",
        "m8[D]",
        ">m8[ms]",
        "S1",
        "S5",
        "U1",
        "<U3",
        ">U3",
        "V1",
        "V6",
    ),
]
RECORDS = [
    [("a", "<i4"), ("b", ">f8")],
    [("a", "<i4"), ("b", [("x", "u1"), ("y", "S3")]), ("t", "M8[s]"), ("u", "U2")],
]
FILLS = {
    "?": [True],
    "i1": [-128],
    ">i2": [300],
    "<u8": [2**64 - 1, 2**53 + 1],
    "<f2": ["NaN", 65504.0],
    "<f4": [float("nan"), 0.1, float("-inf"), -0.0],
    ">f8": ["Infinity", 1e-300],
    "<c8": [complex(float("nan"), 1)],
    "M8[ns]": [np.datetime64("2020-01-01", "ns"), "NaT"],
    ">m8[ms]": [np.timedelta64(5, "ms")],
    "S5": [b"ab", b"abcde"],
    "<U3": ["aé", "😀"],
    "V6": [b"\0\1\2\3\4\xff"],
    "str": ["", "é"],
}


def their_documents(store):
    found = {key.rpartition("/")[2]: key for key in store}
    return {name: store[key].to_bytes() for name, key in found.items() if name.startswith((".z", "zarr.json"))}


def theirs(zarr_format, **options):
    store = {}
    zarr.create_array(store=store, zarr_format=zarr_format, **options)
    return their_documents(store)


def they_open(meta):
    make = buffers.default_buffer_prototype().buffer.from_bytes
    return zarr.open_array({name: make(raw) for name, raw in formats.dump(meta).items()}, mode="r")


def deciding(docs):
    return json.loads(docs.get("zarr.json") or docs[".zarray"])


def cases():
    for dtype in DTYPES:
        yield dtype, ...
    for dtype, fills in FILLS.items():
        for fill in fills:
            yield dtype, fill
    for dtype in RECORDS:
        yield np.dtype(dtype), ...
    yield "str", ...


def is_time(dtype):
    return np.dtype("O" if dtype == "str" else dtype).kind in "mM"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill"), list(cases()), ids=str)
def test_the_same_options_give_the_same_document(dtype, fill, zarr_format):
    """The parsed documents are equal: data type, fill value, codecs, keys, order of chunks."""
    if zarr_format == 3 and VERSION < (3, 2) and isinstance(dtype, np.dtype):
        pytest.skip("this zarr-python writes the legacy form of records")
    if VERSION < (3, 2) and isinstance(dtype, np.dtype):
        fill = np.zeros((), dtype=dtype)[()]  # zarr-python's default is not zero in nested structured types
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": dtype}
    given = {} if fill is ... else {"fill_value": fill}
    # The only different default: zarr-python's fill value of times is NaT.
    ours = given or ({"fill_value": "NaT"} if is_time(dtype) else {})
    meta = new_array(**options, **ours, zarr_format=zarr_format)
    their = theirs(zarr_format, **options, **given)
    assert deciding(formats.dump(meta)) == deciding(their)
    parsed = formats.parse_node(their, url=URL)
    for name in ("shape", "chunks", "shards", "dtype", "codecs", "keys", "order"):
        assert getattr(parsed, name) == getattr(meta, name), name
    np.testing.assert_array_equal(np.asarray(parsed.fill_value), np.asarray(meta.fill_value))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill"), list(cases()), ids=str)
def test_zarr_python_opens_what_we_create(dtype, fill, zarr_format):
    if VERSION < (3, 2) and isinstance(dtype, np.dtype) and (zarr_format == 3 or len(dtype) > 2):
        pytest.skip("this zarr-python knows neither 'struct' nor the nested records that it writes")
    given = {} if fill is ... else {"fill_value": fill}
    meta = new_array(shape=(10, 4), chunks=(5, 2), dtype=dtype, zarr_format=zarr_format, **given)
    array = they_open(meta)
    assert (array.shape, array.chunks) == (meta.shape, meta.chunks)
    if dtype == "str":
        assert array.fill_value == meta.fill_value
        return
    assert array.dtype == meta.dtype
    np.testing.assert_array_equal(np.asarray(array.fill_value, meta.dtype), np.asarray(meta.fill_value, meta.dtype))


V2_COMPRESSORS = [
    *(None, "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "blosc"),
    {"id": "zstd", "level": 5, "checksum": True},
    {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 0},
]


@pytest.mark.parametrize("compressor", V2_COMPRESSORS, ids=str)
def test_both_libraries_write_the_same_v2_compressors(compressor):
    numcodecs = pytest.importorskip("numcodecs")
    config = {"id": compressor} if isinstance(compressor, str) else compressor
    codec = None if config is None else numcodecs.registry.get_codec(dict(config))
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": "f4"}
    meta = new_array(**options, compressor=compressor, zarr_format=2)
    assert deciding(formats.dump(meta)) == deciding(theirs(2, **options, compressors=codec))
    by_object = new_array(**options, compressor=codec, zarr_format=2)
    assert formats.dump(by_object) == formats.dump(meta)


@pytest.mark.parametrize("name", ["zstd", "gzip", "blosc"])
def test_both_libraries_write_the_same_v3_compressors(name):
    codecs = pytest.importorskip("zarr.codecs")
    codec = {"zstd": codecs.ZstdCodec, "gzip": codecs.GzipCodec, "blosc": codecs.BloscCodec}[name]()
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": "f4"}
    meta = new_array(**options, compressor=name)
    assert deciding(formats.dump(meta)) == deciding(theirs(3, **options, compressors=codec))


def test_codec_objects_of_zarr_python_are_accepted():
    codecs = pytest.importorskip("zarr.codecs")
    chain = [
        codecs.TransposeCodec(order=(1, 0)),
        codecs.BytesCodec(endian="big"),
        codecs.GzipCodec(level=2),
        codecs.Crc32cCodec(),
    ]
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": "f4"}
    meta = new_array(**options, codecs=chain)
    their = theirs(3, **options, filters=chain[:1], serializer=chain[1], compressors=chain[2:])
    assert deciding(formats.dump(meta)) == deciding(their)
    assert meta.order == "F"


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (), "chunks": ()},
        {"shape": (0, 3), "chunks": (1, 3)},
        {"shape": (10, 4), "chunks": (5, 2), "shards": (10, 4)},
        {"shape": (10, 4), "chunks": (5, 2), "dimension_names": ("x", None)},
        {"shape": (10, 4), "chunks": (5, 2), "attributes": {"a": [1, {"b": None}]}},
        {"shape": (10, 4), "chunks": (5, 2), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        {"shape": (10, 4), "chunks": (5, 2), "chunk_key_encoding": {"name": "default", "separator": "."}},
    ],
    ids=str,
)
def test_both_libraries_write_the_same_for_other_v3_options(options):
    meta = new_array(**options, dtype="f4")
    their = theirs(3, **options, dtype="f4")
    assert deciding(formats.dump(meta)) == deciding(their)
    parsed = formats.parse_node(their, url=URL)
    assert (parsed.shards, parsed.chunks) == (meta.shards, meta.chunks)
    assert (
        they_open(meta).metadata.to_dict()
        == zarr.open_array({"zarr.json": _buffer(their["zarr.json"])}).metadata.to_dict()
    )


def _buffer(raw):
    return buffers.default_buffer_prototype().buffer.from_bytes(raw)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_both_libraries_write_the_same_order_and_separator_in_v2(order, separator):
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": ">i4", "attributes": {"a": float("nan")}}
    meta = new_array(**options, order=order, dimension_separator=separator, zarr_format=2)
    encoding = {"name": "v2", "separator": separator}
    assert deciding(formats.dump(meta)) == deciding(theirs(2, **options, order=order, chunk_key_encoding=encoding))
    assert np.isnan(formats.parse_node(theirs(2, **options), url=URL).attributes["a"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_groups_of_zarr_python_are_read(zarr_format):
    store = {}
    root = zarr.create_group(store, zarr_format=zarr_format, attributes={"own": 1})
    inner = root.create_group("g", attributes={"x": float("nan")})
    inner.create_array("b", shape=4, dtype="i4")
    root.create_array("a", shape=4, dtype="f4", fill_value=float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)
    names = [".zgroup", ".zattrs", ".zmetadata"] if zarr_format == 2 else ["zarr.json"]
    group = formats.parse_node({name: store[name].to_bytes() for name in names}, url=URL)
    below = {path: formats.parse_node(files, url=URL) for path, files in group.consolidated.items()}
    assert sorted(below) == ["a", "g", "g/b"]
    assert below["g/b"].shape == (4,)
    assert np.isnan(below["g"].attributes["x"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_python_reads_the_consolidated_metadata_that_we_write(zarr_format):
    nodes = {
        "g": formats.new_group({"x": 1}, zarr_format=zarr_format),
        "g/b": new_array(shape=4, dtype="i4", zarr_format=zarr_format, attributes={"y": 2}),
        "a": new_array(shape=4, dtype="f4", zarr_format=zarr_format),
        "empty": formats.new_group(zarr_format=zarr_format),
    }
    group = formats.with_consolidated(formats.new_group({"own": 1}, zarr_format=zarr_format), nodes)
    docs = formats.dump(group) | formats.dump_consolidated(group)
    opened = zarr.open_group({name: _buffer(raw) for name, raw in docs.items()}, mode="r", use_consolidated=True)
    assert dict(opened.attrs) == {"own": 1}
    assert sorted(name for name, _ in opened.members(max_depth=None)) == ["a", "empty", "g", "g/b"]
    assert opened["g/b"].shape == (4,)
    assert dict(opened["g/b"].attrs) == {"y": 2}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_python_reads_our_edits_of_its_documents(zarr_format):
    their = theirs(zarr_format, shape=(10, 4), chunks=(5, 2), dtype="f4", attributes={"a": 1}, fill_value="NaN")
    meta = formats.with_shape(formats.with_attributes(formats.parse_node(their, url=URL), {"b": 2}), (20, 4))
    array = they_open(meta)
    assert array.shape == (20, 4)
    assert dict(array.attrs) == {"b": 2}
    assert np.isnan(array.fill_value)
