"""S3: the store, and what a session shares between all of its S3 stores."""

from .service import S3Service, open_store
from .store import S3Store

__all__ = ["S3Service", "S3Store", "open_store"]
