"""Copies on the workers of a cluster: each process makes the same plan, and runs parts of its passes.

Parts write disjoint sets of stored objects of the target and are idempotent: if a process is lost, another one runs its
parts again. Workers receive only the arguments of the copy and the numbers of a part.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Lock, get_running_loop
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

from .._array import Array, ArrayRef, GroupRef
from .._concurrency.executor import Executor, run_calls
from .._concurrency.limiter import bulk_unless_named
from .._concurrency.loop_thread import background_loop
from .._engine.runtime import Runtime
from .._group import Group
from .._shared import shared_session
from ..errors import ConfigError
from ..stores import optional
from .progress import Progress
from .record import Record
from .transfer import ArrayCopy, Pass

_PART_BYTES: Final = 2**28
"""Approximate bytes of a part: a few seconds of work."""
_MIN_PARTS: Final = 64
"""Minimum number of parts of a pass with at least as many items, so that a small copy uses all workers."""
_MAX_PARTS: Final = 2**17
"""Maximum number of parts of a pass: dask's scheduler handles 700 to 2,000 tasks per second."""
_KEPT_PLANS: Final = 4


class _Plan(Protocol):
    """The part of a `CopyPlan` that a worker uses."""

    @property
    def arrays(self) -> Sequence[ArrayCopy]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCall:
    """A call of `plan_copy`, in a form that another process can use."""

    name: str
    """Identifies this run of the copy: each process makes its plan once."""
    make_plan: Callable[..., Awaitable[_Plan]]
    """`plan_copy`, which pickles as a reference. It is passed because the module that defines it uses this one."""
    source: ArrayRef | GroupRef
    zarr_format: Any
    target: ArrayRef
    region: Any
    max_bytes: int
    options: Mapping[str, Any]


class _Part(NamedTuple):
    call: CopyCall
    array: int
    """Position of the array in the plan."""
    record: Record
    pass_number: int
    start: int
    stop: int


def describe_call(
    make_plan: Callable[..., Awaitable[_Plan]], source: Array | Group, runtime: Runtime, path: str, **arguments: Any
) -> CopyCall:
    """The call that plans a copy, for other processes.

    Args:
        make_plan: `plan_copy`.
        source: The array or group to copy.
        runtime: The runtime of the target's store.
        path: The path of the target in that store.
        arguments: `region`, `max_bytes` and `options` of `plan_copy`.

    Raises:
        ConfigError: Other processes cannot open the source or the target, because it is in the memory of this process.
    """
    where = type(source.ref)
    stores = source._runtime.store, runtime.store  # noqa: SLF001  # as `internals` does
    try:
        origin, place = map(optional.ref, stores)
    except TypeError as error:
        raise ConfigError(f"client= needs a source and a target that other processes can open: {error}") from error
    return CopyCall(
        name=uuid4().hex,
        make_plan=make_plan,
        source=where(url=origin.url, path=source.path, config=origin.config),
        zarr_format=source.metadata.zarr_format,
        target=ArrayRef(url=place.url, path=path, config=place.config),
        **arguments,
    )


async def transfer_on(client: Executor, call: CopyCall, number: int, copy: ArrayCopy) -> None:
    """Run the passes of one array on other processes. The array's meter counts each finished part.

    Args:
        client: The executor that runs the parts.
        call: The arguments of the copy.
        number: Position of the array in the plan.
        copy: The array's plan in this process, which has claimed the target.
    """
    for pass_number, one in enumerate(copy.passes()):
        size = _part_size(one)

        def parts(pass_number: int = pass_number, n: int = one.n, size: int = size) -> Iterator[_Part]:
            for start in range(0, n, size):
                yield _Part(call, number, copy.record, pass_number, start, min(n, start + size))

        def done(_: _Part, progress: Progress) -> None:
            copy.meter.add(progress.done, progress.bytes)

        await run_calls(client, run_part, parts(), done, n=-(-one.n // size))


def _part_size(one: Pass) -> int:
    """Number of items of a part."""
    size = min(_PART_BYTES // max(1, one.nbytes), -(-one.n // _MIN_PARTS))
    return max(1, size, -(-one.n // _MAX_PARTS))


def run_part(part: _Part) -> Progress:
    """Run a part on a worker, in the session that all blocking calls of the process share."""
    return background_loop().run(_run_part(part))


async def _run_part(part: _Part) -> Progress:
    plan = await _plan_in_this_process(part.call)
    with bulk_unless_named():
        return await plan.arrays[part.array].run_part(part.record, part.pass_number, part.start, part.stop)


_plans: OrderedDict[tuple[AbstractEventLoop, str], tuple[Lock, list[_Plan]]] = OrderedDict()
"""Plans of the latest copies, by event loop and `CopyCall.name`."""


async def _plan_in_this_process(call: CopyCall) -> _Plan:
    key = get_running_loop(), call.name
    # One plan per process: parts that arrive meanwhile wait for it instead of making their own.
    lock, found = _plans.setdefault(key, (Lock(), []))
    while len(_plans) > _KEPT_PLANS:
        _plans.popitem(last=False)
    async with lock:
        if not found:
            session = shared_session()
            if isinstance(call.source, ArrayRef):
                source: Array | Group = await session.open_array(call.source, zarr_format=call.zarr_format)
            else:
                source = await session.open_group(call.source, zarr_format=call.zarr_format)
            found.append(
                await call.make_plan(source, call.target, region=call.region, max_bytes=call.max_bytes, **call.options)
            )
    return found[0]
