"""Computing one array from others, object by object: read, compute in threads, write, all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ..errors import ConfigError
from .access import inside
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
) -> None:
    """Fill `target` with `fn` of the same region of every source, one stored object of the target at a time.

    Reads, computations and writes overlap. `fn` runs in the threads of the target's session (`Limits.cpu_threads`), so
    it must be safe to call in several at once; NumPy releases the GIL for most of its work.

    Args:
        fn: Takes one array per source, of equal shapes, and returns one of that shape, or what broadcasts to it. It may
            keep none of them, nor change them once it has returned.
        sources: One array, or several, all of the target's shape. A chunk that several objects of the target need is
            read for each of them, unless its session caches chunks.
        target: What is written.
        region: As for `Array.stream`; None is all of it.
        max_bytes: Decoded bytes of the blocks in work, inputs and results together, at most; the blocks of a larger
            object are alone. The sessions' `Limits.bytes` bounds what is being decoded and encoded besides.
        progress: Called with a `Progress` for every object that is put; or `rich` or `tqdm`.
        resume: As for `Array.write_stream`: what an interrupted run has stored is neither computed nor written.

    Raises:
        ConfigError: The shapes differ, or an option has a value that it cannot have.
        Exception: Whatever `fn` raises, with a note that says for which region of the target. No further object is
            begun, puts in flight are finished, and it carries the `outcome`.
    """
    if not isinstance(sources, Array | list | tuple):
        raise ConfigError(f"sources must be an open Array, or a list of them, not a {type(sources).__name__}")
    arrays = [sources] if isinstance(sources, Array) else list(sources)
    _check(fn, arrays, target)
    check_count("max_bytes", max_bytes)
    check_flag("resume", resume)
    check_progress(progress)
    runtime, _, layout = inside(target)
    meta = layout.meta
    box = region_of(region, meta.shape)
    itemsize = sum(array.dtype.itemsize for array in arrays)
    waiting = Limiter(max(1, max_bytes // 2))

    async with target.write_stream(
        box.place, max_bytes=max(1, max_bytes // 2), resume=resume, progress=progress
    ) as out:

        async def work(part: Box) -> None:
            if resume and out.is_stored(part.place):
                return
            weight = max(1, prod(part.shape) * itemsize)
            await waiting.acquire(weight)
            try:
                blocks = await gather_all(*(array.get_slice(part.start, part.stop) for array in arrays))
                result = await runtime.cpu.run(partial(_computed, fn, blocks, part, target.url, layout))
                blocks.clear()
            finally:
                waiting.release(weight)
            await out.write(part.place, result, copy=False)

        with bulk_unless_named():
            await run_workers(runtime.limits.requests, cells(box, meta.object_axes), work)


def _check(fn: object, arrays: Sequence[object], target: object) -> None:
    if not callable(fn) or iscoroutinefunction(fn):
        raise ConfigError(f"fn must be a plain function: it runs in threads, unlike {fn!r}")
    if not isinstance(target, Array):
        raise ConfigError(f"target must be an open Array, not a {type(target).__name__}")
    if not arrays:
        raise ConfigError("sources must hold at least one array")
    for array in arrays:
        if not isinstance(array, Array):
            raise ConfigError(f"sources must be open Arrays, not a {type(array).__name__}")
        if array.shape != target.shape:
            raise ConfigError(f"{array.url} has shape {array.shape} and the target {target.shape}: they must be equal")


def _computed(fn: Callable[..., Any], blocks: Sequence[Data], part: Box, url: str, layout: Layout) -> Data:
    try:
        result = as_array(layout, fn(*blocks))
        if result.shape != part.shape:
            result = np.broadcast_to(result, part.shape)
    except Exception as error:
        error.add_note(f"while map_chunks computed {part} of {url}")
        raise
    return result
