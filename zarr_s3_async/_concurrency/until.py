"""Work that ends early when something else happens first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def run_until(work: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[object]]) -> bool:
    """Run `work` in the calling task; cancel it, and return when it has ended, once `stop` returns.

    Args:
        work: What to run. What it raises is raised here, as it is.
        stop: Runs beside it in a task of its own, and is cancelled when the work ends. It must not raise.

    Returns:
        True where the work came to its end.
    """
    failure: BaseException | None = None
    ended = False
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await stop()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            await work()
            ended = True
        except Exception as error:  # noqa: BLE001  # raised below: out of the group it would come wrapped
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return ended
