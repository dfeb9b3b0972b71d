"""Types used across the package, values as JSON, and the format-neutral codec description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, NewType, Protocol, TypeAlias, runtime_checkable

import numpy as np

Buffer: TypeAlias = bytes | bytearray | memoryview
JSON: TypeAlias = Any
"""A value that `json.loads` can return."""


def strict_json(value: Any) -> JSON:
    """Convert to strict JSON: NumPy's values to Python's, and what JSON lacks (NaN, infinities, times) to text."""
    match value:
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(key): strict_json(member) for key, member in value.items()}
        case list() | tuple():
            return [strict_json(member) for member in value]
        case float() if isfinite(value):
            return value
        case float():  # Zarr's names
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        case np.ndarray() if value.dtype.kind in "mMc":
            return strict_json(value.astype(str).tolist())
        case np.ndarray() | np.generic() if value.dtype.kind not in "mMc":
            return strict_json(value.tolist())
        case _:
            return str(value)


Shape: TypeAlias = tuple[int, ...]
Coords: TypeAlias = tuple[int, ...]
"""Position of a chunk or of an object in its grid, one integer per dimension."""

Version = NewType("Version", str)
"""Opaque identity of one state of one object: an ETag on S3. Compare with `==` only."""

When: TypeAlias = Version | Literal["always", "absent"]
"""Precondition of a put: none (`always`), no object exists (`absent`), or the object has exactly this version."""

Sink: TypeAlias = Callable[[int], memoryview]
"""Takes the length of a body in bytes and returns writable memory of exactly that length.

Called once per attempt, after the status and the sizes were checked. A retry overwrites what an earlier attempt wrote.
It may be a `StridedSink`.
"""


@runtime_checkable
class StridedSink(Protocol):
    """A sink with possibly strided target memory. Passed only to stores that declare `StridedReads`."""

    @property
    def strided(self) -> memoryview | None:
        """Target memory of the body: unsigned bytes in two or more dimensions, contiguous only along the last.

        A store may copy a body of exactly that size there as it arrives, instead of calling the sink; `Blob.data` is
        then this same memoryview. None: call the sink.
        """
        ...

    def __call__(self, length: int, /) -> memoryview: ...


def strided_target(sink: Sink, length: int) -> memoryview | None:
    """The strided memory that a body of this length may be copied to, or None if the sink must be called."""
    # getattr: isinstance() with a protocol costs 2 µs, and this runs for every chunk.
    target: memoryview | None = getattr(sink, "strided", None)
    return target if target is not None and target.nbytes == length else None


Missing: TypeAlias = Literal["fill", "raise"]
"""What a read does with an absent chunk: return the fill value, or raise `ChunkNotFound`."""


CodecKind: TypeAlias = Literal["array->array", "array->bytes", "bytes->bytes"]
"""Input and output of a codec when it encodes."""


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """One codec of a chain, in Zarr v3 terms for both formats.

    `name` is the v3 name (`bytes`, `transpose`, `zstd`, `numcodecs.delta`, …) and `configuration` its v3
    configuration. `_model` parses documents into these; `codecs.registry` builds codecs from them.
    """

    name: str
    configuration: Mapping[str, JSON] = field(default_factory=dict)
    must_understand: bool = True
    """False if the document allows a reader that does not know the codec to skip it."""


def is_pickle(name: str) -> bool:
    """True for a codec that would execute code from the data. Metadata parsing and the codec registry reject these."""
    return "pickle" in name.casefold()
