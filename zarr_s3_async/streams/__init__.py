"""Streams and copies: users of arrays, under the session's limits."""

from .map import map_chunks
from .progress import Progress, ProgressCallback, ProgressOption
from .read import Block, BlockStream, SliceStream
from .write import WriteStream

__all__ = [
    "Block",
    "BlockStream",
    "Progress",
    "ProgressCallback",
    "ProgressOption",
    "SliceStream",
    "WriteStream",
    "map_chunks",
]
