"""docs/interop.md lists every codec, data type, chunk grid and key encoding of the other libraries' registries.

`WRITE_DOCS=1 pytest tests/docs/test_interop_names.py` writes the tables again if all libraries are installed. A new
name in a registry makes this test fail until it can be read, or has a reason in REASONS.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zarr_s3_async._model import v3
from zarr_s3_async._model.dtype_names import read_v3
from zarr_s3_async.codecs import list_codecs

DOCUMENT = Path(__file__).parents[2] / "docs" / "interop.md"
HEADING = "## Codecs, data types, grids and key encodings of others, and what is read here\n"
KINDS = ("codec", "data type", "chunk grid", "chunk key encoding")
Names = dict[str, set[str]]

EXTENSIONS: Names = {
    "codec": {
        "bitround", "blosc", "bytes", "cast_value", "conditional", "crc32c", "gzip", "n5_default", "packbits",
        "reshape", "scale_offset", "sharding_indexed", "transpose", "vlen-bytes", "vlen-utf8", "zfp", "zstd",
    },
    "data type": {
        "bfloat16", "bool", "bytes", "complex128", "complex64", "complex_bfloat16", "complex_float16",
        "complex_float32", "complex_float4_e2m1fn", "complex_float64", "complex_float6_e2m3fn",
        "complex_float6_e3m2fn", "complex_float8_e3m4", "complex_float8_e4m3", "complex_float8_e4m3b11fnuz",
        "complex_float8_e4m3fnuz", "complex_float8_e5m2", "complex_float8_e5m2fnuz", "complex_float8_e8m0fnu",
        "fixed_length_utf32", "float16", "float32", "float4_e2m1fn", "float64", "float6_e2m3fn",
        "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2",
        "float8_e5m2fnuz", "float8_e8m0fnu", "int16", "int2", "int32", "int4", "int64", "int8",
        "numpy.datetime64", "numpy.timedelta64", "r*", "string", "struct", "structured", "uint16", "uint2",
        "uint32", "uint4", "uint64", "uint8",
    },
    "chunk grid": {
        "rectilinear", "regular",
    },
    "chunk key encoding": {
        "default", "v2",
    },
}  # fmt: skip
"""Folders of zarr-developers/zarr-extensions at 4da7b37 of 2026-07-14; `numcodecs.*` are numcodecs' own here."""

ZARRS = {
    "codec": {"zarrs.squeeze", "zarrs.vlen", "zarrs.vlen_v2", "zarrs.optional", "vlen-array"},
    "data type": {"zarrs.optional", "binary", "float8_e4m3fn", "null_terminated_bytes", "raw_bytes"},
    "chunk grid": {"zarrs.regular_bounded", "regular_bounded", "rectangular"},
    "chunk key encoding": {"zarrs.default_suffix"},
}
"""Additional names to test with zarrista, which has no list of its own."""

REASONS = {
    "complex_(bfloat16|float16|float8.*|float6.*|float4.*)": "NumPy and ml_dtypes have no such type",
    "zarrs.optional": "experimental, and registered nowhere; NumPy has no arrays with missing values",
    "zarrs.vlen.*": "experimental; zarrs writes `vlen-utf8` and `vlen-bytes` unless told",
    "numcodecs.pickle": "it would run code from the data",
    "conditional|n5_default": "no library of these reads it; `register_codec` adds what you need",
    "zfp": "no library of these reads it; `numcodecs.zfpy`, which they write, is read",
    "endian": "the name of `bytes` in drafts of the specification",
    "rectangular": "a draft of `rectilinear`, which zarrs reads and writes instead",
    "zarrs.default_suffix": "experimental, and registered nowhere",
}
"""Reasons by a pattern of the whole name. They are written by hand; everything else in the tables is computed."""

