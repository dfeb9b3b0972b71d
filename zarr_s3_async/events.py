"""What a session tells whoever listens: one frozen event per thing that happened, and a Hook that counts them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

log: logging.Logger = logging.getLogger("zarr_s3_async")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDone:
    """One HTTP attempt ended, well or not."""

    operation: str
    """The S3 API's name: GetObject, PutObject, …"""
    bucket: str
    key: str
    attempt: int
    """1 for the first."""
    status: int | None
    """None where no response came."""
    error: str | None
    """S3's error code, or the class of the network failure."""
    seconds: float
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """A request will be sent again."""

    operation: str
    bucket: str
    key: str
    attempt: int
    """The attempt that failed."""
    delay: float
    """Seconds until the next one."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictMet:
    """A conditional write lost against another writer and will merge again."""

    key: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted:
    """A slow read is asked a second time; the faster answer counts."""

    operation: str
    bucket: str
    key: str
    seconds: float
    """How long the first had been in flight."""


Event: TypeAlias = RequestDone | RetryScheduled | ConflictMet | HedgeStarted


class Hook(Protocol):
    """Receives every event, on the event loop, at once. It must not block. What it raises is logged, once."""

    def __call__(self, event: Event, /) -> None: ...


Emit: TypeAlias = Callable[[Event], None]


class Metrics:
    """A Hook that counts. `session.metrics` is one."""

    __slots__ = ("bytes_received", "bytes_sent", "conflicts", "errors", "hedges", "requests", "retries")

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """HTTP attempts by S3 operation."""
        self.errors: Counter[str] = Counter()
        """Failed attempts by S3 error code or failure class; a missing chunk (NoSuchKey) is one of them."""
        self.retries: int = 0
        self.conflicts: int = 0
        self.hedges: int = 0
        self.bytes_sent: int = 0
        self.bytes_received: int = 0

    def __call__(self, event: Event, /) -> None:
        match event:
            case RequestDone():
                self.request_done(event.operation, event.error, event.bytes_sent, event.bytes_received)
            case RetryScheduled():
                self.retries += 1
            case ConflictMet():
                self.conflicts += 1
            case HedgeStarted():
                self.hedges += 1

    def request_done(self, operation: str, error: str | None, sent: int, received: int) -> None:
        """Count one HTTP attempt, without the event: where nobody else listens, none need be built."""
        self.requests[operation] += 1
        self.bytes_sent += sent
        self.bytes_received += received
        if error is not None:
            self.errors[error] += 1

    def __repr__(self) -> str:
        return (
            f"<Metrics requests={dict(self.requests)} retries={self.retries} conflicts={self.conflicts} "
            f"sent={self.bytes_sent} received={self.bytes_received}>"
        )


def emitter(hooks: tuple[Hook, ...]) -> Emit:
    """One callable that hands an event to every hook, in order.

    What a hook raises goes to the log, the first time that it does.
    """
    if len(hooks) == 1:
        return hooks[0]

    broken: set[int] = set()

    def emit(event: Event) -> None:
        for number, hook in enumerate(hooks):
            try:
                hook(event)
            except Exception:  # who listens does not decide whether a read succeeds
                if number not in broken:  # once, or a hook that always raises would fill the log
                    broken.add(number)
                    log.exception("the hook %r raised, and is called again with the next event", hook)

    return emit
