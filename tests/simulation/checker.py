"""Decides whether a history of one chunk is linearizable: Wing and Gong's search, skipping states already visited.

A chunk is a register of several elements: a write sets some of them at one moment between its call and its return, a
read returns all of them as they are at one moment. A write that failed without a response may have taken effect
at any later time or never.

Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for linearizability" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

State = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation on one chunk."""

    who: str
    start: float
    end: float
    """When it returned; `inf` if it may take effect at any later time."""
    certain: bool = True
    """False if it may never have taken effect."""
    writes: tuple[tuple[int, int], ...] = ()
    """(element, value) pairs, set at one moment."""
    reads: State | None = None
    """What a read returned."""

    def __str__(self) -> str:
        did = f"reads {self.reads}" if self.reads is not None else f"writes {dict(self.writes)}"
        end = "…" if self.end == inf else f"{self.end:.4f}"
        return f"{self.start:9.4f} to {end:>8}  {self.who:12} {did}{'' if self.certain else ' (perhaps)'}"


def is_linearizable(initial: State, history: Sequence[Operation]) -> bool:
    """Whether all reads agree with some order of the operations, each at a moment between its start and its end."""
    operations = sorted(history, key=lambda operation: (operation.start, operation.end))
    needed = sum(1 << at for at, operation in enumerate(operations) if operation.certain)
    seen: set[tuple[int, State]] = set()
    stack = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & needed == needed:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        stack += _steps(operations, done, state)
    return False


def _steps(operations: Sequence[Operation], done: int, state: State) -> list[tuple[int, State]]:
    steps: list[tuple[int, State]] = []
    for at in _next(operations, done):
        reads = operations[at].reads
        if reads is None:
            steps.append((done | 1 << at, _after(operations[at], state)))
        elif reads == state:
            return [(done | 1 << at, state)]  # it changes nothing, so trying it first excludes no order
    return steps


def _next(operations: Sequence[Operation], done: int) -> list[int]:
    """Operations that may be next: no other remaining operation ended before they started."""
    found: list[int] = []
    ended = inf
    for at, operation in enumerate(operations):
        if operation.start > ended:
            break
        if not done >> at & 1:
            found.append(at)
            # An uncertain operation may never have happened, so it delays no other.
            ended = min(ended, operation.end) if operation.certain else ended
    found.sort(key=lambda at: (not operations[at].certain, operations[at].end), reverse=True)
    return found


def _after(write: Operation, state: State) -> State:
    after = list(state)
    for element, value in write.writes:
        after[element] = value
    return tuple(after)