CONFIGURED: dict[str, Any] = {
    "fixed_length_utf32": {"length_bytes": 8},
    "null_terminated_bytes": {"length_bytes": 3},
    "raw_bytes": {"length_bytes": 3},
    "numpy.datetime64": {"unit": "s", "scale_factor": 1},
    "numpy.timedelta64": {"unit": "s", "scale_factor": 1},
    "struct": {"fields": [{"name": "a", "data_type": "int8"}]},
    "structured": {"fields": [["a", "int8"]]},
    "zarrs.optional": {"name": "int8", "configuration": {}},
    "regular": {"chunk_shape": [2]},
    "rectangular": {"chunk_shape": [2]},
    "regular_bounded": {"chunk_shape": [2]},
    "zarrs.regular_bounded": {"chunk_shape": [2]},
    "rectilinear": {"kind": "inline", "chunk_shapes": [[2, 2]]},
    "zarrs.default_suffix": {"suffix": ".x"},
}


def configured(name: str) -> Any:
    return {"name": name, "configuration": CONFIGURED[name]} if name in CONFIGURED else {"name": name}


def document(**members: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4],
        "data_type": "float32",
        "chunk_grid": configured("regular"),
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        **members,
    }


def zarr_python() -> Names:
    """The names in its own registries, without those that other packages register."""
    import zarr.codecs  # noqa: F401  # registers them
    import zarr.core.metadata.v3 as v3
    from zarr import registry
    from zarr.core.dtype import data_type_registry

    def registered(table: str) -> Any:
        return next(value for name, value in vars(registry).items() if name.strip("_") == table)

    grids = {match[1].lower() for name in vars(v3) if (match := re.fullmatch(r"(\w+)ChunkGridMetadata", name))}
    return {
        "codec": {
            name
            for name, classes in registered("codec_registries").items()
            if any(cls.__module__.startswith("zarr.") for cls in classes.values())
        },
        "data type": set(data_type_registry.contents),
        "chunk grid": grids,
        "chunk key encoding": set(registered("chunk_key_encoding_registry")),
    }


def numcodecs() -> Names:
    """The names in v3 of the filters and compressors of v2."""
    from numcodecs.registry import codec_registry

    own = {"json2", "msgpack2", "vlen-array", "vlen-bytes", "vlen-utf8"}
    return {"codec": {name if name in own else f"numcodecs.{name}" for name in codec_registry}}


def zarrista() -> Names:
    """The names that it supports, found by trying each."""
    import zarrista as library
    from zarrista.store import MemoryStore

    def refusal(**members: Any) -> str:
        try:
            library.Array.from_metadata(document(**members), MemoryStore(), "/a")
        except Exception as error:  # a document with only a name may be wrong for other reasons, too
            return str(error)
        return ""

    def has(kind: str, name: str) -> bool:
        asked = configured(f"{name[:-1]}16" if name == "r*" else name)
        member = {"codec": "codecs", "data type": "data_type"}.get(kind, kind.replace(" ", "_"))
        found = refusal(**{member: [asked] if kind == "codec" else asked})
        return not re.search(r"is not supported|unsupported data type", found)

    return {kind: {name for name in candidates(kind) if has(kind, name)} for kind in KINDS}


def tensorstore() -> Names:
    """The data types that it lists, and the codecs that it supports, found by trying each."""
    import tensorstore as library

    def refusal(**members: Any) -> str:
        spec = {"driver": "zarr3", "kvstore": "memory://", "metadata": document(**members), "create": True}
        try:
            library.open(spec).result()
        except ValueError as error:
            return str(error)
        return ""

    (listed,) = re.findall(r"supported data types: (.*?)(?:;|\[|\.|$)", refusal(data_type="none"))
    codecs = {name for name in candidates("codec") if "is not registered" not in refusal(codecs=[{"name": name}])}
    others = {
        kind: {
            name
            for name in candidates(kind)
            if "Expected" not in refusal(**{kind.replace(" ", "_"): configured(name)}).partition('"name"')[2]
        }
        for kind in KINDS[2:]
    }
    return {"codec": codecs, "data type": {name.replace("r<N>", "r*") for name in listed.split(", ")}, **others}


PEERS: dict[str, tuple[str, Callable[[], Names]]] = {
    "zarr-python": ("zarr", zarr_python),
    "numcodecs": ("numcodecs", numcodecs),
    "zarrista": ("zarrista", zarrista),
    "tensorstore": ("tensorstore", tensorstore),
}


