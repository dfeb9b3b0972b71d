"""docs/interop.md names every codec and data type that others have and we do not; what it does not name, we have."""

import re
from pathlib import Path

import pytest

from zarr_s3_async._model import dtype_names
from zarr_s3_async.codecs import list_codecs

PAGE = (Path(__file__).parents[2] / "docs" / "interop.md").read_text()
REFUSED = set(re.findall(r"`([^`]+)`", PAGE.partition("we do not\n")[2].partition("## What they read")[0]))

# tensorstore 0.1.86 has no list of its registry: these are the names of its zarr3 driver.
TENSORSTORE = ["blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"]
# zarrs, as zarrista 0.1 is built.
ZARRISTA = [
    "bitround",
    "packbits",
    "vlen-array",
    "vlen-bytes",
    "vlen-utf8",
    "zarrs.squeeze",
    "zarrs.vlen",
    "zarrs.optional",
]
ZARRISTA_TYPES = ["int2", "uint4", "bfloat16", "float8_e5m2", "complex_float32", "complex_float64", "binary"]


def names_of_zarr_python():
    """Names of the codecs that zarr-python itself registers, not those of packages that extend it."""
    registry = pytest.importorskip("zarr.registry")
    pytest.importorskip("zarr.codecs")
    found = set()
    registries = next(value for name, value in vars(registry).items() if name.strip("_") == "codec_registries")
    for name, registered in registries.items():
        if any(cls.__module__.startswith("zarr.") for cls in registered.values()):
            found.add(name)
    return found


def test_every_codec_of_zarr_python_is_here_or_named_with_its_reason():
    names = names_of_zarr_python()
    assert {"gzip", "bytes"} <= names
    assert names - set(list_codecs()) - REFUSED == (names & {"endian"})  # `bytes` by its name in drafts


def test_every_codec_of_tensorstore_and_zarrista_is_here_or_named_with_its_reason():
    assert {*TENSORSTORE, *ZARRISTA} - set(list_codecs()) <= REFUSED


def test_every_data_type_of_zarr_python_is_here():
    registry = pytest.importorskip("zarr.core.dtype").data_type_registry
    configured = {
        "fixed_length_utf32": {"length_bytes": 8},
        "null_terminated_bytes": {"length_bytes": 3},
        "raw_bytes": {"length_bytes": 3},
        "numpy.datetime64": {"unit": "s", "scale_factor": 1},
        "numpy.timedelta64": {"unit": "s", "scale_factor": 1},
        "struct": {"fields": [{"name": "a", "data_type": "int8"}]},
        "structured": {"fields": [["a", "int8"]]},
    }
    assert "float64" in registry.contents
    for name in registry.contents:
        dtype_names.read_v3({"name": name, "configuration": configured[name]} if name in configured else name)


def test_the_data_types_of_zarrs_that_numpy_can_hold_are_here():
    pytest.importorskip("ml_dtypes")
    for name in ZARRISTA_TYPES:
        dtype_names.read_v3(name)
