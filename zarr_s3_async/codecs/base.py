"""The codec protocols, the comparison of chunks with the fill value, and strict parsing of a codec's configuration.

A codec is synchronous and pure, and is built once per array. There are three kinds, as in the Zarr v3 core
specification, section "Codecs". A codec class is called with the codec's configuration and the `ChunkSpec` of its
input; `registry.register_codec` registers such a class. Its methods are called from many threads concurrently, so a
codec keeps no state between calls. The pipeline converts any exception of `encode` or `decode` into an error of this
library that names the codec.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from importlib import import_module
from reprlib import repr as short
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import numpy as np

from .._types import JSON, Buffer, CodecKind, Shape
from ..errors import MetadataError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Bytes: TypeAlias = Buffer | np.ndarray[Any, np.dtype[np.uint8]]
"""Flat bytes between two codecs: `len()` counts bytes, and slices select bytes."""

Cost: TypeAlias = Literal["view", "quick", "parallel", "blocking"]
"""CPU cost of a call, from low to high: `view` copies nothing; `quick` releases the GIL and decodes several GB/s;
`parallel` releases the GIL and takes longer; `blocking` holds the GIL."""

T = TypeVar("T")

_BITS = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}
_log = logging.getLogger("zarr_s3_async")
_OPTIONAL_OF_NUMCODECS: Final = ("zfpy", "pcodec", "msgpacks")


COSTS: tuple[Cost, ...] = ("view", "quick", "parallel", "blocking")
KINDS: tuple[CodecKind, ...] = ("array->array", "array->bytes", "bytes->bytes")


class ChunkSpec(NamedTuple):
    """Shape, dtype and fill value of the chunks that a codec handles."""

    shape: Shape
    dtype: np.dtype[Any]
    fill_value: Any


class ArrayArrayCodec(Protocol):
    """Reorders or recomputes elements. Built with the spec of the array that `encode` takes."""

    @property
    def kind(self) -> Literal["array->array"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        """The spec of what `encode` returns for a chunk of this spec, the encoded fill value included."""
        ...

    def encode(self, chunk: Array) -> Array: ...

    def decode(self, chunk: Array) -> Array: ...


class ArrayBytesCodec(Protocol):
    """Turns elements into bytes. Built with the spec of the array that `encode` takes."""

    @property
    def kind(self) -> Literal["array->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self) -> int | None:
        """Number of bytes that `encode` returns, or None where it depends on the values."""
        ...

    def encode(self, chunk: Array) -> Bytes:
        """The chunk's bytes; they may be a view of its memory."""
        ...

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        """The chunk, with the spec's shape and dtype; it may be a read-only view of `data`.

        Args:
            data: Encoded bytes. A wrong number of them is a ValueError.
            out: Writable C-contiguous array of the spec's shape and dtype. A codec that cannot return a view of
                `data` writes its result there and returns this same object.
        """
        ...


class BytesBytesCodec(Protocol):
    """Compresses or checksums bytes.

    Built with the spec of the array if its input is the array's elements, else with a spec of bytes.
    """

    @property
    def kind(self) -> Literal["bytes->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self, size: int) -> int | None:
        """Number of bytes that `encode` returns for `size` bytes, or None where it depends on their values."""
        ...

    def encode(self, data: Bytes) -> Bytes: ...

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        """The decoded bytes. Decoding stops with a ValueError at the first byte beyond `limit`.

        Args:
            data: Encoded bytes.
            size: Exact decoded size in bytes, or None where only the limit is known.
            limit: Maximum number of decoded bytes; equal to `size` where that is known. A codec must not allocate
                more, whatever size the (untrusted) data claims.
            out: Writable contiguous array of `size` bytes, of any shape and dtype. A codec that can decode into it
                does so and returns this same object; other codecs ignore it.
        """
        ...


@runtime_checkable
class DecodesMany(Protocol):
    """An optional capability of a `BytesBytesCodec`: several small chunks are decoded by one call of its library."""

    def decode_many(self, chunks: Sequence[Bytes], size: int, out: Array) -> bool:
        """Decode chunks one after the other into `out`; False where they must be decoded one by one.

        It is False for whatever `decode` would reject, which then raises the error of the chunk. If the result is
        False, the contents of `out` are undefined.

        Args:
            chunks: Encoded chunks.
            size: Exact decoded size of each of them in bytes.
            out: Writable contiguous array of `size` bytes for each chunk.
        """
        ...


Codec: TypeAlias = ArrayArrayCodec | ArrayBytesCodec | BytesBytesCodec


class Interrupt:
    """A request that work in a thread ends early, because its caller was cancelled."""

    __slots__ = ("requested",)

    def __init__(self) -> None:
        self.requested: bool = False

    def request(self) -> None:
        """Request it. Safe from any thread."""
        self.requested = True


class Abandoned(Exception):  # not an error: no caller waits for the result
    """The work was stopped early, since its result is no longer needed."""


_interrupt: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)
"""The interrupt of the work that runs in the current thread."""


def interruptible(interrupt: Interrupt, work: Callable[[], T]) -> T:
    """Run `work`; `check_interrupt` in it checks this interrupt."""
    token = _interrupt.set(interrupt)
    try:
        return work()
    finally:
        _interrupt.reset(token)


