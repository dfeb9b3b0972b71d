"""Which bytes of an object a read wants, and how neighbouring wants become one request."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias


class Span(NamedTuple):
    """Bytes `start` (inclusive) to `stop` (exclusive), 0 <= start < stop."""

    start: int
    stop: int


class Suffix(NamedTuple):
    """The last `length` bytes, or the whole object where it is shorter."""

    length: int


ByteRange: TypeAlias = Span | Suffix


def checked(byte_range: ByteRange | None) -> ByteRange | None:
    """The range itself, or ValueError for one that HTTP cannot express (empty or negative)."""
    match byte_range:
        case Span(start, stop) if not 0 <= start < stop:
            raise ValueError(f"a byte span needs 0 <= start < stop, not {start}:{stop}")
        case Suffix(length) if length <= 0:
            raise ValueError(f"a byte suffix needs a positive length, not {length}")
    return byte_range


def resolve(byte_range: ByteRange | None, size: int) -> tuple[int, int]:
    """(start, stop) of the range within an object of `size` bytes, cut at its end; start <= stop."""
    match byte_range:
        case None:
            return 0, size
        case Suffix(length):
            return max(0, size - length), size
        case Span(start, stop):
            return min(start, size), min(stop, size)


def coalesce(spans: Iterable[Span], *, max_gap: int) -> Iterator[tuple[Span, list[Span]]]:
    """Merge sorted spans whose gap is at most `max_gap` bytes.

    Yields:
        The span to request, and the wanted spans inside it in the order they came.
    """
    members: list[Span] = []
    start = stop = 0
    for span in spans:
        if members and span.start - stop > max_gap:
            yield Span(start, stop), members
            members = []
        if not members:
            start, stop = span
        members.append(span)
        stop = max(stop, span.stop)
    if members:
        yield Span(start, stop), members
