"""Asyncio-first chunk I/O for Zarr arrays on Amazon S3 and S3-compatible stores."""

import typing as _typing

from ._array import Array, ArrayRef
from ._engine.explain import Explanation
from ._group import Group, GroupRef
from ._model.create import ArrayOptions
from ._session import Session, SessionOptions
from ._shared import (
    CreateOptions,
    Opening,
    create_array,
    create_group,
    open,  # noqa: A004  # zs.open, as zarr.open and h5py's are called
    open_array,
    open_group,
    shared_session,
)
from ._verify import Finding, NodeReport, VerifyProgress, VerifyReport
from ._view import View
from .codecs.registry import list_codecs, register_codec, unregister_codec
from .config import CacheSize, HedgePolicy, Limits, RetryPolicy, S3Config, S3Options
from .errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    ChunkDecodeError,
    ChunkError,
    ChunkNotFound,
    ConcurrentModification,
    ConfigError,
    Conflict,
    CredentialsExpired,
    CredentialsNotFound,
    DeadlineExceeded,
    ForkedSession,
    MetadataError,
    NetworkError,
    NodeError,
    NodeExists,
    NodeNotFound,
    SelectionError,
    SessionClosed,
    StateError,
    StoreError,
    Throttled,
    UnexpectedResponse,
    Unsupported,
    UnsupportedFeature,
    WriteOutcome,
    WrongEventLoop,
    WrongRegion,
    ZarrS3Error,
)
from .events import ConflictMet, Event, Hook, Metrics, RequestDone, RetryScheduled
from .stores.base import Blob, Entry, Listing, Store
from .stores.local import LocalStore
from .stores.memory import MemoryStore
from .stores.registry import get_store, list_stores, register_store, unregister_store
from .stores.s3 import S3Store

if _typing.TYPE_CHECKING:
    from .streams import Block, BlockStream, Progress, SliceStream

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Array",
    "ArrayOptions",
    "ArrayRef",
    "Blob",
    "Block",
    "BlockStream",
    "BucketNotFound",
    "CacheSize",
    "ChecksumMismatch",
    "ChunkDecodeError",
    "ChunkError",
    "ChunkNotFound",
    "ConcurrentModification",
    "ConfigError",
    "Conflict",
    "ConflictMet",
    "CreateOptions",
    "CredentialsExpired",
    "CredentialsNotFound",
    "DeadlineExceeded",
    "Entry",
    "Event",
    "Explanation",
    "Finding",
    "ForkedSession",
    "Group",
    "GroupRef",
    "HedgePolicy",
    "Hook",
    "Limits",
    "Listing",
    "LocalStore",
    "MemoryStore",
    "MetadataError",
    "Metrics",
    "NetworkError",
    "NodeError",
    "NodeExists",
    "NodeNotFound",
    "NodeReport",
    "Opening",
    "Progress",
    "RequestDone",
    "RetryPolicy",
    "RetryScheduled",
    "S3Config",
    "S3Options",
    "S3Store",
    "SelectionError",
    "Session",
    "SessionClosed",
    "SessionOptions",
    "SliceStream",
    "StateError",
    "Store",
    "StoreError",
    "Throttled",
    "UnexpectedResponse",
    "Unsupported",
    "UnsupportedFeature",
    "VerifyProgress",
    "VerifyReport",
    "View",
    "WriteOutcome",
    "WrongEventLoop",
    "WrongRegion",
    "ZarrS3Error",
    "__version__",
    "create_array",
    "create_group",
    "get_store",
    "list_codecs",
    "list_stores",
    "open",
    "open_array",
    "open_group",
    "register_codec",
    "register_store",
    "shared_session",
    "unregister_codec",
    "unregister_store",
]

_LAZY = {"Block": "streams", "BlockStream": "streams", "Progress": "streams", "SliceStream": "streams"}
"""What is imported when it is first asked for: names, and the modules that have them."""


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