def check_interrupt() -> None:
    """Raise `Abandoned` if the caller of the work in this thread was cancelled. Decoders call it between two blocks."""
    interrupt = _interrupt.get()
    if interrupt is not None and interrupt.requested:
        raise Abandoned


def writable(chunk: Array) -> Array:
    """The array itself, or a copy where it is read-only."""
    return chunk if chunk.flags.writeable else chunk.copy()


_REQUIRED: Final = object()


class Options:
    """The configuration of one codec. Reading an option consumes it; `finish` raises for options that remain."""

    __slots__ = ("_known", "_left", "codec", "encode_error")

    encode_error: MetadataError | None
    """The error in an option that only encoding uses: the codec can decode, but must not encode."""

    def __init__(self, codec: str, configuration: Mapping[str, JSON]) -> None:
        self.codec: str = codec
        self.encode_error = None
        self._left: dict[str, JSON] = dict(configuration)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return self._left.get(key) is not None

    def is_value(self, key: str, value: JSON) -> bool:
        """True where the option has this value; does not consume it."""
        return bool(self._left.get(key) == value)

    def fail(self, key: str, problem: str) -> MetadataError:
        """The error for this key; the caller raises it."""
        return MetadataError(f"codec {self.codec!r}: {key!r} {problem}")

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The unchecked value. JSON null counts as absent where there is a default."""
        self._known.append(key)
        value = self._left.pop(key, _REQUIRED)
        if default is not _REQUIRED and (value is _REQUIRED or value is None):
            return default
        if value is _REQUIRED:
            raise self.fail(key, "is missing")
        return value

    def integer(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """An integer within bounds, both inclusive; JSON true, false and 1.0 are refused."""
        value = self.take(key, default)
        if value is default:
            return value  # type: ignore[no-any-return]  # the caller's own default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"must be an integer from {low} to {high}, not {short(value)}")
        return value

    def number(self, key: str) -> int | float:
        """A finite number."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self.fail(key, f"must be a number, not {short(value)}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """JSON true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, not {short(value)}")
        return value

    def choice(self, key: str, choices: tuple[Any, ...], default: Any = _REQUIRED) -> Any:
        """One of `choices`."""
        value = self.take(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in choices:
            raise self.fail(key, f"must be one of {', '.join(map(repr, choices))}, not {short(value)}")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of non-negative integers."""
        value = self.take(key)
        if not isinstance(value, list | tuple):
            raise self.fail(key, f"must be a list of integers, not {short(value)}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in value):
            raise self.fail(key, f"must hold non-negative integers, not {short(value)}")
        return tuple(value)

    def to_encode(self, read: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Read, with the method `read` of this object, an option that decoding does not need.

        An invalid value, which another writer may have stored, must not prevent reading the array: it becomes
        `encode_error`, and None is returned in its place.
        """
        try:
            return read(*arguments, **named)
        except MetadataError as error:
            self.cannot_encode(error)
            return cast("T", None)

    def cannot_encode(self, error: MetadataError | None) -> None:
        """Record why the codec must not encode; only the first reason is kept."""
        self.encode_error = self.encode_error or error

    def ignore(self, *keys: str) -> None:
        """Consume options of other writers that affect neither the stored bytes nor decoding."""
        for key in keys:
            self._left.pop(key, None)

    def rest(self) -> dict[str, JSON]:
        """Consume and return all remaining options."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Raise MetadataError for the first option that was not consumed."""
        if self._left:
            unknown = min(self._left, key=str)
            from difflib import get_close_matches  # for errors alone

            near = get_close_matches(str(unknown), self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.fail(unknown, f"is not an option of this codec{hint}")


def numcodecs_module(name: str) -> Any:
    """A module of numcodecs.

    numcodecs imports its optional codecs where their packages are installed, and fails to import as a whole where one
    of these packages is broken, as zfpy 1.0.1.post0 is. Such a codec is treated as if its package were missing.
    """
    try:
        return import_module(f"numcodecs.{name}")
    except ImportError:
        raise
    except Exception as error:
        for optional in _OPTIONAL_OF_NUMCODECS:
            sys.modules[f"numcodecs.{optional}"] = None  # type: ignore[assignment]  # importing it is an ImportError
            try:
                module = import_module(f"numcodecs.{name}")
            except Exception:  # noqa: BLE001  # another optional package is the broken one
                del sys.modules[f"numcodecs.{optional}"]
            else:
                _log.warning("the codec %s of numcodecs is disabled: its package is broken (%s)", optional, error)
                return module
        raise


def is_fill(chunk: Array, fill: Array) -> bool:
    """True where every element is the fill value bit by bit: NaN is NaN, and -0.0 is not 0.0."""
    if chunk.dtype.hasobject:
        return all(element == fill[()] for element in chunk.flat)
    bits = _BITS.get(chunk.dtype.itemsize)
    if bits is not None:
        wanted = fill.view(bits)[()]
        # Compared as integers: two NaN, or 0.0 and -0.0, are compared bit by bit.
        words = chunk.view(bits)
        # Most chunks with other values differ in their first element, which spares comparing all.
        return words.size == 0 or bool(words.flat[0] == wanted and (words == wanted).all())
    size = chunk.dtype.itemsize
    if size == 0:
        return True
    rows = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).reshape(-1, size)
    return bool((rows == np.frombuffer(fill.tobytes(), np.uint8)).all())
