"""Elements of any length: vlen-utf8 and vlen-bytes of zarr-extensions; vlen-array, json2 and msgpack2 of Zarr v2.

The first three store the number of elements, then each element as its length in bytes and its bytes; counts and
lengths are unsigned 32-bit little-endian integers.
"""

from __future__ import annotations

import json
from importlib import import_module
from math import prod
from typing import Any, Final, Protocol

import numpy as np

from ..errors import MetadataError, UnsupportedFeature
from .base import Array, Bytes, ChunkSpec, Options, numcodecs_module, writable
from .scalars import plain_dtype

_WORD: Final = 4


class _Packer(Protocol):
    """The interface of numcodecs' three classes."""

    def encode(self, values: Array) -> bytearray: ...

    def decode(self, data: Bytes) -> Array: ...


class _Packed:
    kind: Final = "array->bytes"
    cost: Final = "blocking"
    dtype_kinds: str
    """Dtype kinds that the codec takes: O for objects, T for NumPy's variable-width strings."""
    packer: str
    """Name of the class in numcodecs.vlen."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.kind not in self.dtype_kinds:
            raise MetadataError(f"codec {options.codec!r} stores elements of any length, not {spec.dtype}")
        self._shape = spec.shape
        self._dtype = spec.dtype
        self._count = prod(spec.shape)
        arguments = self._arguments(options)
        self._packer: _Packer = getattr(numcodecs_module("vlen"), self.packer)(*arguments)

    def _arguments(self, options: Options) -> tuple[Any, ...]:  # noqa: ARG002  one subclass has options
        return ()

    def _payload(self, values: Array) -> int:
        """Bytes of the values, without their length fields."""
        return sum(map(len, values))

    def encoded_size(self) -> None:
        return None

    def encode(self, chunk: Array) -> Bytes:
        # numcodecs reads a transposed chunk in memory order, and refuses read-only memory.
        return self._pack(writable(np.ascontiguousarray(chunk)).reshape(-1))

    def _pack(self, values: Array) -> bytearray:
        return self._packer.encode(values)

    def decode(self, data: Bytes, out: Array | None = None) -> Array:  # noqa: ARG002  objects are not copied in place
        # numcodecs allocates for the claimed count before it checks the data.
        count = int.from_bytes(data[:_WORD], "little")
        packed = len(data) - _WORD * (1 + self._count)
        if count != self._count or packed < 0:
            raise ValueError(f"{len(data)} bytes claim {count} elements, but a chunk has {self._count}")
        values = self._packer.decode(data)
        used = self._payload(values)
        if used != packed:
            raise ValueError(f"{packed - used} bytes follow the last element")
        return values.reshape(self._shape).astype(self._dtype, copy=False)


class _PackedScalars(_Packed):
    """Elements of one Python type. Values of its subclasses are converted to it."""

    def _plain(self, value: Any) -> Any:
        raise NotImplementedError

    def _pack(self, values: Array) -> bytearray:
        elements = values.tolist()
        for empty in (None, 0):  # numcodecs stores these as empty elements, without an error
            if empty in elements:
                raise ValueError(
                    f"element {elements.index(empty)} of the chunk is {empty}, which would be read as an empty one: "
                    "use another value for missing elements"
                )
        try:
            return self._packer.encode(values)
        except TypeError:
            plain = np.empty(len(elements), object)
            plain[:] = [self._plain(element) for element in elements]
            return self._packer.encode(plain)


class VLenUTF8(_PackedScalars):
    """`str` elements, in arrays of objects or of NumPy's StringDType."""

    dtype_kinds = "OT"
    packer = "VLenUTF8"

    def _plain(self, value: Any) -> Any:
        return str.__str__(value) if isinstance(value, str) else value

    def _payload(self, values: Array) -> int:
        # One encoding of all text: encoding each element would take several times as long.
        text = "".join(values)
        return len(text) if text.isascii() else len(text.encode())


class VLenBytes(_PackedScalars):
    """`bytes` elements, in arrays of objects."""

    dtype_kinds = "O"
    packer = "VLenBytes"

    def _plain(self, value: Any) -> Any:
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value


