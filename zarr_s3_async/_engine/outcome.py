"""What became of the objects of one write, in memory proportional to those in work."""

from __future__ import annotations

from itertools import count

from .._plan.plan import Plan
from .._types import Coords
from ..errors import (
    ConcurrentModification,
    DeadlineExceeded,
    NetworkError,
    SessionClosed,
    StoreError,
    WriteOutcome,
    ZarrS3Error,
)


class Progress:
    """Objects by their number in the plan, in the order in which they are begun."""

    __slots__ = ("_beyond", "_doubtful", "_numbers", "_upto")

    def __init__(self) -> None:
        self._numbers = count()
        self._upto = 0
        """All below it are written,"""
        self._beyond: set[int] = set()
        """and these beyond it."""
        self._doubtful: set[int] = set()

    def begin(self) -> int:
        """The number of the next object."""
        return next(self._numbers)

    def mark_sent(self, number: int) -> None:
        """A request that changes it may be under way."""
        self._doubtful.add(number)

    def mark_unchanged(self, number: int) -> None:
        """It was refused, and is what it was."""
        self._doubtful.discard(number)

    def mark_written(self, number: int) -> None:
        """It is what it should be."""
        self._doubtful.discard(number)
        self._beyond.add(number)
        while self._upto in self._beyond:
            self._beyond.remove(self._upto)
            self._upto += 1

    def mark_failed(self, number: int, error: Exception) -> None:
        """Its write ended with this error."""
        if isinstance(error, ZarrS3Error) and not _leaves_doubt(error):  # who knows what another's error means
            self._doubtful.discard(number)

    def outcome(self, plan: Plan) -> WriteOutcome:
        """What is written by now."""
        groups: tuple[list[Coords], list[Coords], list[Coords]] = ([], [], [])
        for number, (coords, _) in enumerate(plan.objects()):
            done = number < self._upto or number in self._beyond
            groups[0 if done else 2 if number in self._doubtful else 1].append(coords)
        written, not_written, unknown = (tuple(group) for group in groups)
        return WriteOutcome(written=written, not_written=not_written, unknown=unknown)


def _leaves_doubt(error: ZarrS3Error) -> bool:
    """True where a request may have been carried out all the same.

    No answer came, or one of a server in trouble, or one that says nothing; or an attempt went before the refusal.
    """
    if isinstance(error, SessionClosed):
        return True  # closed under a request, or between two attempts
    if not isinstance(error, StoreError) or isinstance(error, ConcurrentModification):
        return False
    refused = error.status is not None and error.status // 100 in (3, 4)
    unanswered = error.status is None and not isinstance(error, NetworkError | DeadlineExceeded)
    return not (refused or unanswered) or (error.attempts or 1) > 1
