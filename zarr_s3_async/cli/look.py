"""Commands that read only listings and metadata: `ls`, `tree` and `explain`; and `consolidate`, which makes `tree`
cheap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from .._array import Array
from .._group import Group
from .._session import Session
from ..errors import NodeError, NodeNotFound
from ..stores.base import Entry, Listing, Store
from . import units
from .nodes import Node, about, below, described, kind_of_object
from .options import Call, Url, parse_region
from .terminal import err, out, plain, print_line, print_lines


async def ls(
    call: Call,
    url: Url,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show every entry, however many.")] = False,
) -> None:
    """List one level below a URL: arrays, groups, folders, chunks and other objects."""
    await _list_level(call, url, everything=everything or call.as_json)


async def tree(call: Call, url: Url) -> None:
    """Show a group with all nodes below it; without a group there, those of each folder below the URL."""
    async with call.session() as session:
        store = session.store(url)
        with err.status("reading metadata …"):
            try:
                top: list[tuple[str, Node]] = [("", await session.open_group(store))]
            except NodeNotFound:
                top = await _top_nodes(session, store)
                if not top:
                    raise
            found = [one async for one in _with_all_below(top)] if call.as_json else []
            shown = [] if call.as_json else [line async for line in _drawn(store.url, top)]
    call.show(
        {"url": store.url, "nodes": [{"path": path, **described(node)} for path, node in found]},
        lambda: print_lines("\n".join(shown)),
    )


async def _top_nodes(session: Session, store: Store) -> list[tuple[str, Node]]:
    """The nodes in the folders directly below a prefix that is itself no node; none if it is one, an array."""
    if await _array_at(session, store) is not None:
        return []
    listing = await store.list_dir()
    probed = await _probe(session, store, listing.dirs)
    return [(name, node) for name, node in probed.items() if not isinstance(node, NodeError)]


async def _with_all_below(top: Sequence[tuple[str, Node]]) -> AsyncIterator[tuple[str, Node]]:
    for name, node in top:
        if name:
            yield name, node
        if isinstance(node, Group):
            async for one in below(node, f"{name}/" if name else ""):
                yield one


async def _drawn(url: str, top: Sequence[tuple[str, Node]]) -> AsyncIterator[str]:
    """The lines of `Group.tree()`, one below the other under the URL if there are several trees."""
    if top[0][0] == "" and isinstance(top[0][1], Group):
        yield str(await top[0][1].tree())
        return
    yield url
    for number, (name, node) in enumerate(top, 1):
        branch, indent = ("└── ", "    ") if number == len(top) else ("├── ", "│   ")
        yield f"{branch}{name}" + (f" {node.shape} {node.dtype}" if isinstance(node, Array) else "")
        if isinstance(node, Group):
            for line in str(await node.tree()).splitlines()[1:]:
                yield indent + line


async def explain(
    call: Call,
    url: Url,
    part: Annotated[str, typer.Argument(metavar="REGION", help="As NumPy writes it: 0:10,5,::2")] = "",
) -> None:
    """Show what reading or writing a region costs, without a request for data."""
    async with call.session() as session:
        array = await session.open_array(url)
        cost = array.explain(parse_region(part))
    call.show({"url": array.url, **asdict(cost)}, lambda: print_lines(str(cost)))


async def consolidate(call: Call, url: Url) -> None:
    """Write the metadata of all nodes below a group into the group's own document."""
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


async def _list_level(call: Call, url: str, *, everything: bool) -> None:
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
        # Opening each would be a request per folder of chunks.
        return [Row("folder", name + "/", "of chunks") for name in dirs]
    return [_folder(name, node) for name, node in (await _probe(session, store, dirs)).items()]


async def _probe(session: Session, store: Store, dirs: Sequence[str]) -> dict[str, Node | NodeError]:
    """The node in each of the folders, or why there is none."""
    found: dict[str, Node | NodeError] = {}

    async def open_one(name: str) -> None:
        try:
            found[name] = await session.open(store, path=name)
        except NodeError as error:
            found[name] = error

    # A task per folder; a prefix may have a hundred thousand.
    for first in range(0, len(dirs), _AT_ONCE):
        async with anyio.create_task_group() as group:
            for name in dirs[first : first + _AT_ONCE]:
                group.start_soon(open_one, name)
    return {name: found[name] for name in dirs}


def _folder(name: str, node: Node | NodeError) -> Row:
    if isinstance(node, NodeNotFound):
        return Row("folder", name + "/", "")
    if isinstance(node, NodeError):
        return Row("unreadable", name + "/", " ".join(str(node).split()))
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
