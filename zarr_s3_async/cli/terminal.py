"""Output and exit statuses of commands: results go to stdout, one line per error to stderr.

Every command has the same exit statuses (docs/cli.md): 0, success; 1, completed with a negative result (findings,
failed checks, a confirmation denied); 2, error (wrong usage, nothing at the URL, access denied, no network); 130,
interrupted.
"""

from __future__ import annotations

import asyncio
import codecs
import io
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from ..errors import ZarrS3Error

if TYPE_CHECKING:
    from ..streams import Progress

out: Console = Console(highlight=False)
err: Console = Console(stderr=True, highlight=False)

NO, COULD_NOT, INTERRUPTED = 1, 2, 130

_EXTRAS = {"matplotlib": "demo", "PIL": "demo", "rich": "cli", "typer": "cli"}


def run(command: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a command. A failure that the user can fix is printed as one line, with exit status 2."""
    adapt_streams()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(command())
    except KeyboardInterrupt:
        fail("interrupted", status=INTERRUPTED)
    except BrokenPipeError:  # `zarr-s3 ls … | head`: the reader has closed the pipe
        # Or the interpreter prints a second error when it flushes the streams at exit.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except Exception as error:
        # Task groups wrap a single error in a group.
        first = _first_leaf(error)
        missing = (getattr(first, "name", None) or "").partition(".")[0] if isinstance(first, ImportError) else ""
        if missing in _EXTRAS:
            fail(f"{missing} is not installed: pip install 'zarr-s3-async[{_EXTRAS[missing]}]'")
        # A bug: its traceback is useful.
        if not isinstance(first, ZarrS3Error | OSError):
            raise
        fail(in_flags(str(first)), kind=type(first).__name__)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop factory if it is installed: it saves a tenth of the CPU time of requests. None: asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def fail(message: str, *, kind: str | None = None, status: int = COULD_NOT) -> NoReturn:
    """Print the message in one line on stderr, and exit."""
    # One line, whatever the message contains: scripts and logs read stderr by lines.
    line = Text.assemble(("zarr-s3: ", "bold red"), plain(" ".join(message.split())))
    if kind is not None:
        line.append(f" ({kind})", style="dim")
    err.print(line, soft_wrap=True)
    raise typer.Exit(status)


def print_line(text: str, style: str = "") -> None:
    """Print a line that can be copied: not wrapped, and not coloured by its content."""
    out.print(plain(text, style), soft_wrap=True)


def print_lines(text: str, style: str = "") -> None:
    """Print each line with `print_line`."""
    for line in text.splitlines():
        print_line(line, style)


def plain(text: str, style: str = "") -> Text:
    """Untrusted text for output: markup is not interpreted, and escape sequences are removed."""
    # Keys, attributes and messages of servers may contain escape sequences that control the terminal.
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text), style=style)


# Messages in terms of the command line

_FLAGS = {
    "endpoint_url": "--endpoint-url",
    "profile": "--profile",
    "region": "--region",
    "anonymous": "--anonymous",
    "overwrite": "--overwrite",
    "write": "--write",
    "everything": "--everything",
    "zarr_format": "--zarr-format",
    "max_bytes": "--max-bytes",
    "chunks": "--chunks",
    "shards": "--shards",
    "shape": "--shape",
    "dtype": "--dtype",
    "fill_value": "--fill-value",
    "codecs": "--codecs",
    "dimension_names": "--dimension-names",
    "attributes": "--attribute",
    "axis": "--axis",
}
"""Options of the library that are also options of commands."""
_as_field = re.compile(r"\bS3Config\.(" + "|".join(_FLAGS) + r")\b")
_spelled = re.compile(r"\b(" + "|".join(_FLAGS) + r")=(True\b|None\b|'[^']*'|\"[^\"]*\"|[\[(][\d, ]*[\])]|[\w.:/-]+)?")


_of_python = (
    (re.compile(r", which Path\('([^']*)'\)\.absolute\(\)\.as_uri\(\) gives"), r": file://$PWD/\1"),
    (re.compile(r": open it by open_(?:array|group)\(\.\.\.\)"), ""),
)
"""Advice in Python, and what replaces it in a shell."""


def in_flags(message: str) -> str:
    """A message of the library, with its options in the form of the command line."""
    for pattern, replacement in _of_python:
        message = pattern.sub(replacement, message)

    def spelled(match: re.Match[str]) -> str:
        flag, value = _FLAGS[match[1]], (match[2] or "").strip("'\"")
        if value.startswith(("[", "(")):  # chunks=[10, 10]
            value = value.strip("[()]").replace(" ", "").removesuffix(",")
        return flag if value in {"", "True", "None"} else f"{flag} {value}"

    return _spelled.sub(spelled, _as_field.sub(lambda match: _FLAGS[match[1]], message))


# Terminals without UTF-8

_IN_ASCII = {  # characters that tables contain are replaced by one character, to keep the columns aligned
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": ".",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": ">",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{GREEK SMALL LETTER MU}": "u",
    "\N{MICRO SIGN}": "u",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
    "\N{BOX DRAWINGS LIGHT VERTICAL AND RIGHT}": "|",
    "\N{BOX DRAWINGS LIGHT UP AND RIGHT}": "`",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
}
_HANDLER = "zarr-s3-plain"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101  # the handler is used for encoding only
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c, "?") for c in text), error.end


codecs.register_error(_HANDLER, _replaced)


def adapt_streams() -> None:
    """Make stdout and stderr replace characters that their encoding lacks, instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        # In tests, stdout may be another object.
        if isinstance(stream, io.TextIOWrapper) and stream.errors != _HANDLER:
            stream.reconfigure(errors=_HANDLER)


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on stderr: yields the callback to pass as `progress=`, or None if stderr is not a terminal."""
    # In a log or a pipe, each update would be a line.
    if not err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Bar(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def report(now: Progress) -> None:
            bar.update(task, completed=now.done, total=now.total, rate=f"{now.rate / 1e6:,.0f} MB/s")

        yield report
