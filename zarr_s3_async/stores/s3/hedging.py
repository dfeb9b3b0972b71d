"""Hedged reads: a read that takes longer than usual is sent a second time, and the faster response is used.

The second request is sent only if a slot is free, and receives into its own memory: two attempts never write to the
same memory. The slower one is cancelled and has ended before the response is returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TypeAlias, TypeGuard

from ..._concurrency.backup import Backup, race_with_backup
from ..._policy.hedge import HedgePace
from ...config import HedgePolicy
from ...errors import StoreError
from ...events import Emit, HedgeStarted
from .answer_checks import takes_sink
from .errors import is_retried
from .request import Request, Response
from .slots import Slots

Outcome: TypeAlias = Response | StoreError
"""A response, or the error of an attempt that may be retried."""
Send: TypeAlias = Callable[[Request, int], Awaitable[Outcome]]


class Hedging:
    """Hedges the reads of a session, based on the latencies of each bucket."""

    __slots__ = ("_clock", "_emit", "_paces", "_policy", "_slots")

    def __init__(
        self, policy: HedgePolicy, *, slots: Slots, emit: Emit, clock: Callable[[], float] = monotonic
    ) -> None:
        self._policy = policy
        self._slots = slots
        self._emit = emit
        self._clock = clock
        self._paces: dict[str, HedgePace] = {}

    def pace(self, bucket: str) -> HedgePace:
        """The latencies and the hedging budget of this bucket's reads."""
        pace = self._paces.get(bucket)
        if pace is None:
            pace = self._paces[bucket] = HedgePace(self._policy)
        return pace

    async def send(self, try_once: Send, request: Request, attempt: int) -> Outcome:
        """Send one attempt, and possibly a hedge; the caller holds the slot of the first."""
        pace = self.pace(request.bucket)
        start = self._clock()
        # Too few reads were measured to know what "slow" means here.
        if pace.delay is None:
            outcome = await try_once(request, attempt)
        else:
            outcome, hedged = await race_with_backup(
                partial(try_once, request, attempt),
                partial(self._backup, try_once, request, attempt),
                pace.delay,
                _is_answer,
            )
            if hedged:
                outcome = _in_sink(request, outcome)
        if isinstance(outcome, Response) and outcome.ok:
            # With the hedge included: the percentile describes what callers wait for.
            pace.observe(self._clock() - start)
        return outcome

    def _backup(self, try_once: Send, request: Request, attempt: int) -> Backup[Outcome] | None:
        """The hedge, if a slot is free and the budget allows it."""
        release = self._slots.try_acquire(request.bucket)
        # A hedge that waited for a slot would delay other reads, and be late itself.
        if release is None:
            return None
        pace = self.pace(request.bucket)
        if not pace.spend():
            release()
            return None
        seconds = pace.delay or 0.0
        self._emit(HedgeStarted(operation=request.operation, bucket=request.bucket, key=request.key, seconds=seconds))

        async def hedge() -> Outcome:
            # Without the sink: the first attempt may be writing to its memory.
            return await try_once(replace(request, sink=None), attempt)

        return Backup(hedge(), release)


def _is_answer(outcome: Outcome) -> TypeGuard[Response]:
    return isinstance(outcome, Response) and not is_retried(outcome)


def _in_sink(request: Request, response: Outcome) -> Outcome:
    """Copy the hedge's body to the sink's memory, to which the first attempt does not write any more: it has ended."""
    if not isinstance(response, Response) or request.sink is None:
        return response
    if not takes_sink(request, response.status, response.headers):
        return response
    body = memoryview(response.body).cast("B")
    memory = request.sink(len(body))
    memory[:] = body
    return replace(response, body=memory)
