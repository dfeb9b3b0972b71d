"""Streams and copies: users of arrays, under the session's limits."""

from .conversion import CopyOptions
from .copying import CopyPlan, copy, plan_copy
from .map import map_chunks
from .progress import Progress, ProgressCallback, ProgressOption
from .read import Block, BlockStream, SliceStream
from .transfer import ArrayCopy, Stage
from .write import WriteStream

__all__ = [
    "ArrayCopy",
    "Block",
    "BlockStream",
    "CopyOptions",
    "CopyPlan",
    "Progress",
    "ProgressCallback",
    "ProgressOption",
    "SliceStream",
    "Stage",
    "WriteStream",
    "copy",
    "map_chunks",
    "plan_copy",
]
