"""Computing one array from others, object by object: reads, computations in threads and writes overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from math import prod
from typing import Any, TypeAlias

import numpy as np

from .._array import Array
from .._concurrency.limiter import Limiter, bulk_unless_named
from .._concurrency.workers import gather_all, run_workers
from .._engine.operations import as_array
from .._engine.runtime import Layout
from .._options import check_count, check_flag
from .._types import JSON
from ..errors import ConfigError
from .access import internals
from .boxes import Box, cells, region_of
from .progress import ProgressOption, check_progress

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]


async def map_chunks(
    fn: Callable[..., Any],
    sources: Array | Sequence[Array],
    target: Array,
    *,
    region: Any = None,
    max_bytes: int = 2**28,
    progress: ProgressOption = None,
    resume: bool = False,
    state: Mapping[str, JSON] | None = None,
    save_state: Callable[[dict[str, JSON]], object] | None = None,
) -> None:
    """Fill `target` with the results of `fn`, which is called once per stored object of the target.

    Each call gets the same region of every source. Reads, computations and writes overlap. `fn` runs in the threads of
    the target's session (`Limits.cpu_threads`), so it must be thread-safe; NumPy releases the GIL for most of its work.

    Args:
        fn: Takes one array per source, all of one shape, and returns an array of that shape or one that broadcasts to
            it. After it has returned, it must not use its inputs or its result.
        sources: One array or several, all of the target's shape. If several objects of the target need a chunk, it is
            read for each of them, unless the session caches chunks.
        target: The array to write to.
        region: As for `Array.stream`; None is the whole array.
        max_bytes: Maximum decoded bytes of all blocks in memory, inputs and results together; the blocks of a larger
            object are processed alone. `Limits.bytes` of the sessions separately bounds the chunks being decoded and
            encoded.
        progress: Called with a `Progress` for every stored object; or `rich` or `tqdm`.
        resume: As for `Array.write_stream`: objects that an interrupted run has stored are not computed again.
        state: The last state that `save_state` of an interrupted call got: objects that it contains, and that have not
            changed since, are not computed again. The target need not have been empty. The same `region` is needed.
        save_state: Called with the state, a new dict that can be stored as JSON, after every object that was stored. It
            is called on the event loop, so it should take little time; its exception ends the call.

    Raises:
        ConfigError: The shapes differ, an option has an invalid value, or the state is of another target or region.
        Exception: The exception that `fn` raised, with a note that names the region of the target. No further object
            is started, puts in flight are completed, and the exception has the attribute `outcome`.
    """
    if not isinstance(sources, Array | list | tuple):
        raise ConfigError(f"sources must be an open Array, or a list of them, not a {type(sources).__name__}")
    arrays = [sources] if isinstance(sources, Array) else list(sources)
    _check(fn, arrays, target, save_state)
    check_count("max_bytes", max_bytes)
    check_flag("resume", resume)
    check_progress(progress)
    runtime, _, layout = internals(target)
    meta = layout.meta
    box = region_of(region, meta.shape)
    itemsize = sum(array.dtype.itemsize for array in arrays)
    # Half of the limit for inputs, half for the objects of the write stream.
    waiting = Limiter(max(1, max_bytes // 2))

    out = target.write_stream(
        box.place, max_bytes=max(1, max_bytes // 2), resume=resume, progress=progress, state=state
    )
    if save_state is not None:
        out._on_put = lambda: save_state(out.state())  # noqa: SLF001  # no one else needs a call after every put
    async with out:

        async def work(part: Box) -> None:
            # Before the sources are read, which costs more than the write.
            if (resume or state is not None) and out.is_stored(part.place):
                return
            weight = max(1, prod(part.shape) * itemsize)
            await waiting.acquire(weight)
            try:
                blocks = await gather_all(*(array.get_slice(part.start, part.stop) for array in arrays))
                result = await runtime.cpu.run(partial(_computed, fn, blocks, part, target.url, layout))
                # The inputs are freed before the write waits for memory.
                blocks.clear()
            finally:
                waiting.release(weight)
            await out.write(part.place, result, copy=False)

        with bulk_unless_named():
            await run_workers(runtime.limits.requests, cells(box, meta.object_axes), work)


def _check(fn: object, arrays: Sequence[object], target: object, save_state: object) -> None:
    if not callable(fn) or iscoroutinefunction(fn):
        raise ConfigError(f"fn must be a plain (not async) function, because it runs in threads; got {fn!r}")
    if save_state is not None and (not callable(save_state) or iscoroutinefunction(save_state)):
        raise ConfigError(f"save_state must be a plain (not async) function; got {save_state!r}")
    if not isinstance(target, Array):
        raise ConfigError(f"target must be an open Array, not a {type(target).__name__}")
    if not arrays:
        raise ConfigError("sources must hold at least one array")
    for array in arrays:
        if not isinstance(array, Array):
            raise ConfigError(f"sources must be open Arrays, not a {type(array).__name__}")
        if array.shape != target.shape:
            raise ConfigError(
                f"{array.url} has shape {array.shape}, and the target has {target.shape}: they must be equal"
            )


def _computed(fn: Callable[..., Any], blocks: Sequence[Data], part: Box, url: str, layout: Layout) -> Data:
    try:
        result = as_array(layout, fn(*blocks))
        if result.shape != part.shape:
            result = np.broadcast_to(result, part.shape)
    except Exception as error:
        error.add_note(f"while map_chunks computed {part} of {url}")
        raise
    return result
