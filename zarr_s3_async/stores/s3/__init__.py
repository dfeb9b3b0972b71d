"""The S3 store. `service` holds what the S3 stores of a session share; it is imported on first use."""

from .store import S3Store

__all__ = ["S3Store"]
