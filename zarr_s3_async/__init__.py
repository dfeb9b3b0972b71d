"""Asyncio-first chunk I/O for Zarr arrays on Amazon S3 and S3-compatible stores."""

import typing as _typing

from ._array import Array, ArrayRef, GroupRef
from ._model.create import ArrayOptions
from ._model.metadata import ArrayMeta, GroupMeta
from ._session import OpenOptions, Session, SessionOptions, Where
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
from ._view import Indexer, View
from .byte_range import ByteRange, Offset, Span, Suffix
from .config import CachePolicy, CacheSize, Credentials, HedgePolicy, Limits, RetryPolicy, S3Config, S3Options
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
    DataError,
    DataOverflowError,
    DeadlineExceeded,
    ForkedSession,
    MetadataError,
    NetworkError,
    NodeError,
    NodeExists,
    NodeNotFound,
    ObjectTooLarge,
    Overloaded,
    SelectionError,
    SessionClosed,
    StateError,
    StoreError,
    Throttled,
    UnexpectedResponse,
    Unsupported,
    UnsupportedFeature,
    VerificationFailed,
    WriteOutcome,
    WrongEventLoop,
    WrongRegion,
    ZarrS3Error,
)
from .events import (
    CacheLooked,
    ChunksDecoded,
    ConflictMet,
    Event,
    HedgeStarted,
    Hook,
    Metrics,
    ReadShared,
    RequestDone,
    RetryScheduled,
    SlotWaited,
    Usage,
)
from .stores.base import Blob, Entry, Listing, Store
from .stores.registry import get_store, list_stores, register_store, unregister_store

if _typing.TYPE_CHECKING:  # imported at run time by `__getattr__`
    from . import adapters as adapters
    from . import blocking as blocking
    from . import fastapi as fastapi
    from . import loader as loader
    from . import metrics as metrics
    from . import streams as streams
    from . import viewer as viewer
    from ._doctor import Check, Diagnosis, doctor
    from ._engine.encoded import EncodedChunk
    from ._engine.explain import Explanation
    from ._engine.hierarchy import UnreadableNode
    from ._group import Group, Members, Tree
    from ._stored import StoredChunks, StoredObject
    from ._verify import Finding, NodeReport, VerifyProgress, VerifyReport
    from .codecs.registry import list_codecs, register_codec, unregister_codec
    from .loader import BatchLoader, LoaderCost, LoaderReport, Window
    from .stores.local import LocalStore
    from .stores.memory import MemoryStore
    from .stores.s3 import S3Store
    from .streams import Block, BlockStream, CopyPlan, Progress, SliceStream, WriteStream, copy, map_chunks, plan_copy

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Array",
    "ArrayMeta",
    "ArrayOptions",
    "ArrayRef",
    "BatchLoader",
    "Blob",
    "Block",
    "BlockStream",
    "BucketNotFound",
    "ByteRange",
    "CacheLooked",
    "CachePolicy",
    "CacheSize",
    "Check",
    "ChecksumMismatch",
    "ChunkDecodeError",
    "ChunkError",
    "ChunkNotFound",
    "ChunksDecoded",
    "ConcurrentModification",
    "ConfigError",
    "Conflict",
    "ConflictMet",
    "CopyPlan",
    "CreateOptions",
    "Credentials",
    "CredentialsExpired",
    "CredentialsNotFound",
    "DataError",
    "DataOverflowError",
    "DeadlineExceeded",
    "Diagnosis",
    "EncodedChunk",
    "Entry",
    "Event",
    "Explanation",
    "Finding",
    "ForkedSession",
    "Group",
    "GroupMeta",
    "GroupRef",
    "HedgePolicy",
    "HedgeStarted",
    "Hook",
    "Indexer",
    "Limits",
    "Listing",
    "LoaderCost",
    "LoaderReport",
    "LocalStore",
    "Members",
    "MemoryStore",
    "MetadataError",
    "Metrics",
    "NetworkError",
    "NodeError",
    "NodeExists",
    "NodeNotFound",
    "NodeReport",
    "ObjectTooLarge",
    "Offset",
    "OpenOptions",
    "Opening",
    "Overloaded",
    "Progress",
    "ReadShared",
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
    "SlotWaited",
    "Span",
    "StateError",
    "Store",
    "StoreError",
    "StoredChunks",
    "StoredObject",
    "Suffix",
    "Throttled",
    "Tree",
    "UnexpectedResponse",
    "UnreadableNode",
    "Unsupported",
    "UnsupportedFeature",
    "Usage",
    "VerificationFailed",
    "VerifyProgress",
    "VerifyReport",
    "View",
    "Where",
    "Window",
    "WriteOutcome",
    "WriteStream",
    "WrongEventLoop",
    "WrongRegion",
    "ZarrS3Error",
    "__version__",
    "copy",
    "create_array",
    "create_group",
    "doctor",
    "get_store",
    "list_codecs",
    "list_stores",
    "map_chunks",
    "open",
    "open_array",
    "open_group",
    "plan_copy",
    "register_codec",
    "register_store",
    "shared_session",
    "unregister_codec",
    "unregister_store",
]

_LAZY = {
    "BatchLoader": "loader",
    "Block": "streams",
    "BlockStream": "streams",
    "Check": "_doctor",
    "CopyPlan": "streams",
    "Diagnosis": "_doctor",
    "EncodedChunk": "_engine.encoded",
    "Explanation": "_engine.explain",
    "Finding": "_verify",
    "Group": "_group",
    "LoaderCost": "loader",
    "LoaderReport": "loader",
    "LocalStore": "stores.local",
    "Members": "_group",
    "MemoryStore": "stores.memory",
    "NodeReport": "_verify",
    "Progress": "streams",
    "S3Store": "stores.s3",
    "SliceStream": "streams",
    "StoredChunks": "_stored",
    "StoredObject": "_stored",
    "Tree": "_group",
    "UnreadableNode": "_engine.hierarchy",
    "VerifyProgress": "_verify",
    "VerifyReport": "_verify",
    "Window": "loader",
    "WriteStream": "streams",
    "copy": "streams",
    "doctor": "_doctor",
    "list_codecs": "codecs.registry",
    "map_chunks": "streams",
    "plan_copy": "streams",
    "register_codec": "codecs.registry",
    "unregister_codec": "codecs.registry",
}
"""Names that opening and reading an array does not need, and their modules, which are imported at first use."""

_MODULES = ("adapters", "blocking", "fastapi", "loader", "metrics", "streams", "viewer")
"""Modules that are imported at first use, such as `zs.blocking`."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})
