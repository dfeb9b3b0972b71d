"""The position of a loader as JSON-compatible values, and the check that a position belongs to a loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._options import check_count
from ..errors import ConfigError

VERSION = 1
_COUNTS = ("epoch", "batch")


class Position(NamedTuple):
    """Number of batches of an epoch that a rank has taken. Workers take turns: worker `b % workers` makes batch `b`."""

    epoch: int
    batch: int
    workers: int = 1

    def taken_by(self, worker: int) -> int:
        """Number of those batches that this worker made."""
        return len(range(worker, self.batch, self.workers))


def to_json(position: Position, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The state: the position, and the values that the order of samples depends on."""
    return {"version": VERSION, **position._asdict(), **identity}


def from_json(state: Any, identity: Mapping[str, Any]) -> Position:
    """The position in a state.

    Raises:
        ConfigError: It is not a state, or it is of a loader with another order of samples.
    """
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        raise ConfigError("restore needs a value that BatchLoader.state() returned")
    wanted = {"version", *Position._fields, *identity}
    if set(state) != wanted:
        raise ConfigError(
            f"this state is of another version: it has the fields {sorted(state)} instead of {sorted(wanted)}"
        )
    for name, value in identity.items():
        if state[name] != value:
            raise ConfigError(
                f"this state was made with {name}={state[name]!r}, and the loader has {value!r}: the order of samples "
                "differs, so some would come twice and others never; create the loader with the same arguments"
            )
    for name in _COUNTS:
        check_count(f"state[{name!r}]", state[name], least=0)
    check_count("state['workers']", state["workers"])
    return Position(*(state[name] for name in Position._fields))
