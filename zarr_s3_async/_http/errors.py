"""How an HTTP exchange can fail. Callers map these to errors of their own, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .body import PartialBody


class ProtocolError(Exception):
    """The bytes are not an HTTP/1.1 response that can be trusted."""


class PoolClosed(Exception):
    """The connection pool was closed, before the exchange or during it."""


class ConnectTimeout(Exception):
    """No connection was established in time."""


class IncompleteResponse(Exception):
    """A response did not come to its end.

    Attributes:
        partial: What had arrived of an object's bytes, where that is known.
    """

    partial: PartialBody | None = None


class AttemptTimeout(IncompleteResponse):
    """It was not complete within the attempt's time."""


class TooSlow(IncompleteResponse):
    """It arrived below the minimum pace."""


class ConnectionBroken(IncompleteResponse):
    """The connection ended first.

    Attributes:
        stale: The connection had served before, and no byte of this response arrived: the server had probably
            closed it before it saw the request.
    """

    def __init__(self, message: str, *, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale
