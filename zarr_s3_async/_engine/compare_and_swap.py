"""Optimistic concurrency: read, change, store on condition of the version that was read, and retry on a conflict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .._policy.backoff import conflict_delay, uniform
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
    """Call `attempt` until it succeeds without a `Conflict`, with increasing delays.

    Args:
        runtime: Provides the retry policy and the hooks, which get an event for each conflict.
        key: The contended key, for the event and the error.
        attempt: Reads without caches, changes, and stores on condition of the version that it read.
        given_up: Returns the message of the final error for a number of attempts.
        read: The versions that the attempts read, one each, appended by `attempt`. If all are equal, there was no other
            writer, and the server or a proxy breaks conditional writes.

    Raises:
        ConcurrentModification: Every attempt conflicted. One that `attempt` itself raises is not retried.
    """
    attempts = runtime.retry.conflict_attempts
    for number in range(1, attempts + 1):
        try:
            return await attempt()
        # It is a Conflict too, but `attempt` raises it after attempts of its own.
        except ConcurrentModification:
            raise
        except Conflict as conflict:
            runtime.emit(ConflictMet(key=key, attempt=number))
            last = conflict
        if number < attempts:
            # Random, so that writers which conflicted do not meet again at once.
            await runtime.wait(conflict_delay(number, uniform()))
    message = given_up(attempts)
    # The object never changed, so another writer cannot have caused the conflicts: the advice must be another one.
    if len(read) == attempts > 1 and None not in read and all(version == read[0] for version in read):
        message = (
            f"{runtime.store.url}/{key} had the same version {read[0]} in all of {attempts} attempts to change it, and "
            "no other writer was first: the server refuses the version that it gave, or a proxy changes ETags on the "
            "way; a single writer can do without, by conditional_writes='off'"
        )
    raise ConcurrentModification(message, key=key, attempts=attempts) from last
