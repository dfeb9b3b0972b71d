"""`zarr-s3 ls URL`: one level below a URL, each entry with what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import anyio
from rich.table import Table
from rich.text import Text

from .._array import Array
from .._session import Session
from ..errors import NodeError, NodeNotFound
from ..stores.base import Entry, Listing, Store
from . import units
from .nodes import about
from .options import Call
from .survey import kind_of_object
from .terminal import err, out, plain

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
    """List, find out what each folder is, print."""
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
