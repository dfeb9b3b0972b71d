"""The options of a new array: their one definition, their checks, and the `zarr.json` made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Required, TypedDict

import numpy as np

from .. import _ml_dtypes
from .._grid import Axis
from .._options import FORMATS, check_choice, check_flag, check_names
from .._types import JSON, Shape
from ..errors import ConfigError
from . import chunking, codec_options, dtype_names, fill_values
from .chains import check_parts, objects_of, read_filters
from .chunk_grid import check_shards, from_option, shape_of
from .chunk_grid import write as write_grid
from .codec_options import KindOf
from .document import new_attributes, plain
from .dtypes import BYTES, STRING, DataType, DType, Variable, packed, zero
from .keys import KeyEncoding
from .problems import Invalid, short_repr


class ArrayOptions(TypedDict, total=False):
    """The options of a new array. `shape` and `dtype` must be given, the others have defaults."""

    shape: Required[Sequence[int] | int]
    """Elements per dimension."""
    dtype: Required[Any]
    """An argument of `np.dtype`, `str` or `bytes` for variable length, or a Zarr v3 data type."""
    chunks: Sequence[int | Sequence[int | tuple[int, int]] | None] | int | Literal["auto"]
    """Elements of a chunk per dimension, -1 or None for the whole dimension; `auto`, the default, aims at 1 MiB of
    decoded data. v3: a list in place of a number gives the length of each chunk along that dimension, or pairs of a
    length and a count."""
    shards: Sequence[int | Sequence[int | tuple[int, int]] | None] | int | None
    """v3: elements of a stored object per dimension, multiples of `chunks`, or lists as of those; None: each chunk is
    an object."""
    codecs: Sequence[Any] | None
    """v3: the whole codec chain, in place of `filters` and `compressor`; inside shards where there are some."""
    compressor: Any
    """A name, a numcodecs-style dict, a codec object, or None for none; `auto`, the default, is zstd."""
    filters: Sequence[Any] | None
    """The codecs before the compressor, in encoding order."""
    fill_value: Any
    """Value of absent chunks; default: zero, "" for text, a record of zeros. None is null in v2 and zero in v3."""
    order: Literal["C", "F"]
    """Order of the elements inside a stored chunk; F is a transpose codec in v3."""
    dimension_separator: Literal[".", "/"] | None
    """Between the numbers of a chunk key; None: `.` in v2, `/` in v3."""
    chunk_key_encoding: Literal["default", "v2"] | Mapping[str, Any] | None
    """v3: how chunk keys are spelled."""
    dimension_names: Sequence[str | None] | None
    """One per dimension. In v2 they become the attribute `_ARRAY_DIMENSIONS`, which xarray and NCZarr read."""
    attributes: Mapping[str, JSON] | None
    """Any JSON."""
    zarr_format: Literal[2, 3]
    """3 unless given."""
    write_empty_chunks: bool
    """Store chunks that contain only the fill value. By default they are not stored, and deleted if they were."""
    overwrite: bool
    """Delete an existing node first. By default an existing node or object raises `NodeExists`."""


class _Zero:
    def __repr__(self) -> str:
        return "ZERO"


ZERO: Final = _Zero()
"""The default of `fill_value`: zero, the empty string, the record of zeros."""

_DEFAULTS: Final[dict[str, Any]] = {
    "chunks": "auto",
    "shards": None,
    "codecs": None,
    "compressor": "auto",
    "filters": None,
    "fill_value": ZERO,
    "order": "C",
    "dimension_separator": None,
    "chunk_key_encoding": None,
    "dimension_names": None,
    "attributes": None,
    "zarr_format": 3,
    "write_empty_chunks": False,
    "overwrite": False,
}


def complete(options: ArrayOptions) -> ArrayOptions:
    """The options with defaults for those that are not given.

    Names, choices and flags are checked here; shapes, types and codecs where they are used.

    Raises:
        ConfigError: An unknown option, or an invalid choice or flag.
    """
    check_names(options, ArrayOptions.__annotations__, "create_array")
    for name in ("shape", "dtype"):
        if name not in options:
            raise ConfigError(f"create_array needs {name}=")
    completed: Any = {**_DEFAULTS, **options}
    check_choice("zarr_format", completed["zarr_format"], FORMATS)
    check_choice("order", completed["order"], ("C", "F"))
    check_flag("write_empty_chunks", completed["write_empty_chunks"])
    check_flag("overwrite", completed["overwrite"])
    result: ArrayOptions = completed
    return result


class Outline(NamedTuple):
    """The parsed options that both formats share."""

    shape: Shape
    data_type: DataType
    chunks: Shape
    shards: Shape | None
    object_axes: tuple[Axis, ...]
    """Grid of the stored objects."""
    fill_value: Any
    dimension_names: list[str | None] | None
    attributes: dict[str, JSON]


def outline(options: ArrayOptions) -> Outline:
    """Check and parse the options that both formats share.

    Args:
        options: Result of `complete`.

    Raises:
        Invalid, Unknown: An option has an invalid value.
    """
    shape = chunking.shape(options["shape"])
    # The object codec among the options determines the type of elements of dtype `object`.
    ids = map(codec_options.numcodecs_id, [*codec_list(options, "codecs"), *codec_list(options, "filters")])
    data_type = _data_type(
        options["dtype"],
        objects_of(read_filters([{"id": name} for name in ids if name])),
        native=options["zarr_format"] == 3,
    )
    listed = _listed_lengths(options, shape)
    is_sharded = options["shards"] is not None
    shards = chunking.shards(options["shards"], shape) if listed is None or not is_sharded else shape_of(listed)
    if listed is None or is_sharded:
        chunks = chunking.chunks(options["chunks"], shape, data_type, shards)
    else:
        chunks = shape_of(listed)
    chunking.check(shape, chunks, shards or chunks, data_type)
    if shards is not None:
        check_parts(shards, chunks)
        check_shards(listed or shards, chunks)
    return Outline(
        shape,
        data_type,
        chunks,
        shards,
        listed or shards or chunks,
        _fill_value(options["fill_value"], data_type, options["zarr_format"]),
        _dimension_names(options["dimension_names"], len(shape)),
        new_attributes(options["attributes"], zarr_format=options["zarr_format"]),
    )


def _listed_lengths(options: ArrayOptions, shape: Shape) -> tuple[Axis, ...] | None:
    """Grid of the stored objects where an option lists their lengths."""
    chunks = from_option(options["chunks"], "chunks", shape)
    shards = from_option(options["shards"], "shards", shape)
    if chunks is None and shards is None:
        return None
    if options["zarr_format"] == 2:
        raise Invalid("in Zarr v2 all chunks have one shape: give one length per dimension, or zarr_format=3")
    if chunks is not None and options["shards"] is not None:
        raise Invalid(
            "chunks inside shards all have one shape: list lengths in shards, and give chunks one length per dimension"
        )
    return shards if chunks is None else chunks


_VARIABLE: dict[type | str, DataType] = {
    str: STRING,
    "str": STRING,
    "string": STRING,
    bytes: BYTES,
    "bytes": BYTES,
    "variable_length_bytes": BYTES,
}


def _data_type(option: Any, objects: Variable | None, *, native: bool) -> DataType:
    # Before NumPy sees it: `np.dtype(str)` is text of length 0.
    if isinstance(option, type | str) and option in _VARIABLE:
        return _VARIABLE[option]
    if isinstance(option, Mapping):
        return dtype_names.read_v3(plain(option, "dtype"))
    # By name and not through NumPy, which knows these names only after ml_dtypes was imported.
    if isinstance(option, str) and (option in _ml_dtypes.BITS or dtype_names.is_raw(option)):
        return dtype_names.read_v3(option)
    dtype = _numpy_type(option)
    if dtype.hasobject and dtype.names is None:
        return _of_objects(dtype, objects)
    return DataType(packed(dtype, native=native))


def _numpy_type(option: Any) -> DType:
    if isinstance(option, list):  # a structured type that came through JSON
        option = [tuple(field) if isinstance(field, list) else field for field in option]
    try:
        dtype: DType = np.dtype(option)
    except (TypeError, ValueError, SyntaxError) as problem:
        raise Invalid(f"dtype={short_repr(option)} is not a data type: {problem}") from problem
    return dtype


def _of_objects(dtype: DType, objects: Variable | None) -> DataType:
    if dtype.kind == "T":  # numpy.dtypes.StringDType
        return STRING
    if objects is None:
        raise Invalid(
            "elements of dtype object need an object codec: use dtype=str or dtype=bytes, "
            "or give an object codec such as 'vlen-utf8' as the first filter"
        )
    return DataType(np.dtype(object), objects)


def _fill_value(option: Any, data_type: DataType, zarr_format: Literal[2, 3]) -> Any:
    if option is ZERO or (option is None and zarr_format == 3):
        return zero(data_type)
    return None if option is None else fill_values.cast(option, data_type)


def _dimension_names(option: Any, ndim: int) -> list[str | None] | None:
    if option is None:
        return None
    if isinstance(option, str) or not isinstance(option, Sequence):
        raise Invalid(f"dimension_names must be a list of names, not {short_repr(option)}")
    if len(option) != ndim or not all(name is None or isinstance(name, str) for name in option):
        raise Invalid(
            f"dimension_names must hold a name or None for each of {ndim} dimensions, not {short_repr(option)}"
        )
    names: list[str | None] = plain(list(option), "dimension_names", strict=True)
    return names


def codec_list(options: ArrayOptions, name: Literal["codecs", "filters"]) -> list[Any]:
    """The codecs of an option that is a list of codecs; empty where it is not given.

    Raises:
        Invalid: It is not a list, but for example the name of one codec.
    """
    option = options[name]
    if option is not None and not isinstance(option, list | tuple):
        raise Invalid(f"{name} must be a list of codecs, not {short_repr(option)}")
    return list(option or ())


def key_encoding(options: ArrayOptions) -> KeyEncoding:
    """The encoding of chunk keys: from `chunk_key_encoding`, `dimension_separator`, or the format's default.

    Raises:
        Invalid: An encoding that the format does not support, or two different separators.
    """
    zarr_format = options["zarr_format"]
    default = "v2" if zarr_format == 2 else "default"
    name, separator = _encoding_option(options["chunk_key_encoding"], default)
    if name not in ("default", "v2") or (zarr_format == 2 and name != "v2"):
        raise Invalid(f"the chunk key encoding {short_repr(name)} is not supported for Zarr v{zarr_format} arrays")
    wanted = options["dimension_separator"]
    for given in (separator, wanted):
        if given is not None and not (isinstance(given, str) and given in ("/", ".")):
            raise Invalid(f"dimension_separator must be '.' or '/', not {short_repr(given)}")
    if separator is not None and wanted is not None and separator != wanted:
        raise Invalid("dimension_separator and chunk_key_encoding have different separators; give one of them")
    chosen = separator or wanted or ("/" if name == "default" else ".")
    return KeyEncoding(name, chosen)


def _encoding_option(option: Any, default: str) -> tuple[Any, Any]:
    # An object of zarr-python.
    option = option.to_dict() if hasattr(option, "to_dict") else option
    if option is not None and not isinstance(option, str | Mapping):
        raise Invalid(f"chunk_key_encoding is a name or a mapping, not {short_repr(option)}")
    if not isinstance(option, Mapping):
        return option or default, None
    configuration = option.get("configuration", {})
    if not isinstance(configuration, Mapping) or set(option) - {"name", "separator", "configuration"}:
        raise Invalid(f"chunk_key_encoding has a 'name' and a 'separator', not {short_repr(option)}")
    return option.get("name", default), option.get("separator", configuration.get("separator"))


def new_document(options: ArrayOptions, kind_of: KindOf) -> dict[str, JSON]:
    """The `zarr.json` of a new array with these (completed) options.

    Raises:
        Invalid, Unknown: An option has an invalid value.
    """
    described = outline(options)
    codecs = _codecs(options, described, kind_of)
    keys = key_encoding(options)
    document: dict[str, JSON] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(described.shape),
        "data_type": dtype_names.write_v3(described.data_type),
        "chunk_grid": write_grid(described.object_axes),
        "chunk_key_encoding": {"name": keys.name, "configuration": {"separator": keys.separator}},
        "fill_value": fill_values.write(described.fill_value, described.data_type, zarr_format=3),
        "codecs": codecs if described.shards is None else [codec_options.sharding(described.chunks, codecs)],
        "attributes": described.attributes,
        "storage_transformers": [],
    }
    if described.dimension_names is not None:
        document["dimension_names"] = described.dimension_names
    return document


def _codecs(options: ArrayOptions, described: Outline, kind_of: KindOf) -> list[dict[str, JSON]]:
    ndim, data_type = len(described.shape), described.data_type
    if options["codecs"] is None:
        compressor = "zstd" if _is_auto(options["compressor"]) else options["compressor"]
        codecs = codec_options.filters_and_compressor(codec_list(options, "filters"), compressor, data_type, kind_of)
    elif options["filters"] is not None or not _is_auto(options["compressor"]):
        raise Invalid("codecs is the whole chain: give either codecs, or filters and compressor")
    else:
        codecs = codec_options.chain(codec_list(options, "codecs"), data_type, kind_of)
    if options["order"] == "F" and ndim > 1:
        turn = {"name": "transpose", "configuration": {"order": list(reversed(range(ndim)))}}
        # First in the chain: the other codecs then see the elements in the stored order.
        codecs.insert(0, turn)
    return codecs


def _is_auto(option: Any) -> bool:
    return isinstance(option, str) and option == "auto"
