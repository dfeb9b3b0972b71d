"""Codecs by name: an allow-list of built-in codecs, and those that users register. Metadata can reach no other code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeAlias

from .._types import JSON, CodecKind, CodecSpec, is_pickle
from ..errors import ConfigError, MetadataError, UnsupportedFeature
from .base import COSTS, KINDS, ChunkSpec, Codec, Options

ENTRY_POINTS: Final = "zarr_s3_async.codecs"

CodecClass: TypeAlias = Callable[[Mapping[str, JSON], ChunkSpec], Codec]
"""Called with the configuration and the spec of the codec's input. `kind` is an attribute of the class."""

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}"


class _RegistryEntry(NamedTuple):
    kind: CodecKind
    build: Callable[[Options, ChunkSpec], Codec]


def _built_in(kind: CodecKind, module: str, name: str) -> _RegistryEntry:
    """A codec of this package. Its module is imported when an array first uses it, since most arrays use few codecs."""

    def build(options: Options, spec: ChunkSpec) -> Codec:
        codec: Codec = getattr(import_module(f".{module}", __package__), name)(options, spec)
        return codec

    return _RegistryEntry(kind, build)


_array_array = partial(_built_in, "array->array")
_array_bytes = partial(_built_in, "array->bytes")
_bytes_bytes = partial(_built_in, "bytes->bytes")

_BUILT_IN: Final[dict[str, _RegistryEntry]] = {
    # Zarr v3 core specification
    "bytes": _array_bytes("array", "BytesCodec"),
    "transpose": _array_array("array", "Transpose"),
    "gzip": _bytes_bytes("stdlib", "gzip"),
    "zstd": _bytes_bytes("compress", "Zstd"),
    "blosc": _bytes_bytes("compress", "blosc"),
    "crc32c": _bytes_bytes("checksums", "crc32c"),
    "sharding_indexed": _array_bytes("shard_format", "ShardingCodec"),
    # zarr-extensions, and the object codecs of v2
    "bitround": _array_array("filters", "BitRound"),
    "packbits": _array_bytes("array", "PackBits"),
    "reshape": _array_array("array", "Reshape"),
    "zarrs.squeeze": _array_array("array", "Squeeze"),
    "cast_value": _array_array("cast", "CastValue"),
    "scale_offset": _array_array("cast", "ScaleOffset"),
    "vlen-utf8": _array_bytes("vlen", "VLenUTF8"),
    "vlen-bytes": _array_bytes("vlen", "VLenBytes"),
    "vlen-array": _array_bytes("vlen", "VLenArray"),
    "json2": _array_bytes("vlen", "JSONItems"),
    "msgpack2": _array_bytes("vlen", "MsgPackItems"),
    # numcodecs: compressors and filters of v2, and what zarr-python registers for v3
    "numcodecs.adler32": _bytes_bytes("checksums", "adler32"),
    "numcodecs.astype": _array_array("filters", "AsType"),
    "numcodecs.base64": _bytes_bytes("stdlib", "Base64"),
    "numcodecs.bitround": _array_array("filters", "BitRound"),
    "numcodecs.blosc": _bytes_bytes("compress", "numcodecs_blosc"),
    "numcodecs.bz2": _bytes_bytes("stdlib", "BZ2"),
    "numcodecs.categorize": _array_array("filters", "Categorize"),
    "numcodecs.crc32": _bytes_bytes("checksums", "crc32"),
    "numcodecs.crc32c": _bytes_bytes("checksums", "numcodecs_crc32c"),
    "numcodecs.delta": _array_array("filters", "Delta"),
    "numcodecs.fixedscaleoffset": _array_array("filters", "FixedScaleOffset"),
    "numcodecs.fletcher32": _bytes_bytes("checksums", "fletcher32"),
    "numcodecs.gzip": _bytes_bytes("stdlib", "numcodecs_gzip"),
    "numcodecs.jenkins_lookup3": _bytes_bytes("checksums", "jenkins_lookup3"),
    "numcodecs.lz4": _bytes_bytes("compress", "LZ4"),
    "numcodecs.lzma": _bytes_bytes("stdlib", "LZMA"),
    "numcodecs.packbits": _array_array("filters", "PackBits"),
    "numcodecs.pcodec": _array_bytes("optional", "PCodec"),
    "numcodecs.quantize": _array_array("filters", "Quantize"),
    "numcodecs.shuffle": _bytes_bytes("filters", "Shuffle"),
    "numcodecs.zfpy": _array_bytes("optional", "ZFPY"),
    "numcodecs.zlib": _bytes_bytes("stdlib", "Zlib"),
    "numcodecs.zstd": _bytes_bytes("compress", "Zstd"),
}

_added: dict[str, _RegistryEntry] = {}


