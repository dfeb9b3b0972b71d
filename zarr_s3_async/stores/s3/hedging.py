"""The room of hedged reads: a read that takes longer than most is asked a second time, and the faster answer counts.

The second one takes a slot only if one is free, and receives into memory of its own: two attempts never write to the
same place. The slower one is cancelled and has ended before the answer leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import TypeAlias, TypeGuard

from ..._policy.hedge import HedgePace
from ...config import HedgePolicy
from ...errors import StoreError
from ...events import Emit, HedgeStarted
from .errors import is_retried
from .request import Request, Response
from .slots import Slots

Outcome: TypeAlias = Response | StoreError
"""An answer, or the error that a further attempt may mend."""
Ask: TypeAlias = Callable[[Request, int], Awaitable[Outcome]]


class Hedging:
    """For all reads of a session, each bucket at its own pace."""

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
        """When this bucket's reads are slow."""
        pace = self._paces.get(bucket)
        if pace is None:
            pace = self._paces[bucket] = HedgePace(self._policy)
        return pace

    async def send(self, ask: Ask, request: Request, attempt: int) -> Outcome:
        """One attempt, which may be two; the caller holds the slot of the first."""
        pace = self.pace(request.bucket)
        start = self._clock()
        if pace.delay is None:
            outcome = await ask(request, attempt)
        else:
            outcome = await _Race(self, ask, request, attempt).run(pace.delay)
        if isinstance(outcome, Response) and outcome.ok:
            pace.observe(self._clock() - start)
        return outcome

    def take(self, request: Request, seconds: float) -> Callable[[], None] | None:
        """A slot for the second one, if there is one and the budget allows it; call it to give it back."""
        release = self._slots.try_acquire(request.bucket)
        if release is None:
            return None
        if not self.pace(request.bucket).spend():
            release()
            return None
        self._emit(HedgeStarted(operation=request.operation, bucket=request.bucket, key=request.key, seconds=seconds))
        return release


class _Race:
    """One read and the second one of it. The first runs in the caller's own task."""

    __slots__ = ("_ask", "_attempt", "_first", "_hedging", "_request", "_second", "_won")

    def __init__(self, hedging: Hedging, ask: Ask, request: Request, attempt: int) -> None:
        self._hedging = hedging
        self._ask = ask
        self._request = request
        self._attempt = attempt
        self._first: asyncio.Timeout | None = None
        """Set while the first is in flight; its expiry is the second one's victory."""
        self._second: asyncio.Task[None] | None = None
        self._won: Response | None = None

    async def run(self, delay: float) -> Outcome:
        loop = asyncio.get_running_loop()
        outcome: Outcome | None = None
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            timer = loop.call_later(delay, self._hedge, group, delay)
            try:
                outcome = await self._ask_first()
            except Exception as error:  # noqa: BLE001  # raised below as itself: from here it would leave in a group
                failure = error
            finally:
                timer.cancel()
                self._first = None
            if self._second is not None:
                await self._settle(self._second, over=failure is not None or _is_answer(outcome))
        if failure is not None:
            raise failure
        if self._won is not None and not _is_answer(outcome):
            return _landed(self._request, self._won)
        assert outcome is not None  # noqa: S101  # only the second one's victory leaves none
        return outcome

    async def _ask_first(self) -> Outcome | None:
        try:
            async with asyncio.timeout(None) as self._first:
                return await self._ask(self._request, self._attempt)
        except TimeoutError:
            return None

    def _hedge(self, group: asyncio.TaskGroup, seconds: float) -> None:
        release = self._hedging.take(self._request, seconds)
        if release is not None:
            self._second = group.create_task(self._ask_second())
            # A task that is cancelled before it began runs no `finally` of its own.
            self._second.add_done_callback(lambda _: release())

    async def _ask_second(self) -> None:
        try:
            outcome = await self._ask(replace(self._request, sink=None), self._attempt)
        except Exception:  # noqa: BLE001  # nothing could be asked: the first one says so better, or is answered
            return
        if _is_answer(outcome):
            self._won = outcome
            if self._first is not None:
                self._first.reschedule(asyncio.get_running_loop().time())

    @staticmethod
    async def _settle(second: asyncio.Task[None], *, over: bool) -> None:
        if over:
            second.cancel()
        await asyncio.wait((second,))


def _is_answer(outcome: Outcome | None) -> TypeGuard[Response]:
    return isinstance(outcome, Response) and not is_retried(outcome)


def _landed(request: Request, response: Response) -> Response:
    """The second one's answer, its body in the sink's memory: nobody else writes there any more."""
    if request.sink is None or response.status != (206 if "range" in request.headers else 200):
        return response
    body = memoryview(response.body).cast("B")
    memory = request.sink(len(body))
    memory[:] = body
    return replace(response, body=memory)
