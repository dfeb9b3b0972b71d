"""The state of a stream as JSON-compatible values, and the check that a state belongs to a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast
from zlib import crc32

from .._types import JSON
from ..errors import ConfigError

VERSION: Final = 1


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

    @classmethod
    def of_state(cls, state: Mapping[str, JSON], name: str, total: int) -> Finished:
        """The set in a state.

        Args:
            state: A value that `state()` of a stream returned.
            name: The name of the stream that continues; see `name_of`.
            total: Number of all blocks or objects.

        Raises:
            ConfigError: It is not a state, or it is of another stream.
        """
        check_state(state, name, "first", "above")
        first, above = state["first"], state["above"]
        if type(first) is not int or not 0 <= first <= total:  # not isinstance: True is no number of blocks
            raise ConfigError(f"state['first'] must be an integer from 0 to {total}, not {first!r}")
        if not isinstance(above, list) or not all(type(at) is int and first < at < total for at in above):
            raise ConfigError(
                f"state['above'] must be a list of numbers above {first} and below {total}, not {above!r}"
            )
        return cls(first, cast("list[int]", above))


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
