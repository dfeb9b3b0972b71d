"""`zarr-s3 attrs URL`: show attributes, set them, remove them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .options import Call, Url
from .terminal import say_line
from .write import parse_attributes


async def attrs(
    call: Call,
    url: Url,
    given: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="To set: VALUE is JSON, or else text.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="KEY", help="To remove. Repeatable.")] = None,
) -> None:
    """Show the attributes of an array or a group, after setting and removing what is named."""
    changes = parse_attributes(given or [])
    gone = remove or []
    if both := changes.keys() & set(gone):
        raise ConfigError(f"{', '.join(sorted(both))}: both set and removed")
    async with call.session() as session:
        node = await session.open(url)
        if absent := [key for key in gone if key not in node.attrs]:
            raise ConfigError(
                f"{node.url} has no attribute {', '.join(absent)}; it has {', '.join(node.attrs) or 'none'}"
            )
        if gone:
            kept: dict[str, Any] = {key: value for key, value in node.attrs.items() if key not in gone}
            await node.update_attributes(kept | changes, replace=True)
        elif changes:
            await node.update_attributes(changes)
        found = dict(node.attrs)
    call.show({"url": node.url, "attributes": found}, lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    for key, value in found.items():
        say_line(f"{key} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}")
