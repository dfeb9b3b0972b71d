"""The record of a copy: a small object beside the target that says what is, or was, copied there.

Which objects are copied is never recorded: what is stored tells it. The record only says whether what is stored may be
trusted: it was written by the same call, from the same state of the source.
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
"""Field of a record, once another copy may have written to the same target meanwhile."""

Record = Mapping[str, JSON]


def make_record(source: str, state: str, target: ArrayMeta | GroupMeta, **call: JSON) -> Record:
    """The record of one copy.

    Args:
        source: URL of the source.
        state: A digest of all that is stored of it.
        target: Metadata of the copy.
        call: What else decides about the objects of the copy.
    """
    return {"source": source, "state": state, "target": digest_of(formats.dump(target)), **call}


def digest_of(documents: Mapping[str, bytes]) -> str:
    """A digest of a node's documents."""
    digest = blake2b(digest_size=16)
    for name, data in sorted(documents.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


class StoredRecord(NamedTuple):
    """What is stored as the record of a target."""

    record: Record | None
    """None where there is none that can be read."""
    version: Version | None
    """None where nothing is stored."""


async def read_record(runtime: Runtime, path: str) -> StoredRecord:
    """The record that is stored at a target."""
    blob = await runtime.store.get(join(path, COPY_RECORD))
    if blob is None:
        return StoredRecord(None, None)
    try:
        record = json.loads(bytes(blob.data)) if blob.size <= _MAX_BYTES else None
    except ValueError:
        record = None
    return StoredRecord(record if isinstance(record, dict) else None, blob.version)


async def _write_record(runtime: Runtime, path: str, record: Record, when: When) -> Version:
    return await runtime.store.put(join(path, COPY_RECORD), json.dumps(record, indent=1).encode(), when=when)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """How a copy takes its target: so that what is stored there is of this copy, and of no other that runs now or ran
    before."""

    runtime: Runtime
    path: str
    record: Record
    resume: bool
    overwrite: bool
    refuse: Callable[[], Awaitable[None]]
    """Raises NodeExists where objects are stored that no copy has left."""
    clear: Callable[[], Awaitable[None]]
    """Deletes what another copy has left."""

    async def make(self) -> bool:
        """Take the target. True where the copy has its metadata already.

        Raises:
            NodeExists: Something that is not this copy is stored there.
        """
        place = url_of(self.runtime.store, self.path)

        def given_up(attempts: int) -> str:
            return f"others began copies to {place} during all of {attempts} attempts to begin this one"

        return await retry_conflicts(self.runtime, join(self.path, COPY_RECORD), self._attempt, given_up)

    async def _attempt(self) -> bool:
        runtime, path = self.runtime, self.path
        found, exists = await read_record(runtime, path), await nodes.exists(runtime.store, path)
        if self.resume and found.record == self.record:
            return exists
        if exists:
            if not self.overwrite:
                raise self._occupied(found.record)
            await removal.remove_node(runtime, path)
            found = await read_record(runtime, path)
        if found.version is None:
            await self._refuse()
            await _write_record(runtime, path, self.record, "absent")
            return False
        # In this order: a run that is killed before all is deleted leaves a record that no copy takes for its own.
        clearing = {**self.record, "clearing": True}
        version = await _write_record(runtime, path, clearing, found.version)
        await self.clear()
        await _write_record(runtime, path, self.record, version)
        return False

    async def _refuse(self) -> None:
        try:
            await self.refuse()
        except NodeExists:
            if (await read_record(self.runtime, self.path)).version is not None:
                raise Conflict("another run has begun meanwhile", key=join(self.path, COPY_RECORD)) from None
            raise

    def _occupied(self, stored: Record | None) -> NodeExists:
        url = url_of(self.runtime.store, self.path)
        if stored is not None and _MIXED in stored:
            what = (
                f"a copy is stored there to which another one, {_named(stored[_MIXED])}, wrote as well, so that chunks "
                "of both may lie in it; overwrite=True copies it again"
            )
        elif _is_earlier_state(stored, self.record):
            what = (
                f"a copy of an earlier state of {self.record['source']} is stored there; overwrite=True copies it again"
            )
        else:
            what = "another array or group is stored there; choose another place, or pass overwrite=True"
        return NodeExists(f"{url}: {what}", url=url, path=self.path)

    async def check(self) -> None:
        """See whether the target is still of this copy alone. Where another one has taken it, that one is told: what
        this one had in flight may lie among its chunks.

        Raises:
            ConcurrentModification: It is not.
        """
        url = url_of(self.runtime.store, self.path)
        found = await read_record(self.runtime, self.path)
        if found.record == self.record:
            return
        if found.record is None:
            what = (
                f"what was copied to {url}, or the record of it, was removed while this copy ran; remove what is left "
                f"with session.delete({url!r}, everything=True), and copy again"
            )
        elif {**found.record, _MIXED: None} == {**self.record, _MIXED: None}:
            what = (
                f"another copy, {_named(found.record[_MIXED])}, was running to {url} when this one began, and wrote "
                "there as well; copy again, which removes what both have written"
            )
        else:
            await self._tell(found)
            what = (
                f"another copy, {_named(found.record)}, to {url} was begun while this one ran; one of the two has to "
                "go elsewhere"
            )
        raise ConcurrentModification(what, attempts=1)

    async def _tell(self, found: StoredRecord) -> None:
        """Write into the record of another copy that this one wrote to its target."""
        for _ in range(_TRIES):
            if found.record is None or found.version is None or _MIXED in found.record:
                return
            mixed = {**found.record, _MIXED: {name: self.record[name] for name in ("source", "target")}}
            try:
                await _write_record(self.runtime, self.path, mixed, found.version)
            except Conflict:  # it is clearing the place, or a third one has come
                found = await read_record(self.runtime, self.path)
            else:
                return


def _named(record: JSON) -> str:
    """A copy, for people who made two."""
    return f"of {record.get('source')}" if isinstance(record, Mapping) else "of another source"


def _is_earlier_state(stored: Record | None, record: Record) -> bool:
    """True where the same call has copied another state of the source."""
    return stored is not None and {**stored, "state": ""} == {**record, "state": ""}
