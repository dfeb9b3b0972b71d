"""Converts codecs from any form that users pass to the form of documents.

Accepted are a name, a numcodecs configuration `{"id": …}`, a v3 codec `{"name": …, "configuration": {…}}`, and objects
of numcodecs and zarr-python. Missing members get the defaults of numcodecs and zarr-python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from .._types import JSON, CodecKind
from .chains import SHARDING, refuse_pickle
from .document import plain, text
from .dtypes import DataType, is_wide
from .problems import Invalid, short_repr

KindOf: TypeAlias = Callable[[str], CodecKind | None]
"""Returns the kind of the codec of a name, or None for an unknown codec: `codecs.registry.find_kind`."""

# As numcodecs' `get_config()` returns them; zarr-python omits zstd's `checksum` where it is false.
_V2_DEFAULTS: dict[str, dict[str, JSON]] = {
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "bz2": {"level": 1},
    "gzip": {"level": 1},
    "lz4": {"acceleration": 1},
    "lzma": {"format": 1, "check": -1, "preset": None, "filters": None},
    "shuffle": {"elementsize": 4},
    "zlib": {"level": 1},
    "zstd": {"level": 0},
}
_V3_DEFAULTS: dict[str, dict[str, JSON]] = {
    "gzip": {"level": 5},
    "zstd": {"level": 0, "checksum": False},
    "vlen-utf8": {},
    "vlen-bytes": {},
}
_SAME_IN_V3 = frozenset({"blosc", "gzip", "vlen-bytes", "vlen-utf8", "zstd"})
"""Ids of numcodecs codecs that v3 has under the same name and with the same encoded bytes."""
_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def v2(option: Any, where: str) -> dict[str, JSON]:
    """A numcodecs configuration."""
    config = {"id": option} if isinstance(option, str) else _config(option, where)
    if "id" not in config:
        raise Invalid(f"{where} must be a numcodecs configuration with an 'id' in Zarr v2, not {short_repr(option)}")
    name = text(config["id"], f"the 'id' of {where}")
    refuse_pickle(name)
    if name == "zstd" and config.get("checksum") is False:
        del config["checksum"]
    return {"id": name, **_V2_DEFAULTS.get(name, {}), **config}


def numcodecs_id(option: Any) -> str | None:
    """The id under which numcodecs knows the codec of an option; None where the option is not a codec."""
    config = {"name": option} if isinstance(option, str) else _as_mapping(option)
    name = config.get("id", config.get("name")) if isinstance(config, Mapping) else None
    return name.removeprefix("numcodecs.") if isinstance(name, str) else None


def v3(option: Any, data_type: DataType, kind_of: KindOf, where: str) -> dict[str, JSON]:
    """A v3 codec. A bare name means the codec of v3, or numcodecs' where v3 has none of that name."""
    if isinstance(option, str):
        refuse_pickle(option)
        is_numcodecs = kind_of(option) is None and kind_of(f"numcodecs.{option}") is not None
        config: dict[str, JSON] = {"id": option} if is_numcodecs else {"name": option}
    else:
        config = _config(option, where)
    if "id" in config:
        config = _from_numcodecs(config, where)
    name = config.get("name")
    if not isinstance(name, str):
        raise Invalid(f"{where} must be a codec with a 'name', not {short_repr(option)}")
    refuse_pickle(name)
    configuration = config.get("configuration", {})
    if not isinstance(configuration, dict):
        raise Invalid(f"the configuration of {short_repr(name)} must be a mapping, not {short_repr(configuration)}")
    completed = _defaults(name, data_type) | configuration
    # zarr-python cannot read its numcodecs.* codecs without a configuration.
    if completed or "configuration" in config or name in _V3_DEFAULTS or name.startswith("numcodecs."):
        config["configuration"] = completed
    return config


def _config(option: Any, where: str) -> dict[str, JSON]:
    """The option as a mapping with an `id` (numcodecs' terms) or a `name` (v3's)."""
    option = _as_mapping(option)
    if not isinstance(option, Mapping) or not ("id" in option or "name" in option):
        raise Invalid(f"{where} must be a codec's name, configuration or object, not {short_repr(option)}")
    config: dict[str, JSON] = plain(option, where)
    return config


