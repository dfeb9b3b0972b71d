"""Calls in other processes: by a dask client, an executor of `concurrent.futures`, or whatever else has `submit`."""

from __future__ import annotations

from asyncio import CancelledError, Future, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

from ..errors import ConfigError
from .blocking import run_blocking
from .workers import run_workers

Call = TypeVar("Call")
_AT_ONCE = 8192
"""Calls that are submitted and not finished, at most: more than the threads of most clusters, and a few MiB here."""


class Executor(Protocol):
    """Runs calls elsewhere, as `distributed.Client` and the executors of `concurrent.futures` do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Start a call. Returns a future with `add_done_callback`, `result` and `cancel`."""
        ...


def check_client(client: object) -> None:
    """Raise ConfigError where this cannot run calls elsewhere."""
    if not callable(getattr(client, "submit", None)):
        raise ConfigError(
            f"client is a dask.distributed.Client, or an executor of concurrent.futures, not {client!r}: it runs calls "
            "with submit"
        )


async def run_calls(
    client: Executor, fn: Callable[..., Any], calls: Iterator[Call], done: Callable[[Call, Any], None], *, n: int
) -> None:
    """Run `fn(call)` elsewhere for every call. The first failure cancels the others, and is raised.

    Args:
        client: Runs them. What it runs again after it has lost a process must not change the outcome.
        fn: A function of a module; it and its argument are pickled.
        calls: Arguments, each different from those of all other calls: dask takes equal calls for one.
        done: Called here with each call and its result.
        n: How many calls there are, about.
    """

    async def run(call: Call) -> None:
        done(call, await submit_call(client, fn, call))

    await run_workers(max(1, min(n, _AT_ONCE)), calls, run)


def _end(future: Future[None]) -> None:
    if not future.done():  # not cancelled meanwhile
        future.set_result(None)


async def submit_call(client: Executor, fn: Callable[..., Any], call: Any) -> Any:
    """Run `fn(call)` elsewhere and return its result; cancelled, it cancels the call.

    Args:
        client: Runs it. What it runs again after it has lost a process must not change the outcome.
        fn: A function of a module; it and its argument are pickled.
        call: The argument, different from those of all other calls: dask takes equal calls for one.
    """
    future = client.submit(fn, call)
    loop = get_running_loop()
    ended: Future[None] = loop.create_future()

    def wake(_: object) -> None:  # in a thread of the client
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(_end, ended)

    future.add_done_callback(wake)
    try:
        await ended
    except CancelledError:
        cancelled = future.cancel()
        if isawaitable(cancelled):  # of an asynchronous client of dask
            await cancelled
        raise
    try:
        if getattr(client, "asynchronous", False):
            return await future.result()
        return await run_blocking(future.result)  # dask fetches it over the network
    except Exception as error:
        error.add_note("raised by a worker of client=, which has credentials and a session of its own")
        raise