def register_codec(name: str, cls: CodecClass) -> None:
    """Register a codec class under the name that metadata uses.

    Args:
        name: The name in `codecs`; for a v2 compressor or filter with the id X it is `numcodecs.X`.
        cls: Called once per array, as `cls(configuration, chunk_spec)`; its instances follow a protocol of
            `codecs.base`.

    Raises:
        ConfigError: The name is taken or invalid, or the class has no valid `kind`.
    """
    if not isinstance(name, str) or re.fullmatch(_NAME, name) is None or is_pickle(name):  # type: ignore[redundant-expr]
        raise ConfigError(f"{name!r} cannot be the name of a codec")
    # A codec of this name has decoded data before: replacing it would change what stored arrays read as.
    if name in _BUILT_IN or name in _added:
        raise ConfigError(f"the codec {name!r} exists already; unregister_codec removes one that was registered")
    kind = getattr(cls, "kind", None) if isinstance(cls, type) else None
    if kind not in KINDS:
        raise ConfigError(f"the codec {name!r} must be a class whose `kind` is one of {', '.join(KINDS)}, not {kind!r}")
    _added[name] = _RegistryEntry(kind, _user_factory(cls))


def unregister_codec(name: str) -> None:
    """Remove a codec that was registered. Built-in codecs cannot be removed.

    Args:
        name: A name that was registered in this process.

    Raises:
        ConfigError: The codec is built in, or not registered in this process.
    """
    if name in _BUILT_IN:
        raise ConfigError(f"the codec {name!r} is built in and cannot be removed")
    if _added.pop(name, None) is None:
        raise ConfigError(f"no codec {name!r} is registered")


def list_codecs() -> tuple[str, ...]:
    """Names of all codecs, sorted: built in, registered, and offered by installed packages.

    Returns:
        The names, as they are spelt in v3 documents.
    """
    return tuple(sorted({*_BUILT_IN, *_added, *(point.name for point in _entry_points())}))


def kind_of_codec(name: str) -> CodecKind:
    """The codec's kind, which determines its position in a chain."""
    return _find(name).kind


def find_kind(name: str) -> CodecKind | None:
    """As `kind_of_codec`, but None for an unknown codec."""
    try:
        return _find(name).kind
    except UnsupportedFeature:
        return None


def is_registered(name: str) -> bool:
    """True for a codec that a user or an installed package has registered."""
    return name in _added


class Built(NamedTuple):
    """A codec that was built."""

    codec: Any
    """A `Codec`."""
    encode_error: MetadataError | None
    """Why it can decode but must not encode; None where it may do both."""


def build_codec(codec: CodecSpec, spec: ChunkSpec) -> Built:
    """Build the codec for chunks of this spec.

    Raises:
        UnsupportedFeature: The codec is unknown.
        MetadataError: The configuration is invalid, or the codec does not support such chunks.
    """
    entry = _find(codec.name)
    options = Options(codec.name, codec.configuration)
    try:
        built = entry.build(options, spec)
        options.finish()
    except (ConfigError, MetadataError, UnsupportedFeature):
        raise
    except ImportError as error:
        raise UnsupportedFeature(f"codec {codec.name!r} needs a package that is missing: {error}") from error
    except Exception as error:
        raise MetadataError(f"codec {codec.name!r} cannot be built from its configuration: {error}") from error
    return Built(built, options.encode_error)


def _user_factory(cls: Any) -> Callable[[Options, ChunkSpec], Codec]:
    def build(options: Options, spec: ChunkSpec) -> Codec:
        codec: Codec = cls(options.rest(), spec)
        cost = getattr(codec, "cost", None)
        if cost not in COSTS:
            raise ConfigError(f"the codec {options.codec!r} has the cost {cost!r}, which is not one of {COSTS}")
        return codec

    return build


def _find(name: str) -> _RegistryEntry:
    entry = _BUILT_IN.get(name) or _added.get(name)
    if entry is not None:
        return entry
    if is_pickle(name):
        raise UnsupportedFeature(f"the codec {name!r} is refused: unpickling runs any code that the data contains")
    for point in _entry_points():
        if point.name == name:
            try:
                cls = point.load()
                # Loading the module may have registered the codec already.
                if point.name not in _added:
                    register_codec(point.name, cls)
            except Exception as error:
                raise UnsupportedFeature(
                    f"the codec {point.name!r} of {point.value} cannot be loaded: {error}"
                ) from error
            return _added[point.name]
    from difflib import get_close_matches  # for errors alone

    near = get_close_matches(name, [*_BUILT_IN, *_added], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnsupportedFeature(
        f"the codec {name!r} is not known; {hint}register_codec adds one, list_codecs() lists the known ones"
    )


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINTS)
