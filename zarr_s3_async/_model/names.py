"""Valid names of nodes, and checks of paths and names that come from a store.

Zarr v3 core specification, "Node names"; Zarr v2 specification, "Logical storage paths"; S3's limit on keys.
"""

from __future__ import annotations

from typing import Literal

from .._options import check_text
from ..errors import ConfigError
from .problems import short_repr

ARRAY_V2 = ".zarray"
GROUP_V2 = ".zgroup"
ATTRS_V2 = ".zattrs"
CONSOLIDATED_V2 = ".zmetadata"
NODE_V3 = "zarr.json"

MAX_KEY_BYTES = 1024
"""UTF-8 bytes of an S3 object key."""

_RESERVED = frozenset({ARRAY_V2, GROUP_V2, ATTRS_V2, CONSOLIDATED_V2, NODE_V3})


def problem_of(name: str) -> str | None:
    """Why this (untrusted) name is unsafe as a part of a path; None for a safe name."""
    if not name:
        return "a part of the path is empty"
    if not name.strip("."):
        return "names made only of periods refer to this folder or one above"
    if any(character in name for character in "/\\\0"):
        return "names must not contain a slash, backslash or NUL"
    if name in _RESERVED:
        return "Zarr stores metadata under that name"
    if not name.isascii() and not _is_unicode(name):
        return "it is not valid Unicode"
    return None


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_safe_path(path: str) -> bool:
    """True for a safe relative path of a node below a group: `problem_of` accepts each part."""
    return len(path) <= MAX_KEY_BYTES and all(problem_of(part) is None for part in path.split("/"))


def check_name(name: str, *, zarr_format: Literal[2, 3]) -> None:
    """Refuse a name for a new node.

    Raises:
        ConfigError: It is unsafe, or reserved (v3 reserves names that start with two underscores).
    """
    problem = problem_of(name)
    if problem is None and zarr_format == 3 and name.startswith("__"):
        problem = "Zarr v3 reserves names that start with '__'"
    if problem is not None:
        raise ConfigError(f"{short_repr(name)} cannot name an array or a group: {problem}")


def check_path(path: str, *, zarr_format: Literal[2, 3]) -> str:
    """The path of a new node without leading and trailing slashes; "" is the root.

    Raises:
        ConfigError: A part of it is not a valid name.
    """
    check_text("path", path)
    path = path.strip("/")
    if path:
        for name in path.split("/"):
            check_name(name, zarr_format=zarr_format)
        check_key(f"{path}/{NODE_V3}")
    return path


def ancestors(path: str) -> list[str]:
    """Paths of the groups above a node, from the store's root; none for the root itself."""
    parts = path.split("/")[:-1] if path else []
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)] if path else []


def check_key(key: str) -> None:
    """Refuse a key that S3 would refuse.

    Raises:
        ConfigError: It is longer than 1,024 bytes of UTF-8.
    """
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise ConfigError(f"the key {short_repr(key)} has {size} bytes of UTF-8; S3 allows {MAX_KEY_BYTES}")
