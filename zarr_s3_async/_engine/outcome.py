"""Track which objects of a write are written, in memory proportional to the number of objects in flight."""

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
    """The states of a write's objects, by their number in the plan, which is the order in which they are started."""

    __slots__ = ("_beyond", "_doubtful", "_numbers", "_upto")

    def __init__(self) -> None:
        self._numbers = count()
        self._upto = 0
        """All objects below this number are written,"""
        self._beyond: set[int] = set()
        """and these above it."""
        self._doubtful: set[int] = set()

    def begin(self) -> int:
        """Start the next object and return its number."""
        return next(self._numbers)

    def mark_sent(self, number: int) -> None:
        """A request that changes the object may have been sent."""
        self._doubtful.add(number)

    def mark_unchanged(self, number: int) -> None:
        """The request was rejected: the object is unchanged."""
        self._doubtful.discard(number)

    def mark_written(self, number: int) -> None:
        """The object is written."""
        self._doubtful.discard(number)
        self._beyond.add(number)
        while self._upto in self._beyond:
            self._beyond.remove(self._upto)
            self._upto += 1

    def mark_failed(self, number: int, error: Exception) -> None:
        """The write of the object failed with this error."""
        if isinstance(error, ZarrS3Error) and not _leaves_doubt(error):  # the meaning of other errors is unknown
            self._doubtful.discard(number)

    def outcome(self, plan: Plan) -> WriteOutcome:
        """The outcome so far."""
        groups: tuple[list[Coords], list[Coords], list[Coords]] = ([], [], [])
        for number, (coords, _) in enumerate(plan.objects()):
            done = number < self._upto or number in self._beyond
            groups[0 if done else 2 if number in self._doubtful else 1].append(coords)
        written, not_written, unknown = (tuple(group) for group in groups)
        return WriteOutcome(written=written, not_written=not_written, unknown=unknown)


def _leaves_doubt(error: ZarrS3Error) -> bool:
    """True if a request may have been executed in spite of the error.

    There was no response, a server error or an inconclusive response; or an earlier attempt preceded the rejection.
    """
    if isinstance(error, SessionClosed):
        return True  # closed during a request, or between two attempts
    if not isinstance(error, StoreError) or isinstance(error, ConcurrentModification):
        return False
    refused = error.status is not None and error.status // 100 in (3, 4)
    unanswered = error.status is None and not isinstance(error, NetworkError | DeadlineExceeded)
    return not (refused or unanswered) or (error.attempts or 1) > 1
