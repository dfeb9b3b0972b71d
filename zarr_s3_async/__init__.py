"""Asyncio-first chunk I/O for Zarr arrays on Amazon S3 and S3-compatible stores."""

from ._array import Array, ArrayRef
from ._create import ArrayOptions
from ._engine.explain import Explanation
from ._engine.verify import Finding, NodeReport, VerifyProgress, VerifyReport
from ._group import Group, GroupRef
from ._session import Session, open_array
from ._view import View
from .codecs.registry import list_codecs, register_codec, unregister_codec
from .config import CacheSize, HedgePolicy, Limits, RetryPolicy, S3Config
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

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Array",
    "ArrayOptions",
    "ArrayRef",
    "Blob",
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
    "RequestDone",
    "RetryPolicy",
    "RetryScheduled",
    "S3Config",
    "S3Store",
    "SelectionError",
    "Session",
    "SessionClosed",
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
    "get_store",
    "list_codecs",
    "list_stores",
    "open_array",
    "register_codec",
    "register_store",
    "unregister_codec",
    "unregister_store",
]
