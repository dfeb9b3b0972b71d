"""The application: all commands, in the order of the help. Each command is in another file of this package."""

from __future__ import annotations

from typing import Annotated

import typer

from .bench import bench
from .copy import copy, rechunk
from .demo import demo
from .doctor import doctor
from .get import get
from .info import info
from .look import consolidate, explain, ls, tree
from .options import Command, add
from .plot import plot
from .remove import rm
from .serve import serve
from .terminal import print_line
from .verify import verify
from .view import view
from .write import append, attrs, create, put

app: typer.Typer = typer.Typer(
    name="zarr-s3",
    help="Zarr arrays on S3: look at them, read, write, copy and check them, and try them on a local server.",
    epilog="Exit status: 0 done; 1 done, and the answer is no; 2 could not be done; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(requested: bool) -> None:
    if requested:
        from .. import __version__

        print_line(f"zarr-s3 {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version


_READING: tuple[Command, ...] = (info, ls, tree, get, plot, view, explain, verify)
_WRITING: tuple[Command, ...] = (create, put, append, attrs, copy, rechunk, rm, consolidate)
_LOCAL: tuple[Command, ...] = (serve, demo)
_CHECKING: tuple[Command, ...] = (doctor, bench)
for _command in (*_READING, *_WRITING, *_CHECKING):
    add(app, _command)
for _command in _LOCAL:
    add(app, _command, remote=False)
