"""The shared options of commands: how to reach the store, `--json`, and regions in NumPy's notation.

A command is a coroutine function whose first parameter is a `Call`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import EllipsisType
from typing import Annotated, Any, TypeAlias, get_type_hints

import anyio
import typer

from .._session import Session
from .._types import strict_json
from ..errors import NodeNotFound, SelectionError, ZarrS3Error
from .terminal import out, run

Url: TypeAlias = Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix or file:///folder")]

_Endpoint: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="Address of an S3-compatible server. Default: AWS_ENDPOINT_URL, then AWS.",
    ),
]
_Profile: TypeAlias = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Profile of the AWS configuration files. Default: AWS_PROFILE."),
]
_Region: TypeAlias = Annotated[
    str | None,
    typer.Option("--region", metavar="NAME", help="Region of the bucket. Default: AWS_REGION, then the profile's."),
]
_Anonymous: TypeAlias = Annotated[bool, typer.Option("--anonymous", help="Send unsigned requests, for public buckets.")]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

_REACH: dict[str, tuple[Any, Any]] = {
    "endpoint_url": (_Endpoint, None),
    "profile": (_Profile, None),
    "region": (_Region, None),
    "anonymous": (_Anonymous, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of a command."""

    reach: dict[str, Any]
    """Options of `Session` for reaching the store."""
    as_json: bool
    """Print exactly one JSON document on stdout."""

    def session(self, **others: Any) -> Session:
        """A session with the user's options, and `others` that the command sets."""
        return Session(**self.reach, **others)

    def show(self, fields: dict[str, Any], text: Callable[[], None]) -> None:
        """Print the result: `fields` as JSON, or the output of `text`."""
        if self.as_json:
            # `out.out` does not wrap lines or interpret markup; NaN is not JSON.
            out.out(json.dumps(strict_json(fields), allow_nan=False), highlight=False)
        else:
            text()


Command: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def add(app: typer.Typer, command: Command, *, remote: bool = True, name: str | None = None) -> None:
    """Add a coroutine function as a command: its first parameter is the `Call`, the others are its own options.

    Args:
        app: The application.
        command: The function; its docstring is the help.
        remote: Add the options for reaching a store.
        name: Name of the command; default: the function's.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(command).parameters.values())[1:]]
    shared = {**(_REACH if remote else {}), "as_json": (_Json, False)}
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(key, kind, annotation=hint, default=value) for key, (hint, value) in shared.items()]

    def start(**values: Any) -> None:
        as_json = values.pop("as_json")
        reach = {key: values.pop(key) for key in _REACH if remote}
        call = Call(reach=reach, as_json=as_json)
        run(lambda: _with_hint(call, command(call, **values)))

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *more)]
    # Keyword-only, because typer passes every value by name, and parameters with defaults may then come first.
    start.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]  # typer reads the options from it
    start.__annotations__ = {p.name: p.annotation for p in keyword}
    start.__doc__ = command.__doc__
    start.__name__ = name or command.__name__
    app.command(name or command.__name__)(start)


async def _with_hint(call: Call, command: Coroutine[Any, Any, None]) -> None:
    """Run a command; where nothing is stored at the URL, the error names what is stored below it."""
    try:
        await command
    except NodeNotFound as error:
        unknown = error.url is None or "check the URL" not in str(error)  # not where a node of the other kind is stored
        if unknown or not (names := await _folders_below(call, str(error.url))):
            raise
        shown = ", ".join(repr(name) for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        # Advice for programs; here a misspelt URL is more probable.
        message = str(error).removesuffix(", or create one")
        raise NodeNotFound(f"{message}: below it are {shown} (zarr-s3 ls {error.url})", url=error.url) from error


async def _folders_below(call: Call, url: str) -> list[str]:
    """Names of folders with objects; none if the store cannot list them quickly."""
    found: list[str] = []
    # Only a hint: neither a slow listing nor a missing permission may hide the error itself.
    with anyio.move_on_after(_HINT_SECONDS), suppress(ZarrS3Error):
        async with call.session() as session:
            found = [name + "/" for name in (await session.store(url).list_dir()).dirs]
    return found


_NAMED, _HINT_SECONDS = 5, 5.0

Region: TypeAlias = tuple[int | slice | EllipsisType, ...]

_number = r"\s*([+-]?\d+)?\s*"
_is_slice = re.compile(f"{_number}:{_number}(?::{_number})?").fullmatch
_is_index = re.compile(r"\s*[+-]?\d+\s*").fullmatch


def parse_region(text: str | None) -> Region:
    """Parse a region; None and an empty text select the whole array.

    Raises:
        SelectionError: A part is neither a number, nor a slice, nor an ellipsis.
    """
    inner = (text or "").strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    if not inner.strip():
        return (Ellipsis,)
    return tuple(_part(part, text or "") for part in inner.split(","))


def _part(part: str, whole: str) -> int | slice | EllipsisType:
    if part.strip() == "...":
        return Ellipsis
    if _is_index(part):
        return int(part)
    if match := _is_slice(part):
        start, stop, step = (None if group is None else int(group) for group in match.groups())
        return slice(start, stop, step)
    raise SelectionError(f"{part.strip()!r} in the region {whole!r} is neither a number nor a slice; write 0:10,5,::2")


def parse_numbers(text: str) -> list[int]:
    """Parse `100,200` or `100x200`.

    Raises:
        ValueError: The text is not a list of integers.
    """
    inner = re.sub(r",\s*$", "", text.strip("()[] "))  # the comma of (5,)
    return [int(part) for part in re.split(r"[,x\N{MULTIPLICATION SIGN}]", inner)] if inner else []
