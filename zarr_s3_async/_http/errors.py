"""Errors of an HTTP exchange. Each user of this package maps them to its own errors, in one place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .partial import PartialBody


class ProtocolError(Exception):
    """The bytes are not a valid HTTP/1.1 response."""


class PoolClosed(Exception):
    """The connection pool was closed, before the exchange or during it."""


class ConnectTimeout(Exception):
    """No connection was established in time."""


class IncompleteResponse(Exception):
    """A response was truncated.

    Attributes:
        partial: The bytes received of an object's body, if any are usable.
    """

    partial: PartialBody | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the memory of the body, which does not pickle: debuggers and clusters pickle the causes of errors.
        return type(self), self.args


class AttemptTimeout(IncompleteResponse):
    """The response was not complete within the attempt timeout."""


class TooSlow(IncompleteResponse):
    """The body arrived more slowly than the minimum rate."""


class ConnectionBroken(IncompleteResponse):
    """The connection was closed before the response was complete.

    Attributes:
        stale: The connection had been used before, and no byte of this response arrived: the server probably closed
            it before it received the request.
    """

    def __init__(self, message: str, *, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), stale=self.stale), self.args
