"""Where the commands write, and how a command ends: results to stdout, one line per error to stderr."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from ..errors import ConfigError, ZarrS3Error

out: Console = Console(highlight=False)
err: Console = Console(stderr=True, highlight=False)

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


def run(command: Callable[[], Coroutine[Any, Any, None]], *, failed: int = _FAILED) -> None:
    """Run a command to its end. A failure that the user can mend leaves as one line and the exit status `failed`."""
    try:
        asyncio.run(command())
    except KeyboardInterrupt:
        fail("interrupted", status=_INTERRUPTED)
    except Exception as error:
        first = _first_leaf(error)
        if isinstance(first, ModuleNotFoundError) and (first.name or "").startswith("matplotlib"):
            fail("matplotlib is not installed: pip install 'zarr-s3-async[demo]'")
        if not isinstance(first, ZarrS3Error | OSError):
            raise
        status = _USAGE if isinstance(first, ConfigError) else failed
        fail(str(first), kind=type(first).__name__, status=status)


def fail(message: str, *, kind: str | None = None, status: int = _FAILED) -> NoReturn:
    """Say it in one line on stderr, and end."""
    line = Text.assemble(("zarr-s3: ", "bold red"), plain(" ".join(message.split())))
    if kind is not None:
        line.append(f" ({kind})", style="dim")
    err.print(line, soft_wrap=True)
    raise typer.Exit(status)


def say_line(text: str, style: str = "") -> None:
    """A line to copy: never wrapped, never coloured by its content."""
    out.print(plain(text, style), soft_wrap=True)


def plain(text: str, style: str = "") -> Text:
    """Text from a store, shown as it is: no markup, and no escape sequence reaches the terminal."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text), style=style)


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
