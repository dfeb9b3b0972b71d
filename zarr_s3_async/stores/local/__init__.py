"""A folder of the local file system as a store."""

from .store import LocalStore

__all__ = ["LocalStore"]
