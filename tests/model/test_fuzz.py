"""Mutated documents of every kind are read as a node or refused with one of our errors."""

import contextlib
import copy
import json
import random

import pytest

from zarr_s3_async._model import formats
from zarr_s3_async._model.metadata import ArrayMeta
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .documents import URL, group_json, sharding, stored, zarr_json, zarray

MUTATIONS = 2000

STRUCT = {"name": "struct", "configuration": {"fields": [{"name": "a", "data_type": "int16"}, ["b", "r16"]]}}
TIME = {"name": "numpy.datetime64", "configuration": {"unit": "us", "scale_factor": 10}}
TURN = {"name": "transpose", "configuration": {"order": [1, 0]}}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}

CORPUS = [
    {".zarray": zarray(), ".zattrs": {"a": 1, "_ARRAY_DIMENSIONS": ["x", "y"]}},
    {".zarray": zarray(dtype=[["a", "<i4"], ["b", [["c", "|S3", [2]]]]], fill_value=None, order="F")},
    {".zarray": zarray(dtype="|O", fill_value="", filters=[{"id": "vlen-utf8"}], compressor=None)},
    {".zarray": zarray(dtype="<M8[ns]", fill_value=-1, filters=[{"id": "delta", "dtype": "<i8"}, {"id": "shuffle"}])},
    {".zarray": zarray(dtype="<c16", fill_value=["NaN", 1.0], dimension_separator="/")},
    {".zarray": zarray(dtype="|S5", fill_value="YWI=", shape=[], chunks=[])},
    {".zgroup": {"zarr_format": 2}, ".zattrs": {}},
    {
        ".zmetadata": {
            "zarr_consolidated_format": 1,
            "metadata": {
                ".zgroup": {"zarr_format": 2},
                "a/.zarray": zarray(),
                "a/.zattrs": {},
                "b/.zgroup": {},
            },
        }
    },
    {"zarr.json": zarr_json(dimension_names=["x", None], attributes={"a": [1]}, storage_transformers=[])},
    {"zarr.json": zarr_json(codecs=[sharding([5, 1], [TURN, LITTLE, "zstd"], index_location="start")])},
    {"zarr.json": zarr_json(codecs=[sharding([5, 2], [sharding([1, 1])])], fill_value="0x7fc00000")},
    {"zarr.json": zarr_json(data_type=STRUCT, fill_value={"a": 1, "b": [0, 255]})},
    {"zarr.json": zarr_json(data_type=TIME, fill_value="NaT", extension={"must_understand": False})},
    {"zarr.json": zarr_json(data_type="string", fill_value="x", codecs=["vlen-utf8"])},
    {"zarr.json": zarr_json(data_type="bfloat16", fill_value="NaN")},
    {"zarr.json": zarr_json(data_type="r24", fill_value=[0, 1, 2], codecs=["bytes"])},
    {
        "zarr.json": zarr_json(
            chunk_grid={"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [5, 2]}}
        )
    },
    {
        "zarr.json": group_json(
            consolidated_metadata={"kind": "inline", "metadata": {"a": zarr_json(), "b": group_json()}}
        )
    },
]

VALUES = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        0.5,
        1.0,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        2**31,
        2**63,
        2**64,
        -(2**63),
    ),
    *(
        10**30,
        10**400,
        "",
        "0",
        "NaN",
        "NaT",
        "Infinity",
        "0x7fc00000",
        "0x",
        "é",
        "😀",
        "\ud800",
        "\0",
        "a" * 300,
        "..",
        "/",
    ),
    *(
        "<f4",
        ">i2",
        "|O",
        "|S3",
        "<U0",
        "|V99999999999",
        "<M8[ns]",
        "<M8[0s]",
        "|b1",
        "<f16",
        "int4",
        "float8_e5m2",
        "r7",
    ),
    *(
        "string",
        "bytes",
        "struct",
        "default",
        "v2",
        "regular",
        "C",
        "F",
        ".",
        "array",
        "group",
        "inline",
        "big",
        "pickle",
    ),
    *("vlen-utf8", "categorize", "sharding_indexed", "YWI=", "AAAA"),
    *(
        [],
        [[]],
        [0],
        [1, 1],
        [0, 0],
        [-1, 2],
        [2**62, 2**62],
        ["a"],
        [None],
        [1] * 40,
        [["a", "<i4"], ["a", "<i4"]],
    ),
    *(
        {},
        {"a": 1},
        {"name": "x"},
        {"id": "pickle"},
        {"must_understand": False},
        {"name": "bytes", "configuration": {}},
    ),
    [["x", "|u1", [2**40]]],
    {"name": "raw_bytes", "configuration": {"length_bytes": 10**12}},
]
NAMES = [
    "zarr_format",
    "shape",
    "fill_value",
    "extension",
    "must_understand",
    "configuration",
    "id",
    "",
    "é",
    "../up",
]


