"""Commands that read no data: `tree`, `ls` and `explain`; and `consolidate`, which makes the first of them cheap."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .options import Call, Url


async def ls(
    call: Call,
    url: Url,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show every entry, however many.")] = False,
) -> None:
    """List one level below a URL: arrays, groups, folders, chunks and other objects."""
    from .ls import list_level

    await list_level(call, url, everything=everything or call.as_json)


async def tree(call: Call, url: Url) -> None:
    """Show a group with all that is below it."""
    from .nodes import below, described
    from .terminal import err, say_lines

    async with call.session() as session:
        with err.status("reading metadata …"):
            group = await session.open_group(url)
            found = [(path, node) async for path, node in below(group)] if call.as_json else []
            shown = "" if call.as_json else str(await group.tree())
    call.show(
        {"url": group.url, "nodes": [{"path": path, **described(node)} for path, node in found]},
        lambda: say_lines(shown),
    )


async def explain(
    call: Call,
    url: Url,
    part: Annotated[str, typer.Argument(metavar="REGION", help="As NumPy writes it: 0:10,5,::2")] = "",
) -> None:
    """Say what reading or writing a region costs, without a request for data."""
    from .region import parse_region
    from .terminal import say_lines

    async with call.session() as session:
        array = await session.open_array(url)
        cost = array.explain(parse_region(part))
    call.show({"url": array.url, **asdict(cost)}, lambda: say_lines(str(cost)))


async def consolidate(call: Call, url: Url) -> None:
    """Write the metadata of all that is below a group into the group's own document."""
    from .terminal import say_line

    async with call.session() as session:
        group = await session.open_group(url)
        await group.consolidate()
    call.show({"url": group.url, "consolidated": True}, lambda: say_line(f"consolidated {group.url}"))
