"""Copies of arrays and groups between any two stores: planned, resumable, and verified on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from os import PathLike
from typing import Any, Final, Literal, TypeAlias, Unpack, cast

import numpy as np

from .._array import Array, ArrayRef, GroupRef
from .._concurrency.executor import Executor, check_client
from .._concurrency.limiter import bulk_unless_named
from .._concurrency.workers import run_workers
from .._engine import creation, nodes
from .._engine.explain import si
from .._engine.hierarchy import UnreadableNode
from .._engine.nodes import join
from .._engine.runtime import Runtime, url_of
from .._grid import spelled
from .._group import Group
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._model.names import check_path
from .._options import check_count, check_flag, check_instance
from .._session import Session
from .._shared import shared_session
from .._types import JSON
from ..errors import ConcurrentModification, ConfigError, NodeExists, VerificationFailed
from ..stores.base import Store
from .access import internals
from .boxes import Box, region_of
from .cluster import CopyCall, describe_call, transfer_on
from .conversion import CopyOptions, check_options, converted
from .progress import ProgressOption, check_progress, metered
from .read import BlockStream
from .record import Claim, Record, digest_of, make_record
from .stored import AllMarks, list_source, list_stored
from .transfer import ArrayCopy, BoxMemory, Stage

Place: TypeAlias = "str | PathLike[str] | Store | ArrayRef | GroupRef"
Source: TypeAlias = "Array | Group | Place"

_PUT_PRICE: Final = 0.005 / 1000
_GET_PRICE: Final = 0.0004 / 1000
"""US dollars per request of Amazon S3 Standard in us-east-1: PUT, COPY and LIST; GET."""
_ARRAYS_AT_ONCE: Final = 8
"""Arrays of a group that are copied concurrently: the copy of a small array is dominated by latency."""


@dataclass(frozen=True, slots=True)
class _GroupCopy:
    """A group to create at the target."""

    runtime: Runtime
    path: str
    meta: GroupMeta
    url: str


class CopyPlan:
    """What a copy will do and cost. No data is read or written before `run`.

    Made by `plan_copy`. After an interruption, run the same plan again, or a new plan made with the same arguments.
    """

    __slots__ = ("_call", "_consolidates", "_groups", "_overwrite", "_record", "arrays", "source_url", "target_url")

    def __init__(
        self,
        source_url: str,
        target_url: str,
        arrays: Sequence[ArrayCopy],
        groups: Sequence[_GroupCopy] = (),
        *,
        record: Record | None = None,
        consolidates: bool = False,
        overwrite: bool = False,
        call: Callable[[], CopyCall],
    ) -> None:
        self._call = call
        self.source_url: str = source_url
        self.target_url: str = target_url
        self.arrays: tuple[ArrayCopy, ...] = tuple(arrays)
        """One plan per array."""
        self._groups = tuple(groups)
        self._record = record
        self._consolidates = consolidates
        self._overwrite = overwrite

    # What it costs

    @property
    def stages(self) -> list[Stage]:
        """The passes over each array, in order."""
        return [stage for array in self.arrays for stage in array.stages()]

    @property
    def get_requests(self) -> int:
        """Upper bound of the requests priced as GET, without those for metadata."""
        return sum(stage.get_requests for stage in self.stages)

    @property
    def put_requests(self) -> int:
        """Upper bound of the requests priced as PUT: puts, and copies inside the service."""
        return sum(stage.put_requests + stage.copy_requests for stage in self.stages)

    @property
    def decoded_bytes(self) -> int:
        """Upper bound of the bytes decoded and encoded; 0 if encoded chunks are copied without decoding."""
        return sum(stage.decoded_bytes for stage in self.stages)

    @property
    def stored_bytes(self) -> int:
        """Stored (encoded) bytes of the sources."""
        return sum(array.stored_bytes for array in self.arrays)

    @property
    def memory_bytes(self) -> int:
        """Maximum bytes of memory in addition to those that `Limits.bytes` bounds."""
        # Not the sum: the boxes of all arrays share one limit.
        return max((array.memory_bytes for array in self.arrays), default=0)

    @property
    def price(self) -> float:
        """US dollars for the requests, at prices of Amazon S3 Standard in us-east-1; without data transfer."""
        return self.get_requests * _GET_PRICE + self.put_requests * _PUT_PRICE

    def as_dict(self) -> dict[str, JSON]:
        """The plan as JSON-compatible values."""
        return {
            "source": self.source_url,
            "target": self.target_url,
            "get_requests": self.get_requests,
            "put_requests": self.put_requests,
            "decoded_bytes": self.decoded_bytes,
            "stored_bytes": self.stored_bytes,
            "memory_bytes": self.memory_bytes,
            "price": self.price,
            "arrays": [
                {
                    "source": array.source.url,
                    "target": array.url,
                    "stages": [
                        {
                            "what": stage.what,
                            "boxes": stage.boxes,
                            "box": None if stage.box is None else list(stage.box),
                        }
                        for stage in array.stages()
                    ],
                }
                for array in self.arrays
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<CopyPlan {self.source_url} to {self.target_url}, {len(self.arrays)} arrays>"

    def print(self) -> None:
        """Print the plan."""
        print(self)  # noqa: T201  # the purpose of this method

    def _lines(self) -> Iterator[str]:
        yield f"copy of {self.source_url} to {self.target_url}"
        for array in self.arrays:
            old, new = array.source, array.meta
            grids = f"{_grid(old.metadata)} to {_grid(new)}"
            yield f"  {array.url}, {new.shape} {new.dtype}: {grids}"
            for number, stage in enumerate(array.stages(), 1):
                box = "" if stage.box is None else f" of {stage.box}"
                requests = f"{stage.get_requests:,} GET, {stage.put_requests:,} PUT"
                if stage.copy_requests:
                    requests = f"{stage.copy_requests:,} COPY"
                yield f"    {number}. {stage.what}: {stage.boxes:,} boxes{box}, {requests}"
        yield (
            f"requests: {self.get_requests:,} GET, {self.put_requests:,} PUT, "
            f"about ${self.price:,.4f} on Amazon S3 Standard"
        )
        yield (
            f"bytes: {si(self.stored_bytes)} stored at the source, {si(self.decoded_bytes)} to decode and encode; "
            f"memory: {si(self.memory_bytes)} in addition to Limits.bytes"
        )
        limit = max((array.max_bytes for array in self.arrays), default=0)
        if self.memory_bytes > limit:
            yield (
                f"max_bytes={limit:,} is too small and will be exceeded: a chunk of the source, or an object of the "
                f"target, takes {self.memory_bytes:,} bytes"
            )

    # The work

    async def run(
        self,
        *,
        progress: ProgressOption = None,
        resume: bool = True,
        verify: bool = False,
        client: Executor | None = None,
    ) -> Array | Group:
        """Copy the objects that are not stored at the target yet.

        Args:
            progress: Called with a `Progress` for every object; or `rich` or `tqdm`.
            resume: Keep the objects that an interrupted run of the same copy has stored. False copies everything.
            verify: Read source and target after the copy, and compare every element. This runs in this process.
            client: Runs the copy on other processes: a `distributed.Client`, or an executor of processes. They need
                credentials of their own for source and target, and each uses up to `max_bytes` for its boxes. If the
                client retries the tasks of a lost process, another process does its unfinished parts.

        Returns:
            The copy, open.

        Raises:
            ConcurrentModification: A source has changed since the plan was made.
            NodeExists: Something other than this copy is stored at the target.
            VerificationFailed: The copy differs: the source or the target was written to during the copy.
            ConfigError: `client` was passed, and the source or the target is in the memory of this process.
        """
        check_flag("resume", resume)
        check_flag("verify", verify)
        check_progress(progress)
        for array in self.arrays:
            array.runtime.guard()
        # Objects that the plan lists as absent would become fill in the copy, and an earlier run may have copied an
        # older state of the source.
        await run_workers(min(_ARRAYS_AT_ONCE, len(self.arrays)), iter(self.arrays), _check_unchanged)
        return await self._run(progress, resume=resume, verify=verify, client=client)

    async def _run(
        self, progress: ProgressOption, *, resume: bool, verify: bool, client: Executor | None
    ) -> Array | Group:
        copies: dict[str, Array] = {}
        call = None if client is None else self._call_for(client)
        units = sum(array.units() for array in self.arrays)
        with bulk_unless_named(), metered(progress, units, "copy") as meter:
            await self._create_groups(resume=resume)

            async def run(item: tuple[int, ArrayCopy]) -> None:
                number, array = item
                elsewhere = None if client is None or call is None else partial(transfer_on, client, call, number)
                copies[array.path] = await array.run(meter, resume=resume, transfer=elsewhere)

            await run_workers(min(_ARRAYS_AT_ONCE, len(self.arrays)), enumerate(self.arrays), run)
        # `ArrayCopy.run` has invalidated what was cached of the target, so this reads what is stored.
        if verify:
            for array in self.arrays:
                await _compare(array, copies[array.path])
        if not self._groups:
            return copies[self.arrays[0].path]
        root = self._groups[0]
        group = Group(root.runtime, root.path, root.meta)
        if self._consolidates:
            await group.consolidate()
        return group

    def _call_for(self, client: Executor) -> CopyCall:
        check_client(client)
        return self._call()

    async def _create_groups(self, *, resume: bool) -> None:
        if not self._groups:
            return
        root = self._groups[0]
        runtime, path = root.runtime, root.path
        assert self._record is not None  # noqa: S101  # groups have one

        async def nothing() -> None:
            """A group has no objects other than its metadata; its arrays have records of their own."""

        claim = Claim(
            runtime=runtime,
            path=path,
            record=self._record,
            resume=resume,
            overwrite=self._overwrite,
            refuse=nothing,
            clear=nothing,
        )
        await claim.make()
        for group in self._groups:  # parents first
            # Created by an earlier run of this copy.
            if await nodes.kind_at(runtime.store, group.path) == "group":
                continue
            try:
                await creation.create(runtime, group.path, group.meta, overwrite=False)
            except NodeExists:
                await claim.check()  # fine if a concurrent run of the same copy created it


async def plan_copy(
    source: Source,
    target: Place,
    *,
    path: str = "",
    region: Any = None,
    max_bytes: int = 2**28,
    overwrite: bool = False,
    session: Session | None = None,
    **options: Unpack[CopyOptions],
) -> CopyPlan:
    """Plan a copy of an array, or of a group with everything below it. Only metadata and listings are read.

    The copy does as little as the options allow. If chunks, codecs and fill value stay the same, encoded chunks are
    copied without decoding. If stored objects stay the same as well, and source and target are on S3 with the same
    options, S3 copies them inside the service.

    Args:
        source: An open array or group, or a URL, path, `Store` or ref of one.
        target: The location of the copy: a URL, a path, a `Store` or a ref. It must be empty, or hold an unfinished
            copy that was made with the same arguments.
        path: Path below `target`.
        region: The region of an array to copy, as slices without a step; the copy has the shape of the region.
        max_bytes: Maximum decoded bytes of all boxes in memory. A rechunking with larger boxes goes through an
            intermediate array, in two stages. One source chunk and one target object are always allowed. The session's
            `Limits.bytes` separately bounds the chunks being encoded and decoded.
        overwrite: Remove an existing array or group at the target first.
        session: Opens source and target if the source is not open yet; default: the loop's shared session.
        options: The properties to change; see `CopyOptions`. For a group, `chunks` and `shards` map paths of arrays in
            the group to values.

    Returns:
        The plan. `print(plan)` shows it, `await plan.run()` executes it.

    Raises:
        ConfigError: An option has an invalid value, or does not fit the source.
        NodeNotFound: There is no array or group at `source`.
    """
    check_options(options)
    check_count("max_bytes", max_bytes)
    check_flag("overwrite", overwrite)
    if session is not None:
        check_instance("session", session, Session, "zs.Session()")
    if not isinstance(source, Array | Group):
        source = await (session or shared_session()).open(cast("Any", source))
    elif session is not None:
        raise ConfigError("the source is open, and its session also opens the target: omit session=")
    if isinstance(target, Array | Group):
        raise ConfigError(
            "the target must be a URL, a path, a Store or a ref, where the copy is created; to write to an existing "
            "array, use zs.map_chunks or array.write_stream"
        )
    if isinstance(source, Array):
        runtime, below = internals(source)[0].resolve(target, path)
        # Before anything is listed or, with `overwrite`, deleted.
        _check_apart(internals(source)[0], source.path, runtime, below)
        copy = await _plan_array(source, runtime, below, region, options, max_bytes=max_bytes, overwrite=overwrite)
        arguments = {"region": region, "max_bytes": max_bytes, "options": options}
        call = partial(describe_call, plan_copy, source, runtime, below, **arguments)
        return CopyPlan(source.url, copy.url, [copy], overwrite=overwrite, call=call)
    if region is not None:
        raise ConfigError("region= applies to an array, not to a group: copy the arrays of the group one by one")
    runtime, below = source._runtime.resolve(target, path)  # noqa: SLF001  # as `internals` does for arrays
    _check_apart(source._runtime, source.path, runtime, below)  # noqa: SLF001  # likewise
    return await _plan_group(source, runtime, below, options, max_bytes=max_bytes, overwrite=overwrite)


async def copy(
    source: Source,
    target: Place,
    *,
    path: str = "",
    region: Any = None,
    max_bytes: int = 2**28,
    overwrite: bool = False,
    session: Session | None = None,
    progress: ProgressOption = None,
    resume: bool = True,
    verify: bool = False,
    client: Executor | None = None,
    **options: Unpack[CopyOptions],
) -> Array | Group:
    """Copy an array, or a group with everything below it: `plan_copy` and `CopyPlan.run` in one call.

    If a copy is interrupted, the same call copies only the missing objects. The copy cannot be opened before it is
    complete, because its metadata is written last.

    Args:
        source: See `plan_copy`.
        target: See `plan_copy`.
        path: See `plan_copy`.
        region: See `plan_copy`.
        max_bytes: See `plan_copy`.
        overwrite: See `plan_copy`.
        session: See `plan_copy`.
        progress: See `CopyPlan.run`.
        resume: See `CopyPlan.run`.
        verify: See `CopyPlan.run`.
        client: See `CopyPlan.run`.
        options: See `plan_copy`.

    Returns:
        The copy, open.
    """
    check_progress(progress)
    check_flag("resume", resume)
    check_flag("verify", verify)
    plan = await plan_copy(
        source, target, path=path, region=region, max_bytes=max_bytes, overwrite=overwrite, session=session, **options
    )
    # `_run`, not `run`: the plan has just been made, so the sources need no check for changes.
    return await plan._run(progress, resume=resume, verify=verify, client=client)  # noqa: SLF001  # of this module


async def _plan_array(
    source: Array,
    runtime: Runtime,
    path: str,
    region: Any,
    options: CopyOptions,
    *,
    max_bytes: int,
    overwrite: bool,
) -> ArrayCopy:
    origin, source_path, layout = internals(source)
    box = region_of(region, source.shape)
    meta = converted(layout.meta, box, options)
    path = check_path(path, zarr_format=meta.zarr_format)
    stored = await list_source(origin, source_path, layout.meta)
    state = blake2b(digest_size=16)
    state.update(digest_of(formats.dump(layout.meta)).encode())
    state.update(stored.digest.encode())
    return ArrayCopy(
        source,
        box,
        runtime,
        path,
        meta,
        stored,
        state.hexdigest(),
        max_bytes=max_bytes,
        overwrite=overwrite,
    )


async def _check_unchanged(copy: ArrayCopy) -> None:
    """Raise if the source has changed since the plan was made. Attributes are ignored: the copy gets the planned ones.

    Raises:
        ConcurrentModification: The source has changed.
    """
    runtime, path, layout = internals(copy.source)
    now = cast("ArrayMeta", (await nodes.load(runtime, path, layout.meta.zarr_format, "array")).meta)
    same = formats.dump(formats.with_attributes(now, {})) == formats.dump(formats.with_attributes(copy.origin, {}))
    if same and not isinstance(copy.stored.marks, AllMarks):
        same = (await list_stored(runtime, path, now)).digest == copy.stored.digest
    if not same:
        raise ConcurrentModification(
            f"{copy.source.url} has changed since this copy was planned: plan the copy again; if the array is open, "
            "call `await array.refresh()` first",
            attempts=1,
        )


async def _plan_group(
    source: Group, runtime: Runtime, path: str, options: CopyOptions, *, max_bytes: int, overwrite: bool
) -> CopyPlan:
    below = await source._children()  # noqa: SLF001  # as above
    found = [item async for item in below.walk()]
    zarr_format = options.get("zarr_format", source.metadata.zarr_format)
    for _, member in found:
        if isinstance(member, UnreadableNode):
            raise member.error  # a copy without it would look complete
    arrays = {name: meta for name, meta in found if isinstance(meta, ArrayMeta)}
    of_each = {name: _options_of(name, options) for name in arrays}
    _check_paths(options, arrays)
    groups = [("", source.metadata), *((name, meta) for name, meta in found if isinstance(meta, GroupMeta))]
    copies: list[ArrayCopy] = []
    memory = BoxMemory(max_bytes)
    for name, meta in arrays.items():
        handle = Array(source._runtime, join(source.path, name), meta)  # noqa: SLF001  # as above
        copy = await _plan_array(
            handle, runtime, join(path, name), None, of_each[name], max_bytes=max_bytes, overwrite=overwrite
        )
        copy.memory = memory  # several arrays are copied at a time
        copies.append(copy)
    made = [
        _GroupCopy(runtime, place, _group_meta(meta, zarr_format), f"{runtime.store.url}/{place}".rstrip("/"))
        for name, meta in groups
        for place in [check_path("/".join(filter(None, (path, name))), zarr_format=zarr_format)]
    ]
    state = blake2b(digest_size=16)
    for group in made:
        state.update(f"{group.path}\0{digest_of(formats.dump(group.meta))}\n".encode())
    # Names are part of the digest: a list of them would exceed the maximum size of a record.
    for name in sorted(arrays):
        state.update(f"{name}\n".encode())
    record = make_record(source.url, state.hexdigest(), made[0].meta)
    return CopyPlan(
        source.url,
        made[0].url,
        copies,
        made,
        record=record,
        consolidates=source.metadata.consolidated is not None,
        overwrite=overwrite,
        call=partial(
            describe_call, plan_copy, source, runtime, path, region=None, max_bytes=max_bytes, options=options
        ),
    )


def _group_meta(meta: GroupMeta, zarr_format: Literal[2, 3]) -> GroupMeta:
    if zarr_format == meta.zarr_format:
        return formats.without_consolidated(meta)
    return formats.new_group(meta.attributes, zarr_format=zarr_format)


def _options_of(name: str, options: CopyOptions) -> CopyOptions:
    """The options for one array of a group."""
    own: dict[str, Any] = dict(options)
    for option in ("chunks", "shards"):
        if option in own:
            if not isinstance(own[option], Mapping):
                raise ConfigError(f"for a group, {option} must map paths of its arrays to values, not {own[option]!r}")
            if name in own[option]:
                own[option] = own[option][name]
            else:
                del own[option]
    return cast("CopyOptions", own)


def _check_paths(options: CopyOptions, arrays: Mapping[str, ArrayMeta]) -> None:
    for option in ("chunks", "shards"):
        for name in cast("Mapping[str, Any]", options).get(option) or ():
            if name not in arrays:
                raise ConfigError(
                    f"{option} names {name!r}, which is not an array of the group: it has {', '.join(sorted(arrays))}"
                )


def _check_apart(origin: Runtime, source_path: str, runtime: Runtime, path: str) -> None:
    source, target = origin.name_of(source_path).rstrip("/"), runtime.name_of(path).rstrip("/")
    here, there = url_of(origin, source_path), url_of(runtime, path)
    if target == source or target.startswith(f"{source}/"):
        raise ConfigError(f"the target {there} is inside the source {here}: choose another target")
    if source.startswith(f"{target}/"):  # overwrite=True would delete the source together with the target
        raise ConfigError(f"the source {here} is inside the target {there}: choose another target")


async def _compare(plan: ArrayCopy, target: Array) -> None:
    """Read source and target, and compare the bytes of their elements."""
    blocks: BlockStream = target.stream(order="any")
    async with blocks:
        async for block in blocks:
            here = Box(tuple(at.start for at in block.place), tuple(at.stop for at in block.place))
            wanted = await plan.read(plan.in_source(here))
            if not _equal(wanted, block.data):
                raise VerificationFailed(
                    f"elements {here} of {target.url} differ from those of {plan.source.url}: the source or the target "
                    "was written to during the copy; copy again with overwrite=True",
                    url=target.url,
                    path=target.path,
                )


def _equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if other.dtype.hasobject:
        return bool(np.array_equal(one, other))
    # Bytes, not values: NaN equals itself, and 0.0 differs from -0.0.
    return one.astype(other.dtype).tobytes() == other.tobytes()


def _grid(meta: ArrayMeta) -> str:
    return f"chunks {spelled(meta.chunk_axes)}" + (f" in shards {spelled(meta.object_axes)}" if meta.shards else "")