def places(value, path=()):
    """The paths of all values in a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def mutate(rng, docs):
    """The documents with one to three changes of their structure."""
    docs = copy.deepcopy(docs)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        path = rng.choice(list(places(docs))[1:])
        holder = docs
        for key in path[:-1]:
            holder = holder[key]
        last = path[-1]
        match rng.randrange(6):
            case 0 if len(path) > 1:
                del holder[last]
            case 1 if isinstance(holder, dict) and len(path) > 1:
                holder[rng.choice(NAMES)] = holder.pop(last)
            case 2 if isinstance(holder, dict) and len(path) > 1:
                holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice(VALUES))
            case 3 if isinstance(holder, list):
                holder.insert(last, copy.deepcopy(rng.choice(VALUES)))
            case 4:
                source = rng.choice(list(places(docs))[1:])
                value = docs
                for key in source:
                    value = value[key]
                holder[last] = copy.deepcopy(value)
            case _:
                holder[last] = copy.deepcopy(rng.choice(VALUES))
    return docs


def mutate_bytes(rng, raw):
    """The bytes with a few of them changed, removed, repeated or inserted."""
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(5):
            case 0:
                del raw[at : at + rng.randrange(1, 20)]
            case 1:
                raw[at:at] = raw[at : at + rng.randrange(1, 40)]
            case 2:
                raw[at:at] = rng.choice(
                    [b'"', b"{", b"[", b"}", b"]", b",", b":", b"\\", b"\xff", b"\0", b"NaN", b"1e9"]
                )
            case 3:
                raw[at : at + 1] = rng.randbytes(1)
            case 4:
                raw[at : at + 1] = rng.choice(b'0123456789-+.eE"[]{},:ntf').to_bytes(1, "big")
    return bytes(raw)


def survives(docs):
    """Parse the documents. If that succeeds, dumping, parsing again and edits must succeed, too."""
    try:
        meta = formats.parse_node(docs, url=URL)
    except (MetadataError, UnsupportedFeature) as error:
        return refused(error)
    if meta is None:
        return "nothing"
    follow(meta)
    return "read"


def refused(error):
    """Check that the error names the location, in a message of bounded length."""
    assert URL in str(error)
    assert error.url == URL
    assert len(str(error)) < 1000
    return "refused"


def follow(meta):
    again = formats.parse_node(formats.dump(meta), url=URL)
    assert formats.dump(again) == formats.dump(meta)
    with contextlib.suppress(ConfigError):
        formats.with_attributes(meta, {**meta.attributes, "new": 1})
    if isinstance(meta, ArrayMeta):
        assert formats.with_shape(meta, [0] * meta.ndim).size in (0, 1)
        assert len(meta.chunks) == len(meta.grid_shape) == meta.ndim
        assert meta.object_nbytes >= 0
        assert meta.keys.decode(meta.object_key((0,) * meta.ndim), meta.ndim) == (0,) * meta.ndim
        return
    for files in (meta.consolidated or {}).values():
        survives(files)


@pytest.mark.parametrize("docs", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_is_read(docs):
    if "bfloat16" in json.dumps(docs):
        pytest.importorskip("ml_dtypes")
    assert survives({name: stored(document) for name, document in docs.items()}) == "read"


@pytest.mark.parametrize("seed", range(4))
def test_documents_with_mutated_structure_are_read_or_refused(seed):
    rng = random.Random(seed)
    outcomes = {"read": 0, "refused": 0, "nothing": 0}
    for _ in range(MUTATIONS // 4):
        docs = mutate(rng, rng.choice(CORPUS))
        outcomes[survives({name: stored(document) for name, document in docs.items()})] += 1
    assert min(outcomes["read"], outcomes["refused"]) > MUTATIONS // 40, outcomes


@pytest.mark.parametrize("seed", range(4))
def test_documents_with_mutated_bytes_are_read_or_refused(seed):
    rng = random.Random(seed)
    for _ in range(MUTATIONS // 4):
        survives({name: mutate_bytes(rng, stored(document)) for name, document in rng.choice(CORPUS).items()})