def candidates(kind: str) -> set[str]:
    """Names to try with a library that has no list."""
    listed = [EXTENSIONS, ZARRS, {"codec": set(list_codecs())}]
    for peer in (zarr_python, numcodecs):
        try:
            listed.append(peer())
        except ImportError:
            continue
    return set().union(*(names.get(kind, set()) for names in listed))


def is_read_here(kind: str, name: str) -> bool:
    if kind == "codec":
        return name in list_codecs()
    try:
        if kind == "data type":
            read_v3(configured(name) if name in CONFIGURED else name.replace("r*", "r16"))
        else:
            v3._array(document(**{kind.replace(" ", "_"): configured(name)}))
    except Exception:  # the model's refusals
        return False
    return True


def answer(kind: str, name: str) -> str:
    """The text of the last column."""
    if is_read_here(kind, name):
        return "yes"
    reasons = [reason for pattern, reason in REASONS.items() if re.fullmatch(pattern, name)]
    assert len(reasons) == 1, f"the {kind} {name!r} is not read, and REASONS has {reasons} for it"
    return f"no: {reasons[0]}"


def installed() -> dict[str, str]:
    """The installed libraries with their versions."""
    found = {}
    for peer, (package, _) in PEERS.items():
        try:
            found[peer] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def tables(peers: dict[str, str]) -> str:
    """The text of the tables, one for each kind."""
    registries = {f"{peer} {version}": PEERS[peer][1]() for peer, version in peers.items()}
    registries["zarr-extensions"] = EXTENSIONS
    written = []
    for kind in KINDS:
        having = {title: names.get(kind) for title, names in registries.items() if kind in names}
        rows = [(kind, *having, "here")]
        ours = set(list_codecs()) if kind == "codec" else set()
        for name in sorted(ours.union(*having.values())):
            marks = ["yes" if name in names else "" for names in having.values()]
            rows.append((f"`{name}`", *marks, answer(kind, name)))
        rows.insert(1, ("---",) * len(rows[0]))
        written.append("\n".join(["| " + " | ".join(row) + " |" for row in rows]))
    return "\n\n".join(written)


def section() -> str:
    """The present section of the page."""
    return DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]


def test_the_tables_of_the_page_match_the_registries() -> None:
    peers = installed()
    if peers.keys() != PEERS.keys():
        pytest.skip(f"without {', '.join(PEERS.keys() - peers.keys())}")
    made = tables(peers)
    if os.environ.get("WRITE_DOCS"):
        text = DOCUMENT.read_text()
        introduction, first, _ = section().partition("| codec |")
        assert first
        DOCUMENT.write_text(text.replace(section(), introduction + made + "\n"))
    if not all(f"{peer} {version}" in section() for peer, version in peers.items()):
        pytest.skip("the tables in the docs were made with other versions")
    assert made in section()


@pytest.mark.parametrize("peer", PEERS)
def test_every_name_in_a_registry_has_a_row(peer: str) -> None:
    """This holds for any installed version, so a codec or type that is new there is detected here."""
    if peer not in installed():
        pytest.skip(f"{peer} is not installed")
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (yes|no: [^|]+) \|$", section(), re.MULTILINE)
    for kind, names in PEERS[peer][1]().items():
        missing = {name for name in names if (name, answer(kind, name)) not in rows}
        assert not missing, f"{kind}: WRITE_DOCS=1 pytest {Path(__file__).name}"


def test_zarrista_has_no_experimental_names_that_were_not_requested() -> None:
    library = pytest.importorskip("zarrista")
    (binary,) = Path(library.__file__).parent.glob("_zarrista*.so")
    # The strings follow one another without separators, so only the beginning of each is certain.
    found = {name.decode() for name in re.findall(rb"zarrs\.[a-z_0-9]+", binary.read_bytes())}
    known = (*set().union(*ZARRS.values()), "zarrs.dev")
    assert found
    assert not [name for name in found if not name.startswith(known)]


def test_every_unsupported_name_has_one_reason_and_every_reason_is_used() -> None:
    names = {(kind, name) for kind in KINDS for name in candidates(kind)}
    refused = {name for kind, name in names if answer(kind, name) != "yes"}
    if "zarr-python" in installed():
        assert [pattern for pattern in REASONS if not any(re.fullmatch(pattern, name) for name in refused)] == []
