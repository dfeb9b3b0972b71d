"""What a codec is: synchronous, pure, built once per array; and strict reading of its configuration.

Three kinds, as in the Zarr v3 core specification, section "Codecs". A codec class is called once per array
with the codec's configuration and the `ChunkSpec` of what it will be given; `registry.register_codec` takes
such a class. Its methods are called from many threads at once, so a codec keeps no state between calls.
Whatever `encode` or `decode` raises, the pipeline turns into an error of this library that names the codec.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib import import_module
from reprlib import repr as short
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import numpy as np

from .._types import JSON, Buffer, CodecKind, Shape
from ..errors import MetadataError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Bytes: TypeAlias = Buffer | np.ndarray[Any, np.dtype[np.uint8]]
"""Flat bytes between two codecs: `len()` counts bytes, a slice is one of bytes."""

Cost: TypeAlias = Literal["view", "quick", "parallel", "blocking"]
"""CPU cost of a call, from low to high: it only makes a view; it releases the GIL and decodes several GB/s; it
releases the GIL and takes longer; it holds the GIL."""

T = TypeVar("T")

_log = logging.getLogger("zarr_s3_async")
_OPTIONAL_OF_NUMCODECS: Final = ("zfpy", "pcodec", "msgpacks")


COSTS: tuple[Cost, ...] = ("view", "quick", "parallel", "blocking")
KINDS: tuple[CodecKind, ...] = ("array->array", "array->bytes", "bytes->bytes")


class ChunkSpec(NamedTuple):
    """What a codec knows of the chunks that it handles."""

    shape: Shape
    dtype: np.dtype[Any]
    fill_value: Any


class ArrayArrayCodec(Protocol):
    """Reorders or recomputes elements. Built with the spec of the array that `encode` is given."""

    @property
    def kind(self) -> Literal["array->array"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        """What comes out of `encode` for a chunk like this, the fill value included."""
        ...

    def encode(self, chunk: Array) -> Array: ...

    def decode(self, chunk: Array) -> Array: ...


class ArrayBytesCodec(Protocol):
    """Turns elements into bytes. Built with the spec of the array that `encode` is given."""

    @property
    def kind(self) -> Literal["array->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self) -> int | None:
        """Bytes that `encode` gives, or None where that depends on the values."""
        ...

    def encode(self, chunk: Array) -> Bytes:
        """The chunk's bytes; they may be a view of its memory."""
        ...

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        """The chunk, exactly as the spec says; it may be a read-only view of `data`.

        Args:
            data: Encoded bytes. A wrong number of them is a ValueError.
            out: Writable C-contiguous array of the spec's shape and dtype. A codec that has to write its
                result somewhere writes it there and returns this very array; one that can gives a view.
        """
        ...


class BytesBytesCodec(Protocol):
    """Compresses or checksums bytes.

    Built with the spec of the array whose elements the bytes are, or with one of bytes where they are not.
    """

    @property
    def kind(self) -> Literal["bytes->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self, size: int) -> int | None:
        """Bytes that `encode` gives for `size` bytes, or None where that depends on their values."""
        ...

    def encode(self, data: Bytes) -> Bytes: ...

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        """The decoded bytes. Decoding stops with a ValueError at the first byte beyond `limit`.

        Args:
            data: Encoded bytes.
            size: Exact decoded size in bytes, or None where only the limit is known.
            limit: At most this many bytes come out; equal to `size` where that is known. Nothing that the
                data claims may make the codec allocate more.
            out: Writable contiguous array of `size` bytes in all, of any shape and dtype. A codec that can
                decode into it does so and returns this very array; the others ignore it.
        """
        ...


Codec: TypeAlias = ArrayArrayCodec | ArrayBytesCodec | BytesBytesCodec


class Interrupt:
    """Asks work in a thread to end early, because whoever waited for it has left."""

    __slots__ = ("requested",)

    def __init__(self) -> None:
        self.requested: bool = False

    def request(self) -> None:
        """From any thread, once."""
        self.requested = True


class Abandoned(Exception):  # it tells of no error
    """The work was stopped early, since its result is no longer needed."""


_interrupt: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)
"""Of the work that the current thread does."""


