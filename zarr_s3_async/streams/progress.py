"""Progress of a long operation: one value, given to a callback, to rich or to tqdm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias

from ..errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a long operation is."""

    done: int
    """Units that are finished: blocks of a stream, stored objects of a copy."""
    total: int
    """Units in all."""
    bytes: int
    """Bytes that the finished units took: decoded ones, or stored ones where nothing was decoded."""
    seconds: float
    """Since it began."""

    @property
    def rate(self) -> float:
        """Bytes per second since it began."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at the pace so far; None as long as nothing is done."""
        return self.seconds * (self.total - self.done) / self.done if self.done else None


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called on the event loop after every unit. It must neither block nor raise."""
ProgressOption: TypeAlias = ProgressCallback | Literal["rich", "tqdm"] | None


class Meter:
    """Counts units and tells the callback."""

    __slots__ = ("_bytes", "_done", "_start", "_tell", "_total")

    def __init__(self, tell: ProgressCallback | None, total: int) -> None:
        self._tell = tell
        self._total = total
        self._done = 0
        self._bytes = 0
        self._start = monotonic()

    @property
    def state(self) -> Progress:
        """How far it is now."""
        return Progress(done=self._done, total=self._total, bytes=self._bytes, seconds=monotonic() - self._start)

    def add(self, done: int, nbytes: int) -> None:
        """So many more units are finished."""
        self._done += done
        self._bytes += nbytes
        if self._tell is not None:
            self._tell(self.state)


@contextmanager
def metered(option: ProgressOption, total: int, what: str) -> Iterator[Meter]:
    """A meter for as long as the block runs.

    Args:
        option: What the user passed as `progress=`.
        total: Units in all.
        what: A word for a progress bar: `copy`.

    Raises:
        ConfigError: The option is none of those, or its library is not installed.
    """
    if option is None or callable(option):
        yield Meter(option, total)
        return
    check_progress(option)
    with (_rich if option == "rich" else _tqdm)(total, what) as tell:
        yield Meter(tell, total)


def check_progress(option: object) -> None:
    """Raise ConfigError where this is no value of `progress=`."""
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

        def tell(progress: Progress) -> None:
            bar.update(task, completed=progress.done, rate=f"{progress.rate / 1e6:,.0f} MB/s")

        yield tell


@contextmanager
def _tqdm(total: int, what: str) -> Iterator[ProgressCallback]:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ConfigError("progress='tqdm' needs tqdm: pip install tqdm") from error
    with tqdm(total=total, desc=what) as bar:

        def tell(progress: Progress) -> None:
            bar.update(progress.done - bar.n)
            bar.set_postfix_str(f"{progress.rate / 1e6:,.0f} MB/s", refresh=False)

        yield tell
