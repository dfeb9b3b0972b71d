"""Verification on the workers of a cluster: this process lists and reports, the workers read and decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from ._array import ArrayRef
from ._concurrency.executor import Executor, check_client, submit_call
from ._concurrency.limiter import bulk_unless_named
from ._concurrency.loop_thread import background_loop
from ._concurrency.workers import run_workers
from ._engine.runtime import Runtime
from ._model import formats
from ._model.metadata import ArrayMeta
from ._shared import shared_session
from ._types import Coords
from ._verify.objects import CheckedObject, check_object, objects_of
from ._verify.walk import CheckElsewhere, ObjectsToCheck
from .errors import ConfigError, StoreError
from .stores import optional
from .stores.base import Entry

Checked = CheckedObject | StoreError | None


class _Call(NamedTuple):
    name: str
    """Unique for each call, since a cluster returns the cached result of an earlier call with the same name."""
    store: ArrayRef
    what: ObjectsToCheck


def checks_on(client: Executor, runtime: Runtime) -> CheckElsewhere:
    """The function with which `verify` checks objects on a cluster.

    Args:
        client: Runs the checks.
        runtime: The store and its session.

    Raises:
        ConfigError: Other processes cannot open the store, for example a memory store.
    """
    check_client(client)
    try:
        ref = optional.ref(runtime.store)
    except TypeError as error:
        raise ConfigError(f"client= needs a store that other processes can open: {error}") from error
    store = ArrayRef(url=ref.url, config=ref.config)

    async def check(what: ObjectsToCheck) -> Sequence[Checked]:
        found: Sequence[Checked] = await submit_call(client, check_objects, _Call(uuid4().hex, store, what))
        return found

    return check


def check_objects(call: _Call) -> list[Checked]:
    """Check objects on a worker, in the session that the blocking calls of its process share."""
    return background_loop().run(_check(call))


async def _check(call: _Call) -> list[Checked]:
    session = shared_session()
    runtime, _ = session._resolve(call.store, "")  # noqa: SLF001  # internal to the package
    meta = formats.parse_node(call.what.documents, url=call.what.path, zarr_format=call.what.zarr_format)
    assert isinstance(meta, ArrayMeta)  # noqa: S101  # the client sends arrays only
    objects = objects_of(runtime, meta)
    found: list[Checked] = [None] * len(call.what.objects)

    async def check(item: tuple[int, tuple[Entry, Coords]]) -> None:
        number, (entry, position) = item
        try:
            found[number] = await check_object(objects, entry, position)
        # A finding of this object; the others are checked nevertheless.
        except StoreError as error:
            found[number] = error

    # Other calls on this worker, such as tasks that read regions, go first.
    with bulk_unless_named():
        await run_workers(min(runtime.limits.requests, len(found)), enumerate(call.what.objects), check)
    return found
