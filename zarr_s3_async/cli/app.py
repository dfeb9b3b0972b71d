"""The commands and their options. What they do is in the rooms beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import run

app = typer.Typer(
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
