"""Compare-and-swap: read, change, and store under the version that was read; again where another writer was first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import random
from typing import TypeVar

import anyio

from .._policy.backoff import conflict_delay
from ..errors import ConcurrentModification, Conflict
from ..events import ConflictMet
from .runtime import Runtime

T = TypeVar("T")


async def retry_conflicts(
    runtime: Runtime,
    key: str,
    attempt: Callable[[], Awaitable[T]],
    given_up: Callable[[int], str],
    read: Sequence[object] = (),
) -> T:
    """Call `attempt` until it ends without a `Conflict`, waiting longer after each.

    Args:
        runtime: Its retry policy says how often; each conflict is an event of its session.
        key: What is contended for, for the event and the error.
        attempt: Reads afresh, changes, and stores under the version that it read.
        given_up: Makes the message of the last error from the number of attempts.
        read: The versions under which attempts stored, one each, as `attempt` notes them: where all are the same, no
            other writer was first.

    Raises:
        ConcurrentModification: Another writer was first every time. One that `attempt` itself raises is final.
    """
    attempts = runtime.retry.conflict_attempts
    for number in range(1, attempts + 1):
        try:
            return await attempt()
        except ConcurrentModification:
            raise
        except Conflict as conflict:
            runtime.emit(ConflictMet(key=key, attempt=number))
            last = conflict
        if number < attempts:
            await anyio.sleep(conflict_delay(number, random()))
    message = given_up(attempts)
    if len(read) == attempts > 1 and None not in read and all(version == read[0] for version in read):
        message = (
            f"{runtime.store.url}/{key} had the same version {read[0]} in all of {attempts} attempts to change it, and "
            "no other writer was first: the server refuses the version that it gave, or a proxy changes ETags on the "
            "way; a single writer can do without, by conditional_writes='off'"
        )
    raise ConcurrentModification(message, key=key, attempts=attempts) from last
