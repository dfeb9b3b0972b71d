"""Commands that read only listings and metadata: `ls`, `tree` and `explain`; and `consolidate`, which makes `tree`
cheap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from .._array import Array
from .._session import Session
from ..errors import NodeError, NodeNotFound
from ..stores.base import Entry, Listing, Store
from . import units
from .nodes import about, kind_of_object
from .options import Call, Url
from .terminal import err, out, plain


async def ls(
    call: Call,
    url: Url,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show every entry, however many.")] = False,
) -> None:
    """List one level below a URL: arrays, groups, folders, chunks and other objects."""
    from .look import list_level

    await list_level(call, url, everything=everything or call.as_json)


async def tree(call: Call, url: Url) -> None:
    """Show a group with all nodes below it."""
    from .nodes import below, described
    from .terminal import err, print_lines

    async with call.session() as session:
        with err.status("reading metadata …"):
            group = await session.open_group(url)
            found = [(path, node) async for path, node in below(group)] if call.as_json else []
            shown = "" if call.as_json else str(await group.tree())
    call.show(
        {"url": group.url, "nodes": [{"path": path, **described(node)} for path, node in found]},
        lambda: print_lines(shown),
    )


async def explain(
    call: Call,
    url: Url,
    part: Annotated[str, typer.Argument(metavar="REGION", help="As NumPy writes it: 0:10,5,::2")] = "",
) -> None:
    """Show what reading or writing a region costs, without a request for data."""
    from .options import parse_region
    from .terminal import print_lines

    async with call.session() as session:
        array = await session.open_array(url)
        cost = array.explain(parse_region(part))
    call.show({"url": array.url, **asdict(cost)}, lambda: print_lines(str(cost)))


async def consolidate(call: Call, url: Url) -> None:
    """Write the metadata of all nodes below a group into the group's own document."""
    from .terminal import print_line

    async with call.session() as session:
        group = await session.open_group(url)
        await group.consolidate()
    call.show({"url": group.url, "consolidated": True}, lambda: print_line(f"consolidated {group.url}"))


_SHOWN = 50
_AT_ONCE = 64
_STYLES = {"array": "bold green", "group": "bold blue", "folder": "blue", "metadata": "cyan", "chunk": ""}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the listing."""

    kind: str
    name: str
    about: str
    nbytes: int | None = None


async def list_level(call: Call, url: str, *, everything: bool) -> None:
    """List one level, determine the kind of each folder, and print."""
    async with call.session() as session:
        store = session.store(url)
        with err.status("listing …"):
            listing = await store.list_dir()
            if not (listing.dirs or listing.entries):
                raise NodeNotFound(f"nothing is stored below {store.url}; check the URL", url=store.url)
            array = await _array_at(session, store)
            limit = None if everything else _SHOWN
            folders = await _folders(session, store, listing.dirs[:limit], probe=array is None)
        objects = [_object(entry, array) for entry in listing.entries[: limit and max(0, limit - len(folders))]]
    rows = [*folders, *objects]
    entries = [{"kind": row.kind, "name": row.name, "about": row.about, "nbytes": row.nbytes} for row in rows]
    call.show({"url": store.url, "entries": entries}, lambda: _print(store.url, rows, listing))


async def _array_at(session: Session, store: Store) -> Array | None:
    try:
        return await session.open_array(store)
    except NodeError:
        return None


async def _folders(session: Session, store: Store, dirs: Sequence[str], *, probe: bool) -> list[Row]:
    """Rows of the folders; below an array they contain chunks, so their kind need not be determined."""
    if not probe:
        return [Row("folder", name + "/", "of chunks") for name in dirs]
    rows: dict[str, Row] = {}

    async def find_out(name: str) -> None:
        rows[name] = await _folder(session, store, name)

    for first in range(0, len(dirs), _AT_ONCE):
        async with anyio.create_task_group() as group:
            for name in dirs[first : first + _AT_ONCE]:
                group.start_soon(find_out, name)
    return [rows[name] for name in dirs]


async def _folder(session: Session, store: Store, name: str) -> Row:
    try:
        node = await session.open(store, path=name)
    except NodeNotFound:
        return Row("folder", name + "/", "")
    except NodeError as error:
        return Row("unreadable", name + "/", " ".join(str(error).split()))
    if isinstance(node, Array):
        return Row("array", name + "/", about(node))
    return Row("group", name + "/", "")


def _object(entry: Entry, array: Array | None) -> Row:
    kind = kind_of_object(entry.key, array)
    return Row("object" if kind == "other" else kind, entry.key, units.size(entry.size), entry.size)


def _print(url: str, rows: Sequence[Row], listing: Listing) -> None:
    out.print(plain(url, "bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row("  " + row.kind, plain(row.name, _STYLES.get(row.kind, "")), plain(row.about, "dim"))
    out.print(table)
    left = len(listing.dirs) + len(listing.entries) - len(rows)
    if left:
        out.print(Text(f"  … and {left:,} more (--all shows them)", style="dim"))
    out.print(Text("  " + ", ".join(_summary(listing)), style="dim"))


def _summary(listing: Listing) -> Iterator[str]:
    if listing.dirs:
        yield units.count(len(listing.dirs), "folder")
    if listing.entries:
        total = sum(entry.size for entry in listing.entries)
        yield f"{units.count(len(listing.entries), 'object')} of {units.size(total)}"
