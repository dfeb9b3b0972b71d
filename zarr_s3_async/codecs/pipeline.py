"""A chain of codecs, built once per array, that turns a chunk into the bytes of an object and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np

from .._types import Buffer, CodecSpec, Shape
from ..errors import ChunkDecodeError, ChunkError, MetadataError, UnsupportedFeature
from .array import BytesCodec, Transpose
from .base import (
    COSTS,
    Array,
    ArrayArrayCodec,
    ArrayBytesCodec,
    Bytes,
    BytesBytesCodec,
    ChunkSpec,
    Cost,
    DecodesMany,
    writable,
)
from .registry import build_codec, is_registered, kind_of_codec

VARIABLE_LIMIT: Final = 256 * 2**20
"""Maximum decompressed size in bytes of a chunk of variable-length elements, whose shape gives no limit."""

_SLACK: Final = 64 * 1024
_SHARE: Final = 32
"""Compressors expand incompressible data by less than 1/32 plus 64 KiB: larger encoded data is refused."""

_BATCH_BYTES: Final = 256 * 1024
"""Maximum decoded bytes of chunks that are decoded at once: a processor's second cache holds them until they are
copied. Of larger chunks, less than two fit, and the time of a call does not matter."""
_BATCH_CHUNKS: Final = 256
"""Maximum number of these chunks."""

_TOLERANCE: Final = 2
"""Factor on the maximum size of an encoded chunk. Slightly larger objects are fetched, so that decoding reports what is
wrong with them."""

_EXPORTED_KINDS: Final = "biufc"
"""Dtype kinds that the buffer protocol, and so every C library, supports."""

_Decode: TypeAlias = Callable[..., Bytes]


class _Unpack(NamedTuple):
    """One bytes-to-bytes step of decoding."""

    name: str
    decode: _Decode
    size: int | None
    limit: int


class Pipeline:
    """Encodes and decodes chunks of one kind. Synchronous, pure, and safe to call from many threads."""

    __slots__ = (
        "_array_bytes_name",
        "_encoders",
        "_exported",
        "_into",
        "_many",
        "_rearrange",
        "_specs",
        "_unpack",
        "_view",
        "batch",
        "chunk",
        "cost",
        "element_order",
        "encode_error",
        "encoded_nbytes",
        "max_encoded_nbytes",
        "nbytes",
        "raw",
    )

    chunk: ChunkSpec
    """Spec of the chunks that `encode` takes and `decode` returns."""
    nbytes: int
    """Bytes of a decoded chunk; of its references, where the elements are objects."""
    encoded_nbytes: int | None
    """Bytes of an encoded chunk, or None where they depend on the values."""
    max_encoded_nbytes: int
    """Upper bound on the size of an encoded chunk; larger objects are rejected before decoding."""
    cost: Cost
    """The highest cost of its codecs."""
    batch: int
    """Number of chunks that `decode_many` decodes at once; 1 where it cannot."""
    encode_error: MetadataError | None
    """Why chunks can be decoded but must not be encoded: an option is invalid, or a chunk is too large for a codec."""
    raw: bool
    """True where the encoded bytes are the chunk's elements in C order and in the byte order of its dtype."""
    element_order: tuple[int, ...] | None
    """The axes in storage order, slowest first, where the encoded bytes are the uncompressed elements in any order of
    axes and bytes. None where an element has no byte range of its own."""

    def __init__(
        self,
        chunk: ChunkSpec,
        arrays: Sequence[tuple[str, ArrayArrayCodec]],
        array_bytes: tuple[str, ArrayBytesCodec],
        compressors: Sequence[tuple[str, BytesBytesCodec]],
        variable_limit: int,
        encode_error: MetadataError | None,
        specs: Sequence[CodecSpec],
    ) -> None:
        self.chunk = chunk
        self._specs = tuple(specs)
        self.nbytes = prod(chunk.shape) * chunk.dtype.itemsize
        name, codec = array_bytes
        chain: list[tuple[str, Any]] = [*arrays, array_bytes, *compressors]
        self.cost = max((each.cost for _, each in chain), key=COSTS.index)
        # The elements need no change after decompression: no axes are moved and no bytes are swapped.
        as_is = not arrays and isinstance(codec, BytesCodec) and codec.as_is
        self.raw = as_is and not compressors
        self.element_order = None
        if isinstance(codec, BytesCodec) and not compressors and all(isinstance(each, Transpose) for _, each in arrays):
            self.element_order = tuple(range(len(chunk.shape)))
            for _, turn in arrays:
                self.element_order = tuple([self.element_order[axis] for axis in cast("Transpose", turn).order])
        self.encode_error = encode_error or _too_large(codec.encoded_size(), compressors)
        steps, self.encoded_nbytes, largest = _unpacking(codec.encoded_size(), compressors, variable_limit)
        self.max_encoded_nbytes = _TOLERANCE * max(largest, self.nbytes) + _SLACK
        self._array_bytes_name = name
        self._view = codec.decode
        self._rearrange = tuple((name, each.decode) for name, each in reversed(arrays))
        # If the decompressed bytes are the result's elements, the last decompressor may write into the result.
        self._into = steps.pop() if as_is and steps else None
        self._unpack = tuple(steps)
        self._many: DecodesMany | None = None
        self.batch = 1
        if self._into is not None and isinstance(compressors[0][1], DecodesMany) and self.nbytes:
            self._many = compressors[0][1]
            self.batch = max(1, min(_BATCH_CHUNKS, _BATCH_BYTES // self.nbytes))
        self._exported = chunk.dtype.kind in _EXPORTED_KINDS and chunk.dtype.isbuiltin == 1
        self._encoders = tuple(
            (name, _given_writable(each.encode) if is_registered(name) else each.encode) for name, each in chain
        )

    def of_shape(self, shape: Shape) -> Pipeline:
        """The same codecs for chunks of another shape."""
        return build_pipeline(self._specs, ChunkSpec(shape, self.chunk.dtype, self.chunk.fill_value))

    def __repr__(self) -> str:
        names = " → ".join(name for name, _ in self._encoders)
        return f"<Pipeline {names} of {self.chunk.shape} {self.chunk.dtype}>"

    def encode(self, chunk: Array) -> Buffer:
        """The bytes to store; they may be a view of the chunk's memory.

        Raises:
            ChunkError: A codec cannot encode these values, or this is not such a chunk.
            MetadataError: No chunk may be encoded: see `encode_error`.
        """
        self._check(chunk)
        if self.encode_error is not None:
            raise self.encode_error
        name, data = "", cast("Any", chunk)
        try:
            for name, encode in self._encoders:  # noqa: B007  the handler uses the name
                data = encode(data)
        # Too little memory says nothing about the chunk.
        except (ChunkError, MemoryError):
            raise
        except Exception as error:
            raise ChunkError(f"codec {name!r} cannot encode the chunk: {_message(error)}", codec=name) from error
        # A memoryview of the array: bytes would be one more copy.
        return data.data if isinstance(data, np.ndarray) else cast("Buffer", data)

    def encode_to_copy(self, chunk: Array) -> Buffer | Array:
        """As `encode`, for a caller that copies the bytes: returns the chunk itself where `raw`, which saves a copy."""
        if not self.raw:
            return self.encode(chunk)
        self._check(chunk)
        return chunk

    def _check(self, chunk: Array) -> None:
        if chunk.shape != self.chunk.shape or chunk.dtype != self.chunk.dtype:
            raise ChunkError(
                f"a chunk of this array has the shape {self.chunk.shape} and the dtype {self.chunk.dtype}, "
                f"not {chunk.shape} and {chunk.dtype}"
            )

    def decode(self, data: Buffer, out: Array | None = None) -> Array:
        """Decode a chunk.

        Args:
            data: A whole encoded chunk.
            out: Writable C-contiguous array of the chunk's shape and dtype, not of objects. If the last step can
                write its result there, it does, and this same object is returned. Otherwise another array is
                returned, which may be a read-only view of `data`, and the contents of `out` are undefined, as they
                are after a failure.

        Raises:
            ChunkDecodeError: The bytes are not an encoded chunk of this kind. It names the codec that failed.
        """
        name, flat = self._array_bytes_name, cast("Bytes", data)
        try:
            for name, unpack, size, limit in self._unpack:  # noqa: B007  the handler uses the name
                flat = unpack(flat, size, limit)
            if self._into is not None:
                name, unpack, size, limit = self._into
                # C libraries refuse buffers of types unknown to them, such as datetimes: they get a view as bytes.
                target = out if out is None or self._exported else out.reshape(-1).view(np.uint8)
                flat = unpack(flat, size, limit, target)
                # A codec that could not decode in place has returned other memory, which is handled below.
                if target is not None and flat is target:
                    return cast("Array", out)
            name = self._array_bytes_name
            # Array-to-array codecs return views or new arrays, so with them `out` cannot be the result.
            chunk = self._view(flat) if self._rearrange else self._view(flat, out)
            for name, rearrange in self._rearrange:  # noqa: B007  the handler uses the name
                chunk = rearrange(chunk)
            # A registered codec may return anything.
            if chunk.shape != self.chunk.shape or chunk.dtype != self.chunk.dtype:
                raise ValueError(f"returned {chunk.dtype} elements of the shape {chunk.shape}")
        # Already of the right type, or not about the chunk: reading it again would not help.
        except (ChunkDecodeError, UnsupportedFeature, MemoryError):
            raise
        # Codecs and their C libraries raise anything for damaged bytes.
        except Exception as error:
            raise ChunkDecodeError(f"codec {name!r} cannot decode the chunk: {_message(error)}", codec=name) from error
        return chunk

    def decode_many(self, chunks: Sequence[Buffer], out: Array) -> bool:
        """Decode several chunks by one call of the compressor's library, which costs less than a call for each.

        Args:
            chunks: Whole encoded chunks, at most `batch`.
            out: Writable C-contiguous array of these chunks: its first axis counts them.

        Returns:
            True if all are decoded. False if they must be decoded one by one: the compressor cannot decode them
            together, or one of them is damaged. The contents of `out` are undefined then.
        """
        if self._many is None:
            return False
        flat = cast("list[Bytes]", list(chunks))
        try:
            for _, unpack, size, limit in self._unpack:
                flat = [unpack(each, size, limit) for each in flat]
            return self._many.decode_many(flat, self.nbytes, out)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # `decode` raises it again, with the chunk
            return False

    def decode_to_copy(self, data: Buffer) -> Array:
        """As `decode`, into newly allocated memory: a view would keep all of `data` alive."""
        target = None if self.raw or self.chunk.dtype.hasobject else np.empty(self.chunk.shape, self.chunk.dtype)
        chunk = self.decode(data, target)
        return chunk if chunk is target else chunk.copy()


def _given_writable(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The encoder of a registered codec, wrapped to receive a copy of read-only arrays.

    Chunks are read-only views of the caller's data. Built-in codecs accept them. Typed memoryviews of an extension
    module do not, and a codec that works in place must not change the caller's array.
    """

    def encode_writable(data: Any) -> Any:
        return encode(writable(data) if isinstance(data, np.ndarray) else data)

    return encode_writable


def build_pipeline(specs: Sequence[CodecSpec], chunk: ChunkSpec, *, variable_limit: int = VARIABLE_LIMIT) -> Pipeline:
    """The pipeline of these codecs, in encoding order, for chunks like this.

    Args:
        specs: Array-to-array codecs, one array-to-bytes codec, bytes-to-bytes codecs.
        chunk: Spec of the decoded chunks.
        variable_limit: Maximum decompressed size in bytes of a chunk of variable-length elements.

    Raises:
        UnsupportedFeature: A codec is unknown.
        MetadataError: A codec's configuration is invalid, or the codecs do not form a chain.
    """
    arrays: list[tuple[str, Any]] = []
    array_bytes: tuple[str, Any] | None = None
    compressors: list[tuple[str, Any]] = []
    given = chunk
    # Filters of Zarr v2 before `bytes` determine the byte order that `bytes` stores.
    at = next((i for i, spec in enumerate(specs) if spec.name == "bytes"), 0)
    filtered = any(map(_is_numcodecs, specs[:at]))
    encode_error: MetadataError | None = None

    def build(spec: CodecSpec, given: ChunkSpec) -> Any:
        nonlocal encode_error
        built = build_codec(spec, given)
        encode_error = encode_error or built.encode_error
        return built.codec

    for spec in _arranged(specs):
        kind = kind_of_codec(spec.name)
        if (array_bytes is not None) != (kind == "bytes->bytes"):
            raise MetadataError(f"codec {spec.name!r} is {kind}, which cannot be at that position in {_names(specs)}")
        if kind == "array->array":
            codec: Any = build(spec, given)
            # A transposition that changes nothing is dropped: chunks stay raw, and can be received into the result.
            if not (isinstance(codec, Transpose) and codec.identity):
                arrays.append((spec.name, codec))
                given = _encoded(spec.name, codec, given)
        elif kind == "array->bytes":
            array_bytes = spec.name, build(_with_own_order(spec, given) if filtered else spec, given)
        else:
            compressors.append((spec.name, build(spec, _given_bytes(given, array_bytes, compressors))))
    if array_bytes is None:
        raise MetadataError(f"no codec in {_names(specs)} turns an array into bytes")
    return Pipeline(chunk, arrays, array_bytes, compressors, variable_limit, encode_error, specs)


def _encoded(name: str, codec: ArrayArrayCodec, given: ChunkSpec) -> ChunkSpec:
    try:
        return codec.encoded(given)
    except ValueError as error:
        raise MetadataError(
            f"codec {name!r} does not take {given.dtype} of {given.shape}: {_message(error)}"
        ) from error


def _too_large(size: int | None, compressors: Sequence[tuple[str, BytesBytesCodec]]) -> MetadataError | None:
    """The error for a chunk that is larger than a compressor's maximum input; None where it is not."""
    for name, codec in compressors:
        maximum = getattr(codec, "max_input", None)
        if size is not None and maximum is not None and size > maximum:
            return MetadataError(f"codec {name!r} takes {maximum:,} bytes at most, but a chunk has {size:,}")
        size = None if size is None else codec.encoded_size(size)
    return None


def _unpacking(
    size: int | None, compressors: Sequence[tuple[str, BytesBytesCodec]], limit: int
) -> tuple[list[_Unpack], int | None, int]:
    """The decoding steps of the compressors in reverse order, the size of the encoded chunk, and the limit on it."""
    steps: list[_Unpack] = []
    limit = limit if size is None else size
    for name, codec in compressors:
        limit = limit if size is None else size
        # Decoding goes the other way round.
        steps.insert(0, _Unpack(name, codec.decode, size, limit))
        size = None if size is None else codec.encoded_size(size)
        limit = codec.encoded_size(limit) or limit + limit // _SHARE + _SLACK
    return steps, size, limit


def _arranged(specs: Sequence[CodecSpec]) -> list[CodecSpec]:
    """The chain with `bytes` moved to where it is needed.

    Zarr v2 lists filters of all kinds before the compressor, without a step from array to bytes. So `bytes` is moved
    before the first numcodecs codec that takes bytes, and dropped where a codec turns the array into bytes itself.
    """
    arranged = list(specs)
    at = next((i for i, spec in enumerate(arranged) if spec.name == "bytes"), None)
    if at is None:
        return arranged
    to_bytes = arranged.pop(at)
    kinds = [kind_of_codec(spec.name) if _is_numcodecs(spec) else None for spec in arranged]
    if "array->bytes" in kinds[: at + 1]:
        return arranged
    first = kinds.index("bytes->bytes") if "bytes->bytes" in kinds[:at] else at
    arranged.insert(first, to_bytes)
    return arranged


def _is_numcodecs(spec: CodecSpec) -> bool:
    return spec.name.startswith("numcodecs.")


def _with_own_order(spec: CodecSpec, given: ChunkSpec) -> CodecSpec:
    """`bytes` with the byte order of its input: a filter of Zarr v2 determines it, and `endian` may be absent."""
    if spec.name != "bytes" or spec.configuration.get("endian") is not None or given.dtype.kind not in "iufc":
        return spec
    big = given.dtype.str.startswith(">")
    return CodecSpec("bytes", {**spec.configuration, "endian": "big" if big else "little"})


def _given_bytes(given: ChunkSpec, array_bytes: Any, compressors: Sequence[Any]) -> ChunkSpec:
    """The spec that a compressor is built with: the array's if its input is the array's elements, else one of bytes."""
    if not compressors and isinstance(array_bytes[1], BytesCodec):
        return given
    return ChunkSpec((), np.dtype(np.uint8), np.uint8(0))


def _names(specs: Sequence[CodecSpec]) -> str:
    return ", ".join(spec.name for spec in specs) or "an empty list of codecs"


def _message(error: Exception) -> str:
    return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
