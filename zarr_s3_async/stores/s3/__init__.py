"""S3: the store. What a session shares between its S3 stores is in `service`, which loads on first use."""

from .store import S3Store

__all__ = ["S3Store"]
