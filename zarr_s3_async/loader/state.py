"""Where a loader is, as a value that JSON can hold; and whether it fits the loader that it is given to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._options import check_count
from ..errors import ConfigError

VERSION = 1
_COUNTS = ("epoch", "batch")


class Position(NamedTuple):
    """Behind how many batches of an epoch a rank is. Its workers take turns: batch `b` is worker `b % workers`'s."""

    epoch: int
    batch: int
    workers: int = 1

    def taken_by(self, worker: int) -> int:
        """How many of those batches this worker made."""
        return len(range(worker, self.batch, self.workers))


def to_json(position: Position, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The state: the position, and what decides the order of samples."""
    return {"version": VERSION, **position._asdict(), **identity}


def from_json(state: Any, identity: Mapping[str, Any]) -> Position:
    """The position of a state.

    Raises:
        ConfigError: It is none, or it was made by a loader with another order of samples.
    """
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        raise ConfigError("restore takes what BatchLoader.state() returned, as it was or from JSON")
    wanted = {"version", *Position._fields, *identity}
    if set(state) != wanted:
        raise ConfigError(
            f"this state is not of this version: it has {sorted(state)}, and should have {sorted(wanted)}"
        )
    for name, value in identity.items():
        if state[name] != value:
            raise ConfigError(
                f"this state was made with {name}={state[name]!r}, and the loader has {value!r}: its samples come in "
                "another order, so some would come twice and others never; make the loader as it was"
            )
    for name in _COUNTS:
        check_count(f"state[{name!r}]", state[name], least=0)
    check_count("state['workers']", state["workers"])
    return Position(*(state[name] for name in Position._fields))