def _as_mapping(option: Any) -> Any:
    if isinstance(option, type):  # a class has these methods too, but they need an instance
        return option
    if hasattr(option, "to_dict"):
        return option.to_dict()
    return option.get_config() if hasattr(option, "get_config") else option


def _from_numcodecs(config: Mapping[str, JSON], where: str) -> dict[str, JSON]:
    name = text(config["id"], f"the 'id' of {where}")
    configuration = {key: value for key, value in config.items() if key != "id"}
    if name not in _SAME_IN_V3:
        return {"name": f"numcodecs.{name}", "configuration": _V2_DEFAULTS.get(name, {}) | configuration}
    if name == "blosc" and isinstance(shuffle := configuration.pop("shuffle", -1), int) and shuffle != -1:
        configuration["shuffle"] = _SHUFFLES.get(shuffle, shuffle)
    return {"name": name, "configuration": configuration}


def _defaults(name: str, data_type: DataType) -> dict[str, JSON]:
    if name == "bytes":
        return {"endian": "little"} if is_wide(data_type.dtype) else {}
    if name == "blosc":
        size = data_type.dtype.itemsize if data_type.variable is None else 1
        shuffle = "bitshuffle" if size == 1 else "shuffle"
        # Blosc stores the element size in one byte, and treats elements that do not fit as single bytes.
        return {"typesize": size if size < 256 else 1, "cname": "zstd", "clevel": 5, "shuffle": shuffle, "blocksize": 0}
    return _V3_DEFAULTS.get(name, {})


def _to_bytes(data_type: DataType, before: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    """The codec that turns elements of this type into bytes; codecs `before` it may have changed the type."""
    if any(codec["name"] != "transpose" for codec in before):
        return {"name": "bytes", "configuration": {"endian": "little"}}
    match data_type.variable:
        case "string":
            return {"name": "vlen-utf8", "configuration": {}}
        case "bytes":
            return {"name": "vlen-bytes", "configuration": {}}
    configuration = _defaults("bytes", data_type)
    return {"name": "bytes", "configuration": configuration} if configuration else {"name": "bytes"}


def chain(options: Sequence[Any], data_type: DataType, kind_of: KindOf) -> list[dict[str, JSON]]:
    """A v3 chain. Where every codec in it is known and none turns the array into bytes, the usual one is inserted.

    Args:
        options: In encoding order.
        data_type: Type of the array.
        kind_of: Kinds of all codecs that are known.
    """
    codecs = [v3(option, data_type, kind_of, "codecs") for option in options]
    kinds = [kind_of(codec["name"]) for codec in codecs]
    at = kinds.count("array->array")
    if kinds == ["array->array"] * at + ["bytes->bytes"] * (len(kinds) - at):
        codecs.insert(at, _to_bytes(data_type, codecs[:at]))
    return codecs


def filters_and_compressor(
    filters: Sequence[Any], compressor: Any, data_type: DataType, kind_of: KindOf
) -> list[dict[str, JSON]]:
    """The chain of v2's two options. Unknown filters count as array-to-array, unknown compressors as bytes-to-bytes.

    Args:
        filters: In encoding order.
        compressor: The last codec; None for none.
        data_type: Type of the array.
        kind_of: Kinds of all codecs that are known.
    """
    codecs = [v3(option, data_type, kind_of, "filters") for option in filters]
    kinds = [kind_of(codec["name"]) for codec in codecs]
    at = kinds.index("bytes->bytes") if "bytes->bytes" in kinds else len(codecs)
    codecs += [] if compressor is None else [v3(compressor, data_type, kind_of, "compressor")]
    if all(kind_of(codec["name"]) != "array->bytes" for codec in codecs):
        codecs.insert(at, _to_bytes(data_type, codecs[:at]))
    return codecs


def sharding(chunks: Sequence[int], codecs: list[dict[str, JSON]]) -> dict[str, JSON]:
    """The sharding codec around a chain, with the recommended index: at the end, with a checksum."""
    return {
        "name": SHARDING,
        "configuration": {
            "chunk_shape": list(chunks),
            "codecs": codecs,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
