"""The ways in which an exchange ends without a whole answer, in the wire's own words; they stay in this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .resume import Partial


class ConnectTimeout(Exception):
    """No connection stood in time."""


class Unfinished(Exception):
    """An answer did not come to its end.

    Attributes:
        partial: What had come of an object's bytes, where that is known.
    """

    partial: Partial | None = None


class AttemptTimeout(Unfinished):
    """It was not whole in time."""


class TooSlow(Unfinished):
    """Hardly anything came any more."""


class ConnectionBroken(Unfinished):
    """The connection ended first.

    Attributes:
        stale: It had served before, and nothing of an answer came: the server had likely hung up already.
    """

    def __init__(self, message: str, *, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale
