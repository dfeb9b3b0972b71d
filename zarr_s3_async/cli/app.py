"""The commands and their options. What they do is in the rooms beside."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import run

app: typer.Typer = typer.Typer(
    name="zarr-s3",
    help="Zarr arrays on S3: look at them, and try them on a local server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def info(
    url: options.Url,
    endpoint_url: options.Endpoint = None,
    profile: options.Profile = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
) -> None:
    """Show what an array or a group is, and what is stored of it."""
    from .info import info as show

    run(lambda: show(options.session(endpoint_url, profile, region, anonymous), url))


@app.command()
def ls(
    url: options.Url,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show every entry, however many.")] = False,
    endpoint_url: options.Endpoint = None,
    profile: options.Profile = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
) -> None:
    """List one level below a URL: arrays, groups, folders, chunks and other objects."""
    from .ls import ls as show

    run(lambda: show(options.session(endpoint_url, profile, region, anonymous), url, everything=everything))


@app.command()
def verify(
    url: options.Url,
    strict: Annotated[bool, typer.Option("--strict", help="Count chunks that are not stored as findings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    max_findings: Annotated[
        int, typer.Option(metavar="N", help="Findings of each kind to list per node; all are counted.", min=0)
    ] = 1000,
    endpoint_url: options.Endpoint = None,
    profile: options.Profile = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
) -> None:
    """Read every object of an array or a group, decode it, and compare it with its metadata.

    Ends with 0 where all is well, with 1 where there are findings, and with 2 where it could not verify.
    """
    from .verify import COULD_NOT
    from .verify import verify as show

    def command() -> Coroutine[Any, Any, None]:
        session = options.session(endpoint_url, profile, region, anonymous, checksums="on")
        return show(session, url, strict=strict, max_findings=max_findings, as_json=as_json)

    run(command, failed=COULD_NOT)


@app.command()
def serve(
    bucket: Annotated[str, typer.Option(metavar="NAME", help="Bucket to make.")] = "zarr-s3",
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the data here. Default: it goes with the server."),
    ] = None,
) -> None:
    """Run a local S3 server until Ctrl-C, and print how to reach it."""
    from .serve import serve as serve_until_stopped

    run(lambda: serve_until_stopped(bucket=bucket, keep=keep))


@app.command()
def demo(
    size: Annotated[int, typer.Option(metavar="MIB", help="Mebibytes of generated data.", min=1, max=65536)] = 128,
    picture: Annotated[Path, typer.Option(metavar="FILE", help="Where the picture goes.", dir_okay=False)] = Path(
        "zarr-s3-demo.png"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep what was stored, and say how to look at it.")] = False,
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where --keep keeps it.", file_okay=False)] = Path(
        "zarr-s3-demo-data"
    ),
) -> None:
    """Store real and generated data on a local S3 server, read it back concurrently, check it, draw it."""
    from .demo import Options
    from .demo import demo as run_demo

    if not picture.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder of {picture} does not exist", param_hint="--picture")
    chosen = Options(mebibytes=size, picture=picture, keep=folder if keep else None)
    run(lambda: run_demo(chosen))
