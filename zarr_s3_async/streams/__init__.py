"""Streams and copies: users of arrays, under the session's limits."""

from .progress import Progress, ProgressCallback, ProgressOption
from .read import Block, BlockStream, SliceStream

__all__ = ["Block", "BlockStream", "Progress", "ProgressCallback", "ProgressOption", "SliceStream"]
