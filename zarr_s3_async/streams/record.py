"""The record of a copy: a small object beside the target that says what is, or was, copied there.

Which objects are copied is never recorded: what is stored tells it. The record only says whether what is stored may be
trusted: it was written by the same call, from the same state of the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from .._engine.nodes import join
from .._engine.runtime import Runtime
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._types import JSON
from ..stores.base import COPY_RECORD

_MAX_BYTES: Final = 2**16

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


async def read_record(runtime: Runtime, path: str) -> Record | None:
    """The record that is stored at a target; None where there is none that can be read."""
    blob = await runtime.store.get(join(path, COPY_RECORD))
    if blob is None or blob.size > _MAX_BYTES:
        return None
    try:
        record = json.loads(bytes(blob.data))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


async def write_record(runtime: Runtime, path: str, record: Record) -> None:
    """Store it."""
    await runtime.store.put(join(path, COPY_RECORD), json.dumps(record, indent=1, sort_keys=True).encode())


def is_earlier_state(stored: Record | None, record: Record) -> bool:
    """True where the same call has copied another state of the source."""
    return stored is not None and {**stored, "state": ""} == {**record, "state": ""}
