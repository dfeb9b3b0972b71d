"""`zarr-s3 copy` and `zarr-s3 rechunk`: print the plan, then copy with a progress bar. Both are resumable."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .options import Call
from .terminal import err, print_line, print_lines, progress_bar
from .write import grid_options, parsed_json

_Source = Annotated[str, typer.Argument(metavar="SOURCE", help="An array or a group.")]
_Target = Annotated[str, typer.Argument(metavar="TARGET", help="Where the copy goes.")]
_Shards = Annotated[str | None, typer.Option("--shards", metavar="N,N", help="Elements of a stored object.")]
_Codecs = Annotated[str | None, typer.Option("--codecs", metavar="JSON", help="The whole chain, as in zarr.json.")]
_Memory = Annotated[int, typer.Option("--max-bytes", metavar="N", help="Of memory for a rechunking.", min=1)]
_Plan = Annotated[bool, typer.Option("--plan", help="Show what it would cost, and do nothing.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what is at the target first.")]
_Verify = Annotated[bool, typer.Option("--verify", help="Read both sides at the end, and compare every element.")]
_MEMORY = 2**28


async def copy(
    call: Call,
    source: _Source,
    target: _Target,
    zarr_format: Annotated[
        int | None,
        typer.Option("--zarr-format", metavar="2|3", help="Of the copy. Default: the source's.", min=2, max=3),
    ] = None,
    codecs: _Codecs = None,
    max_bytes: _Memory = _MEMORY,
    plan: _Plan = False,
    overwrite: _Overwrite = False,
    verify: _Verify = False,
) -> None:
    """Copy an array or a group. After an interruption, the same command continues where it stopped."""
    options: dict[str, Any] = {} if zarr_format is None else {"zarr_format": zarr_format}
    if codecs is not None:
        options["codecs"] = parsed_json(codecs, "--codecs")
    await _copy(
        call, source, target, {**options, "max_bytes": max_bytes, "overwrite": overwrite}, plan=plan, verify=verify
    )


async def rechunk(
    call: Call,
    source: _Source,
    target: _Target,
    chunks: Annotated[
        str | None, typer.Option("--chunks", metavar="N,N", help="Elements of a chunk per dimension.")
    ] = None,
    shards: _Shards = None,
    max_bytes: _Memory = _MEMORY,
    plan: _Plan = False,
    overwrite: _Overwrite = False,
    verify: _Verify = False,
) -> None:
    """Copy an array into other chunks, in bounded memory. After an interruption, the same command continues."""
    if chunks is None:
        raise ConfigError("rechunk needs --chunks N,N, the chunks of the copy")
    options = {name: value for name, value in grid_options(chunks, shards).items() if value is not None}
    await _copy(
        call, source, target, {**options, "max_bytes": max_bytes, "overwrite": overwrite}, plan=plan, verify=verify
    )


async def _copy(call: Call, source: str, target: str, options: dict[str, Any], *, plan: bool, verify: bool) -> None:
    import zarr_s3_async as zs

    async with call.session() as session:
        with err.status("planning …"):
            planned = await zs.plan_copy(source, target, session=session, **options)
        if not plan:
            if not call.as_json:
                print_lines(str(planned))
            with progress_bar("copying") as report:
                await planned.run(progress=report, verify=verify)
    fields = {
        "source": planned.source_url,
        "target": planned.target_url,
        "plan": planned.as_dict(),
        "done": not plan,
        "verified": verify and not plan,
    }
    call.show(fields, lambda: print_lines(str(planned)) if plan else print_line(f"copied to {planned.target_url}"))