class VLenArray(_Packed):
    """One-dimensional arrays of one dtype, in arrays of objects."""

    dtype_kinds = "O"
    packer = "VLenArray"

    def _arguments(self, options: Options) -> tuple[Any, ...]:
        return (plain_dtype(options, "dtype"),)

    def _payload(self, values: Array) -> int:
        return sum(value.nbytes for value in values)


class _Items:
    """Any values, as one list of the elements, the dtype and the shape: numcodecs' codecs for arrays of objects."""

    kind: Final = "array->bytes"
    cost: Final = "blocking"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.kind != "O":
            raise MetadataError(f"codec {options.codec!r} stores elements of any kind, not {spec.dtype}")
        self._shape = spec.shape

    def encoded_size(self) -> None:
        return None

    def encode(self, chunk: Array) -> Bytes:
        # An array without dimensions would become its element instead of a list.
        items: list[Any] = np.atleast_1d(chunk).tolist()
        return self._pack([*items, chunk.dtype.str, list(chunk.shape)])

    def decode(self, data: Bytes, out: Array | None = None) -> Array:  # noqa: ARG002  objects are not copied in place
        items = self._unpack(bytes(data))
        # The data is untrusted: its shape must be the chunk's before any element is taken from it.
        if not isinstance(items, list) or items[-2:] != ["|O", list(self._shape)]:
            raise ValueError(f"it is not a list of elements of the shape {self._shape}")
        level: list[Any] = items[:-2]
        shape = self._shape or (1,)
        for axis, length in enumerate(shape):
            if len(level) != prod(shape[: axis + 1]):
                raise ValueError(f"{len(level)} elements, and a chunk has {self._shape}")
            if axis < len(shape) - 1:
                if any(not isinstance(row, list) or len(row) != shape[axis + 1] for row in level):
                    raise ValueError(f"its rows do not have {length} elements")
                level = [element for row in level for element in row]
        chunk = np.empty(len(level), object)
        for at, element in enumerate(level):  # assigning the whole list would make an array of elements that are lists
            chunk[at] = element
        return chunk.reshape(self._shape)

    def _pack(self, items: list[Any]) -> bytes:
        raise NotImplementedError

    def _unpack(self, data: bytes) -> Any:
        raise NotImplementedError


class JSONItems(_Items):
    """`json2`: the list as JSON."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        super().__init__(options, spec)
        self._encoding: str = options.choice("encoding", ("utf-8", "ascii", "utf-16", "utf-32", "latin-1"), "utf-8")
        self._decoder = json.JSONDecoder(strict=options.boolean("strict", default=True))
        indent: int | None = options.to_encode(options.integer, "indent", 0, 16, None)
        separators = options.take("separators", None) or ((",", ":") if indent is None else (", ", ": "))
        flags: dict[str, Any] = {
            name: options.to_encode(options.boolean, name, default=name != "skipkeys")
            for name in ("skipkeys", "ensure_ascii", "check_circular", "allow_nan", "sort_keys")
        }
        self._encoder = json.JSONEncoder(indent=indent, separators=tuple(separators), **flags)

    def _pack(self, items: list[Any]) -> bytes:
        text: str = self._encoder.encode(items)
        return text.encode(self._encoding)

    def _unpack(self, data: bytes) -> Any:
        return self._decoder.decode(str(data, self._encoding))


class MsgPackItems(_Items):
    """`msgpack2`: the list as MessagePack, by the package msgpack."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        super().__init__(options, spec)
        try:
            self._msgpack: Any = import_module("msgpack")
        except ImportError as error:
            raise UnsupportedFeature(
                f"codec {options.codec!r} needs the package msgpack: pip install msgpack"
            ) from error
        self._raw = options.boolean("raw", default=False)
        self._single = options.to_encode(options.boolean, "use_single_float", default=False)
        self._bin_type = options.to_encode(options.boolean, "use_bin_type", default=True)

    def _pack(self, items: list[Any]) -> bytes:
        packed: bytes = self._msgpack.packb(items, use_bin_type=self._bin_type, use_single_float=self._single)
        return packed

    def _unpack(self, data: bytes) -> Any:
        items = self._msgpack.unpackb(data, raw=self._raw)
        # With `raw`, text is read as bytes, and so is the data type that numcodecs appends.
        if self._raw and isinstance(items, list) and items[-2:-1] == [b"|O"]:
            items[-2] = "|O"
        return items
