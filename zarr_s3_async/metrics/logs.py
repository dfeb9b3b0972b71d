"""Structured log records of a session's events."""

from __future__ import annotations

import logging

from .. import ConfigError, ConflictMet, Event, HedgeStarted, RequestDone, RetryScheduled
from .._options import check_integer


class LogHook:
    """A hook that logs events: `Session(hooks=[LogHook()])`.

    The message is human-readable. For programs, `record.zarr_s3` is a dict of the event's fields, with its class name
    as `event`. Retries, throttling, conflicts, hedges and failures have a separate level, since they are rare.

    Args:
        logger: The logger to use; default: `zarr_s3_async.events`.
        level: Level of successful requests, waits, decoded chunks, cache look-ups and shared reads.
        trouble: Level of retries, conflicts, hedges and failed requests. A missing object is not a failure.

    Raises:
        ConfigError: An argument has the wrong type.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, level: int = logging.DEBUG, trouble: int = logging.WARNING
    ) -> None:
        if logger is not None and not isinstance(logger, logging.Logger):
            raise ConfigError(f"logger must be a logging.Logger or None, not {type(logger).__name__}")
        check_integer("level", level)
        check_integer("trouble", trouble)
        self._logger = logger or logging.getLogger("zarr_s3_async.events")
        self._level, self._trouble = level, trouble

    def __call__(self, event: Event, /) -> None:
        """Log the event."""
        level = self._trouble if _is_trouble(event) else self._level
        # Before the fields are collected: small chunks give thousands of events per second.
        if self._logger.isEnabledFor(level):
            fields = event._asdict()
            self._logger.log(
                level, "%s", _message(event, fields), extra={"zarr_s3": {"event": type(event).__name__, **fields}}
            )


def _is_trouble(event: Event) -> bool:
    if isinstance(event, RequestDone):
        return event.error is not None and event.status not in _NORMAL
    return isinstance(event, RetryScheduled | ConflictMet | HedgeStarted)


_NORMAL = frozenset({304, 404})
"""Statuses that S3 reports as errors and that are not failures: not modified, and not found."""


def _message(event: Event, fields: dict[str, object]) -> str:
    if isinstance(event, RequestDone):
        outcome = event.error or event.status
        return f"{event.operation} {event.bucket}/{event.key}: {outcome} after {event.seconds:.3f} s"
    described = ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()
    )
    return f"{type(event).__name__}: {described}"
