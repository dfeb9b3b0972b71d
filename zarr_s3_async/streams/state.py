"""The state of a stream as JSON-compatible values, and the check that a state belongs to a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, cast
from zlib import crc32

from .._types import JSON, Version
from ..errors import ConfigError

VERSION: Final = 1
_MAX_GROUPS: Final = 256
"""If one object has changed, its group is written again: at most 1/256 of a large array."""


class Finished:
    """The set of finished blocks or objects, by number: all below `first`, and those in `above`, which are few."""

    __slots__ = ("above", "first")

    def __init__(self, first: int = 0, above: Sequence[int] = ()) -> None:
        self.first: int = first
        self.above: set[int] = set(above)

    def __len__(self) -> int:
        return self.first + len(self.above)

    def __contains__(self, number: int) -> bool:
        return number < self.first or number in self.above

    def add(self, number: int) -> None:
        """Add a number. If it is in the set, nothing happens."""
        if number < self.first:
            return
        self.above.add(number)
        while self.first in self.above:
            self.above.remove(self.first)
            self.first += 1

    def state(self, name: str) -> dict[str, JSON]:
        """The set as the state of the stream with this name."""
        return {"version": VERSION, "stream": name, "first": self.first, "above": sorted(self.above)}

    def __iter__(self) -> Iterator[int]:
        yield from range(self.first)
        yield from self.above

    @classmethod
    def of_state(cls, state: Mapping[str, JSON], name: str, total: int, *more: str) -> Finished:
        """The set in a state.

        Args:
            state: A value that `state()` of a stream returned.
            name: The name of the stream that continues; see `name_of`.
            total: Number of all blocks or objects.
            more: Other fields of the state, which the caller checks.

        Raises:
            ConfigError: It is not a state, or it is of another stream.
        """
        check_state(state, name, "first", "above", *more)
        first, above = state["first"], state["above"]
        if type(first) is not int or not 0 <= first <= total:  # not isinstance: True is no number of blocks
            raise ConfigError(f"state['first'] must be an integer from 0 to {total}, not {first!r:.80}")
        if not isinstance(above, list) or not all(type(at) is int and first < at < total for at in above):
            raise ConfigError(
                f"state['above'] must be a list of numbers above {first} and below {total}, not {above!r:.80}"
            )
        return cls(first, cast("list[int]", above))


class ObjectVersions:
    """Sums of digests of the versions of objects, for the detection of objects that have changed.

    Each sum is of a group of successive objects: with every version, the state of a large array would be large.

    Args:
        total: Number of all objects.
    """

    __slots__ = ("_sums", "_total")

    def __init__(self, total: int) -> None:
        self._total = total
        self._sums: list[int] = [0] * min(total, _MAX_GROUPS)

    def group(self, number: int) -> int:
        """The group of an object."""
        return number * len(self._sums) // self._total

    def add(self, number: int, version: Version) -> None:
        """Add an object, which must not be in the sums."""
        # Some servers quote an ETag in one response and not in the next, and some proxies make it weak.
        opaque = version.removeprefix("W/").strip('"')
        digest = blake2b(f"{number}\0{opaque}".encode(), digest_size=8).digest()
        at = self.group(number)
        self._sums[at] = (self._sums[at] + int.from_bytes(digest, "little")) % 2**64

    def remove_group(self, group: int) -> None:
        """Remove all objects of a group."""
        self._sums[group] = 0

    def differing(self, other: ObjectVersions) -> set[int]:
        """The groups whose sums differ from those of another set of the same objects."""
        return {at for at, (one, two) in enumerate(zip(self._sums, other._sums, strict=True)) if one != two}

    def state(self) -> list[JSON]:
        """The sums for a state. They are strings because some JSON parsers round large integers."""
        return [f"{one:x}" for one in self._sums]

    @classmethod
    def of_state(cls, values: JSON, total: int) -> ObjectVersions:
        """The sums in a state.

        Raises:
            ConfigError: They are none.
        """
        found = cls(total)
        n = len(found._sums)
        if not isinstance(values, list) or len(values) != n or not all(map(_is_sum, values)):
            raise ConfigError(f"state['versions'] must be a list of {n} hexadecimal numbers of up to 16 digits")
        found._sums = [int(cast("str", one), 16) for one in values]
        return found


def _is_sum(value: JSON) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 16 and set(value) <= set("0123456789abcdef")


def name_of(*parts: object) -> str:
    """A short name of a stream, computed from what its numbers depend on: states of other streams have another one."""
    return f"{crc32(repr(parts).encode()):08x}"


def check_state(state: object, name: str, *fields: str) -> None:
    """Check that a value is the state of a stream with this name, and has these fields.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(state, Mapping) or set(state) != {"version", "stream", *fields}:
        raise ConfigError("state must be a value that state() of a stream of this kind returned")
    if state["version"] != VERSION or state["stream"] != name:
        raise ConfigError(
            "this state is of another stream: create the stream with the same arguments (region, order and "
            "ahead_bytes, or axis and size), on an array of the same shape and chunks; a write stream also on the same "
            "array at the same endpoint"
        )
