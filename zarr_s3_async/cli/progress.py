"""A progress bar on stderr with the remaining time; nothing if stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import zarr_s3_async as zs

from .terminal import err


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[zs.Progress], None] | None]:
    """The callback to pass as `progress=` while the block runs; None if stderr is not a terminal."""
    if not err.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Bar(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def report(now: zs.Progress) -> None:
            bar.update(task, completed=now.done, total=now.total, rate=f"{now.rate / 1e6:,.0f} MB/s")

        yield report
