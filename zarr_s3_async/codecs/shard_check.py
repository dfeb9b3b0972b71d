"""Whether the entries of a shard's index can stand beside one another, and which bytes of the object nobody wants.

A reader needs none of this: it takes an entry by itself. That each lies within the object is `decode_index`'s to say.
"""

from __future__ import annotations

import numpy as np

from ..errors import ChunkDecodeError
from .base import Array
from .shard_format import MISSING, NAME, ShardLayout


def stored_slots(index: Array) -> Array:
    """The slots that have an entry, sorted.

    Args:
        index: What `ShardLayout.decode_index` gave.
    """
    return np.flatnonzero(index[:, 1] != MISSING)


def unused_bytes(layout: ShardLayout, index: Array, object_size: int) -> int:
    """Bytes of the object that belong to no chunk and not to the index.

    Args:
        layout: Of the shard.
        index: What `ShardLayout.decode_index` gave.
        object_size: Bytes of the whole object.

    Raises:
        ChunkDecodeError: Two chunks share bytes, or one shares them with the index.
    """
    slots = stored_slots(index)
    at_start = layout.index_location == "start"
    index_at = 0 if at_start else object_size - layout.index_nbytes
    # The index is the last row: its slot is none of a chunk.
    starts = np.append(index[slots, 0].astype(np.int64), index_at)
    stops = starts + np.append(index[slots, 1].astype(np.int64), layout.index_nbytes)
    order = np.argsort(starts, kind="stable")
    # Sorted by their starts, spans that overlap at all overlap with a neighbour.
    overlaps = np.flatnonzero(starts[order][1:] < stops[order][:-1])
    if len(overlaps):
        first, second = (_name(slots, int(row)) for row in order[overlaps[0] : overlaps[0] + 2])
        at = int(starts[order[overlaps[0] + 1]])
        raise ChunkDecodeError(f"codec {NAME!r}: {first} and {second} share bytes from byte {at} on", codec=NAME)
    return object_size - int((stops - starts).sum())


def _name(slots: Array, row: int) -> str:
    return f"chunk {slots[row]}" if row < len(slots) else "the index"
