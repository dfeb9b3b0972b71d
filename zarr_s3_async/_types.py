"""Types that every part shares, and the format-neutral codec description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol, TypeAlias, runtime_checkable

Buffer: TypeAlias = bytes | bytearray | memoryview
JSON: TypeAlias = Any
"""A value that `json.loads` can return."""

Shape: TypeAlias = tuple[int, ...]
Coords: TypeAlias = tuple[int, ...]
"""Position of a chunk or of an object in its grid, one integer per dimension."""

Version = NewType("Version", str)
"""Opaque identity of one state of one object: an ETag on S3. Compare with `==` only."""

When: TypeAlias = Version | Literal["always", "absent"]
"""Precondition of a put: whatever is there, nothing is there, or exactly this version is there."""

Sink: TypeAlias = Callable[[int], memoryview]
"""Given a body's length in bytes, gives writable memory of exactly that length.

Called once per attempt, after the status and the sizes were checked; what an earlier attempt wrote is overwritten.
It may be a `StridedSink`.
"""


@runtime_checkable
class StridedSink(Protocol):
    """A sink whose final memory may be strided. Given only to stores that declare `StridedReads`."""

    @property
    def strided(self) -> memoryview | None:
        """Final memory of the body: unsigned bytes in two dimensions or more, of which the last alone is contiguous.

        A store may copy a body of just that size there as it arrives, instead of calling the sink: then `Blob.data`
        is this very memoryview. None: call the sink.
        """
        ...

    def __call__(self, length: int, /) -> memoryview: ...


def strided_target(sink: Sink, length: int) -> memoryview | None:
    """The strided memory that a body of this length may be copied to, or None where the sink is to be called."""
    # getattr: isinstance() with a protocol costs 2 µs, and this is asked for every chunk.
    target: memoryview | None = getattr(sink, "strided", None)
    return target if target is not None and target.nbytes == length else None


Missing: TypeAlias = Literal["fill", "raise"]
"""What an absent chunk is to a read: the fill value, or `ChunkNotFound`."""


CodecKind: TypeAlias = Literal["array->array", "array->bytes", "bytes->bytes"]
"""What a codec takes and gives when it encodes."""


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """One codec of a chain, in Zarr v3 terms whatever format the document had.

    `name` is the v3 name (`bytes`, `transpose`, `zstd`, `numcodecs.delta`, …) and `configuration` its v3
    configuration. `_model` makes these from documents; `codecs.registry` builds codecs from them.
    """

    name: str
    configuration: Mapping[str, JSON] = field(default_factory=dict)
    must_understand: bool = True
    """False where the document says that a reader who does not know the codec may leave it out."""


def is_pickle(name: str) -> bool:
    """True for a codec that would run code from the data: the one rule by which metadata and registry refuse it."""
    return "pickle" in name.casefold()
