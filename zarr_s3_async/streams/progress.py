"""Progress of a long operation, reported to a callback, to rich or to tqdm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias

from ..errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a long operation is done."""

    done: int
    """Number of finished units: blocks of a stream, stored objects of a copy."""
    total: int
    """Number of all units."""
    bytes: int
    """Bytes of the finished units: decoded, or stored where nothing was decoded."""
    seconds: float
    """Seconds since the start."""

    @property
    def rate(self) -> float:
        """Bytes per second since the start."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Estimated seconds to the end at the rate so far; None until the first unit is done."""
        return self.seconds * (self.total - self.done) / self.done if self.done else None


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called on the event loop after every unit. It must neither block nor raise."""
ProgressOption: TypeAlias = ProgressCallback | Literal["rich", "tqdm"] | None


class Meter:
    """Counts finished units and calls the callback."""

    __slots__ = ("_bytes", "_callback", "_done", "_start", "_total")

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0
        self._bytes = 0
        self._start = monotonic()

    @property
    def state(self) -> Progress:
        """The progress at this moment."""
        return Progress(done=self._done, total=self._total, bytes=self._bytes, seconds=monotonic() - self._start)

    def add(self, done: int, nbytes: int) -> None:
        """Count `done` more finished units, of `nbytes` bytes together."""
        self._done += done
        self._bytes += nbytes
        if self._callback is not None:
            self._callback(self.state)


@contextmanager
def metered(option: ProgressOption, total: int, what: str) -> Iterator[Meter]:
    """A meter for the duration of the `with` block.

    Args:
        option: The user's `progress=`.
        total: Number of all units.
        what: The label of a progress bar, such as `copy`.

    Raises:
        ConfigError: The option has an invalid value, or its library is not installed.
    """
    if option is None or callable(option):
        yield Meter(option, total)
        return
    check_progress(option)
    with (_rich if option == "rich" else _tqdm)(total, what) as callback:
        yield Meter(callback, total)


def check_progress(option: object) -> None:
    """Raise ConfigError if this is not a valid value of `progress=`."""
    if not (option is None or callable(option) or (isinstance(option, str) and option in ("rich", "tqdm"))):
        raise ConfigError(f"progress must be a callable, 'rich', 'tqdm' or None, not {option!r}")


@contextmanager
def _rich(total: int, what: str) -> Iterator[ProgressCallback]:
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError as error:
        raise ConfigError("progress='rich' needs rich: pip install 'zarr-s3-async[cli]'") from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Bar(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=total, rate="")

        def update(progress: Progress) -> None:
            bar.update(task, completed=progress.done, rate=f"{progress.rate / 1e6:,.0f} MB/s")

        yield update


@contextmanager
def _tqdm(total: int, what: str) -> Iterator[ProgressCallback]:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ConfigError("progress='tqdm' needs tqdm: pip install tqdm") from error
    with tqdm(total=total, desc=what) as bar:

        def update(progress: Progress) -> None:
            bar.update(progress.done - bar.n)
            bar.set_postfix_str(f"{progress.rate / 1e6:,.0f} MB/s", refresh=False)

        yield update
