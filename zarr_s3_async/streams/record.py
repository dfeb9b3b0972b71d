"""The record of a copy: a small object beside the target that states which copy was started there.

The record does not list the copied objects: a listing of the target shows them. It only tells whether the objects can
be kept, which is the case if the same call wrote them from the same state of the source.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from .._engine import nodes, removal
from .._engine.compare_and_swap import retry_conflicts
from .._engine.nodes import join, url_of
from .._engine.runtime import Runtime
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._types import JSON, Version, When
from ..errors import ConcurrentModification, Conflict, NodeExists
from ..stores.base import COPY_RECORD

_MAX_BYTES: Final = 2**16
_TRIES: Final = 5
_MIXED: Final = "mixed_with"
"""Field of a record that is set if another copy may have written to the same target."""

Record = Mapping[str, JSON]


def make_record(source: str, state: str, target: ArrayMeta | GroupMeta, **call: JSON) -> Record:
    """The record of one copy.

    Args:
        source: URL of the source.
        state: A digest of the source's metadata and stored objects.
        target: Metadata of the copy.
        call: Other arguments that the objects of the copy depend on.
    """
    return {"source": source, "state": state, "target": digest_of(formats.dump(target)), **call}


def digest_of(documents: Mapping[str, bytes]) -> str:
    """A digest of a node's metadata documents."""
    digest = blake2b(digest_size=16)
    for name, data in sorted(documents.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


class StoredRecord(NamedTuple):
    """The record stored at a target."""

    record: Record | None
    """None if there is no record, or it is unreadable."""
    version: Version | None
    """None if there is no record."""


async def read_record(runtime: Runtime, path: str) -> StoredRecord:
    """Read the record of a target."""
    blob = await runtime.store.get(join(path, COPY_RECORD))
    if blob is None:
        return StoredRecord(None, None)
    try:
        # Untrusted input: an object of this name may be anything.
        record = json.loads(bytes(blob.data)) if blob.size <= _MAX_BYTES else None
    except ValueError:
        record = None
    return StoredRecord(record if isinstance(record, dict) else None, blob.version)


async def _write_record(runtime: Runtime, path: str, record: Record, when: When) -> Version:
    return await runtime.store.put(join(path, COPY_RECORD), json.dumps(record, indent=1).encode(), when=when)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Reserves a target for one copy, so that no object of another copy, earlier or concurrent, becomes part of it."""

    runtime: Runtime
    path: str
    record: Record
    resume: bool
    overwrite: bool
    refuse: Callable[[], Awaitable[None]]
    """Raises NodeExists if the target contains objects that no copy has written."""
    clear: Callable[[], Awaitable[None]]
    """Deletes the objects of another copy."""

    async def make(self) -> bool:
        """Reserve the target. Returns True if the copy is complete, that is, its metadata is stored.

        Raises:
            NodeExists: Something other than this copy is stored there.
        """
        place = url_of(self.runtime.store, self.path)

        def message(attempts: int) -> str:
            return f"another process started a copy to {place} during each of {attempts} attempts to start this one"

        return await retry_conflicts(self.runtime, join(self.path, COPY_RECORD), self._attempt, message)

    async def _attempt(self) -> bool:
        runtime, path = self.runtime, self.path
        found, exists = await read_record(runtime, path), await nodes.exists(runtime.store, path)
        if self.resume and found.record == self.record:
            return exists
        if exists:
            if not self.overwrite:
                raise self._occupied(found.record)
            # It removes the record too, so it is read again.
            await removal.remove_node(runtime, path)
            found = await read_record(runtime, path)
        if found.version is None:
            await self._refuse()
            await _write_record(runtime, path, self.record, "absent")
            return False
        # Mark, delete, then write: if this run is killed before it has deleted everything, no copy accepts the record.
        clearing = {**self.record, "clearing": True}
        version = await _write_record(runtime, path, clearing, found.version)
        await self.clear()
        await _write_record(runtime, path, self.record, version)
        return False

    async def _refuse(self) -> None:
        try:
            await self.refuse()
        except NodeExists:
            # The objects belong to a copy that started after the record was read: the next attempt deals with it.
            if (await read_record(self.runtime, self.path)).version is not None:
                raise Conflict("another run has started", key=join(self.path, COPY_RECORD)) from None
            raise

    def _occupied(self, stored: Record | None) -> NodeExists:
        url = url_of(self.runtime.store, self.path)
        if stored is not None and _MIXED in stored:
            what = (
                f"another copy, {_describe(stored[_MIXED])}, wrote to the copy stored there, which may contain chunks "
                "of both; overwrite=True copies it again"
            )
        elif _is_earlier_state(stored, self.record):
            what = (
                f"a copy of an earlier state of {self.record['source']} is stored there; overwrite=True copies it again"
            )
        else:
            what = "another array or group is stored there; choose another target, or pass overwrite=True"
        return NodeExists(f"{url}: {what}", url=url, path=self.path)

    async def check(self) -> None:
        """Check that the target is still reserved for this copy.

        If another copy has reserved it, its record is marked: writes of this copy that were in flight may have
        replaced its chunks.

        Raises:
            ConcurrentModification: The target is not reserved for this copy any more.
        """
        url = url_of(self.runtime.store, self.path)
        found = await read_record(self.runtime, self.path)
        if found.record == self.record:
            return
        if found.record is None:
            what = (
                f"objects of the copy at {url}, or its record, were deleted while this copy ran; delete the rest with "
                f"session.delete({url!r}, everything=True), and copy again"
            )
        elif {**found.record, _MIXED: None} == {**self.record, _MIXED: None}:
            what = (
                f"another copy, {_describe(found.record[_MIXED])}, was running to {url} when this one started, and "
                "wrote to the same target; copy again, which deletes the objects of both"
            )
        else:
            await self._mark_mixed(found)
            what = (
                f"another copy, {_describe(found.record)}, to {url} was started while this one ran; one of the two "
                "needs another target"
            )
        raise ConcurrentModification(what, attempts=1)

    async def _mark_mixed(self, found: StoredRecord) -> None:
        """Note in the record of another copy that this one wrote to its target."""
        for _ in range(_TRIES):
            if found.record is None or found.version is None or _MIXED in found.record:
                return
            mixed = {**found.record, _MIXED: {name: self.record[name] for name in ("source", "target")}}
            try:
                await _write_record(self.runtime, self.path, mixed, found.version)
            except Conflict:  # the other copy is deleting old objects, or a third copy has started
                found = await read_record(self.runtime, self.path)
            else:
                return


def _describe(record: JSON) -> str:
    """The description of a copy in an error message."""
    return f"of {record.get('source')}" if isinstance(record, Mapping) else "of another source"


def _is_earlier_state(stored: Record | None, record: Record) -> bool:
    """True if the same call copied another state of the source."""
    return stored is not None and {**stored, "state": ""} == {**record, "state": ""}
