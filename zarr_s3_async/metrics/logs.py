"""Structured log records of what a session does."""

from __future__ import annotations

import logging
from dataclasses import asdict

from .. import ConfigError, ConflictMet, Event, HedgeStarted, RequestDone, RetryScheduled
from .._options import check_integer


class LogHook:
    """A hook that logs events: `Session(hooks=[LogHook()])`.

    The message is for people; `record.zarr_s3` is a dict for whatever reads records: the event's fields, and its class
    as `event`. Retries, throttling, conflicts, hedges and failures have a level of their own, since they are rare.

    Args:
        logger: Where to; default: `zarr_s3_async.events`.
        level: Of requests, of waits and of what is decoded or shared.
        trouble: Of retries, conflicts, hedges, and of requests that failed; a missing object is no failure.

    Raises:
        ConfigError: An option is none.
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
        """Log it."""
        level = self._trouble if _is_trouble(event) else self._level
        if self._logger.isEnabledFor(level):
            fields = asdict(event)
            self._logger.log(
                level, "%s", _told(event, fields), extra={"zarr_s3": {"event": type(event).__name__, **fields}}
            )


def _is_trouble(event: Event) -> bool:
    if isinstance(event, RequestDone):
        return event.error is not None and event.status not in _NORMAL
    return isinstance(event, RetryScheduled | ConflictMet | HedgeStarted)


_NORMAL = frozenset({304, 404})
"""Statuses of answers that are as good as any: nothing has changed, nothing is there."""


def _told(event: Event, fields: dict[str, object]) -> str:
    if isinstance(event, RequestDone):
        outcome = event.error or event.status
        return f"{event.operation} {event.bucket}/{event.key}: {outcome} after {event.seconds:.3f} s"
    told = ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()
    )
    return f"{type(event).__name__}: {told}"
