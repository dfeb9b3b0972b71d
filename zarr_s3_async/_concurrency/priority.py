"""The class in which what a call does waits for request slots and memory: interactive calls before bulk ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal, TypeAlias

Priority: TypeAlias = Literal["high", "normal", "bulk"]
PRIORITIES: Final = ("high", "normal", "bulk")
HIGH, NORMAL, BULK = range(3)

PRIORITY: Final[ContextVar[int | None]] = ContextVar("zarr_s3_async_priority", default=None)
"""Of the current call; None where it names none. A context variable, so that the stores between a call and its requests
need not pass it on, and so that the tasks of a call have it too."""


@contextmanager
def at_priority(priority: int) -> Iterator[None]:
    """What is awaited, and what tasks are started, in this block waits in this class."""
    before = PRIORITY.set(priority)
    try:
        yield
    finally:
        PRIORITY.reset(before)


@contextmanager
def bulk_unless_named() -> Iterator[None]:
    """The same with `BULK`, unless the current call names a priority."""
    if PRIORITY.get() is not None:
        yield
        return
    with at_priority(BULK):
        yield