def interruptible(interrupt: Interrupt, work: Callable[[], T]) -> T:
    """Do `work`, in which `check_interrupt` looks at this interrupt."""
    token = _interrupt.set(interrupt)
    try:
        return work()
    finally:
        _interrupt.reset(token)


def check_interrupt() -> None:
    """End the work in this thread if its caller has left. For decoders that go block by block, between two blocks."""
    interrupt = _interrupt.get()
    if interrupt is not None and interrupt.requested:
        raise Abandoned


def writable(chunk: Array) -> Array:
    """The array itself, or a copy where it is read-only."""
    return chunk if chunk.flags.writeable else chunk.copy()


_REQUIRED: Final = object()


class Options:
    """The configuration of one codec. Reading a key takes it; `finish` refuses keys that were not taken."""

    __slots__ = ("_known", "_left", "codec", "encode_error")

    encode_error: MetadataError | None
    """What is wrong with an option that only concerns encoding: the codec decodes, and must not encode."""

    def __init__(self, codec: str, configuration: Mapping[str, JSON]) -> None:
        self.codec: str = codec
        self.encode_error = None
        self._left: dict[str, JSON] = dict(configuration)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return self._left.get(key) is not None

    def is_value(self, key: str, value: JSON) -> bool:
        """True where the option has this value; it is not taken."""
        return bool(self._left.get(key) == value)

    def fail(self, key: str, problem: str) -> MetadataError:
        """The error for this key; the caller raises it."""
        return MetadataError(f"codec {self.codec!r}: {key!r} {problem}")

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value as it stands. JSON null counts as absent where there is a default."""
        self._known.append(key)
        value = self._left.pop(key, _REQUIRED)
        if default is not _REQUIRED and (value is _REQUIRED or value is None):
            return default
        if value is _REQUIRED:
            raise self.fail(key, "is missing")
        return value

    def integer(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """An integer within bounds, both inclusive; JSON true, false and 1.0 are none."""
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
        """One of these."""
        value = self.take(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in choices:
            raise self.fail(key, f"must be one of {', '.join(map(repr, choices))}, not {short(value)}")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers that are not negative."""
        value = self.take(key)
        if not isinstance(value, list | tuple):
            raise self.fail(key, f"must be a list of integers, not {short(value)}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in value):
            raise self.fail(key, f"must hold integers that are not negative, not {short(value)}")
        return tuple(value)

    def to_encode(self, read: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """What `read`, a method of these options, gives for an option that decoding does not need.

        Another writer's value that breaks the rules keeps no array from being read: it becomes `encode_error`, and
        what is returned then must not be used.
        """
        try:
            return read(*arguments, **named)
        except MetadataError as error:
            self.cannot_encode(error)
            return cast("T", None)

    def cannot_encode(self, error: MetadataError | None) -> None:
        """Remember the first reason why the codec must not encode."""
        self.encode_error = self.encode_error or error

    def ignore(self, *keys: str) -> None:
        """Take options that other writers leave behind, and that change neither what is stored nor what is read."""
        for key in keys:
            self._left.pop(key, None)

    def rest(self) -> dict[str, JSON]:
        """All that is left, taken at once."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Refuse keys that were not taken."""
        if self._left:
            unknown = min(self._left, key=str)
            from difflib import get_close_matches  # for errors alone

            near = get_close_matches(str(unknown), self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.fail(unknown, f"is not an option of this codec{hint}")


def numcodecs_module(name: str) -> Any:
    """A module of numcodecs.

    numcodecs imports what it finds of its optional codecs, and fails as a whole where the package of one is broken, as
    zfpy 1.0.1.post0 is. Such a codec is then left out, as if its package were missing.
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
            except Exception:  # noqa: BLE001  # it is another one that is broken
                del sys.modules[f"numcodecs.{optional}"]
            else:
                _log.warning("the codec %s of numcodecs is left out: its package is broken (%s)", optional, error)
                return module
        raise
