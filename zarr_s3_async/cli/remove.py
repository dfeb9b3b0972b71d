"""`zarr-s3 rm URL`: show what will be deleted, ask for confirmation, and delete a node."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import ConfigError, NodeError
from . import units
from .nodes import in_words
from .options import Call, Url
from .terminal import NO, err, print_line


async def rm(
    call: Call,
    url: Url,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also objects that belong to no array, and prefixes without a node.")
    ] = False,
) -> None:
    """Remove an array, or a group with all nodes below it. Shows what will be deleted, and asks."""
    async with call.session() as session:
        store = session.store(url)
        try:
            what = in_words(await session.open(store))
        except NodeError as error:
            if not everything:
                raise
            what = f"no node here ({type(error).__name__})"
        with err.status("counting …"):
            objects = nbytes = 0
            # The exact number, since a wrong URL is most easily recognised by it.
            async for entry in store.list_prefix():
                objects, nbytes = objects + 1, nbytes + entry.size
        extent = f"{units.count(objects, 'object')} of {units.size(nbytes)}"
        if not yes:
            _confirm(store.url, what, extent)
        with err.status("removing …"):
            await session.delete(store, everything=everything)
    fields = {"url": store.url, "removed": True, "objects": objects, "nbytes": nbytes}
    call.show(fields, lambda: print_line(f"removed {store.url}: {extent}"))


def _confirm(url: str, what: str, extent: str) -> None:
    """Exit unless the user answers yes; without a terminal, raise an error."""
    # A script must not delete without saying so.
    if not _is_at_terminal():
        raise ConfigError(f"{url} ({what}) has {extent}, and there is no terminal to ask: --yes removes them")
    err.print(f"{url}\n  {what}\n  {extent}", soft_wrap=True, markup=False)
    err.print("Remove all of it? This cannot be undone. \\[y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        err.print("nothing was removed")
        raise typer.Exit(NO)


def _is_at_terminal() -> bool:
    return sys.stdin.isatty()
