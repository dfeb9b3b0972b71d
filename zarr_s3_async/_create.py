"""Creating an array: the options as users name them, the groups above it, and its documents."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from ._array import Array
from ._engine import nodes
from ._engine.runtime import Runtime
from ._model import formats
from ._model.create import NewArray
from ._model.names import check_path
from ._options import FORMATS, check_choice, check_flag, check_names
from ._types import JSON
from .errors import ConfigError


class ArrayOptions(TypedDict, total=False):
    """What a new array may be told."""

    shape: Required[Sequence[int] | int]
    """Elements per dimension."""
    dtype: Required[Any]
    """Anything that `np.dtype` takes, or the name of a Zarr v3 data type."""
    chunks: Sequence[int] | int | Literal["auto"]
    """Elements of a chunk per dimension; `auto`, the default, aims at 1 MiB decoded."""
    shards: Sequence[int] | None
    """Elements of a stored object per dimension, multiples of `chunks`; None: each chunk is an object."""
    zarr_format: Literal[2, 3]
    codecs: Any
    """v3: the whole codec chain."""
    compressor: Any
    """The compressor alone: a name, a numcodecs-style dict, a codec object, or None for none. Default: zstd."""
    filters: Any
    """v2: the filters before it."""
    fill_value: Any
    """What absent chunks hold; default: zero."""
    order: Literal["C", "F"]
    """Order of the elements inside a stored chunk."""
    dimension_separator: Literal[".", "/"] | None
    """v2: between the numbers of a chunk key."""
    chunk_key_encoding: Any
    """v3: how chunk keys are spelled."""
    dimension_names: Sequence[str | None] | None
    """v3: one per dimension."""
    attributes: Mapping[str, JSON] | None
    write_empty_chunks: bool
    """Store chunks that hold nothing but the fill value. By default they are left out, and removed where they were."""
    overwrite: bool
    """Remove what is there first. By default anything there is `NodeExists`."""


async def create_array(runtime: Runtime, path: str, options: ArrayOptions) -> Array:
    """Create it, and the groups above it that are missing; see `Session.create_array`."""
    check_names(options, ArrayOptions.__annotations__, "create_array")
    for name in ("shape", "dtype"):
        if name not in options:
            raise ConfigError(f"create_array needs {name}=")
    check_choice("zarr_format", options.get("zarr_format", 3), FORMATS)
    for name in ("write_empty_chunks", "overwrite"):
        check_flag(name, options.get(name, False))
    model: dict[str, Any] = {
        name: value for name, value in options.items() if name not in ("write_empty_chunks", "overwrite")
    }
    meta = formats.new_array(NewArray(**model))
    path = check_path(path, zarr_format=meta.zarr_format)
    # Building the handle first refuses codecs that do not fit, before anything is stored.
    array = Array(runtime, path, meta, write_empty=options.get("write_empty_chunks", False))
    await nodes.require_groups(runtime, ancestors(path), meta.zarr_format)
    await nodes.create(runtime, path, meta, overwrite=options.get("overwrite", False))
    return array


def ancestors(path: str) -> list[str]:
    """Paths of the groups above, from the store's root; none for the root itself."""
    parts = path.split("/")[:-1] if path else []
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)] if path else []
