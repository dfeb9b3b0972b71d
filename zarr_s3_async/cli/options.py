"""What every command has: how to reach the store, and `--json`. A command is a coroutine function with a `Call`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

from .._session import Session
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
    """Options of `Session` that say how to reach the store."""
    as_json: bool
    """Print one JSON document, and nothing else, on stdout."""

    def session(self, **others: Any) -> Session:
        """A session with the user's options, and `others` that no user chooses."""
        return Session(**self.reach, **others)

    def show(self, fields: dict[str, Any], text: Callable[[], None]) -> None:
        """The result: `fields` as JSON, or what `text` prints."""
        if self.as_json:
            out.out(json.dumps(_strict(fields), allow_nan=False), highlight=False)
        else:
            text()


Command: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def add(app: typer.Typer, command: Command, *, remote: bool = True, name: str | None = None) -> None:
    """Make a command of a coroutine function: its first parameter is the call, the others are its own options.

    Args:
        app: Gets it.
        command: Its docstring is the help.
        remote: It takes the options that say how to reach a store.
        name: Of the command; default: the function's.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(command).parameters.values())[1:]]
    shared = {**(_REACH if remote else {}), "as_json": (_Json, False)}
    more = [_parameter(key, *value) for key, value in shared.items()]

    def start(**values: Any) -> None:
        as_json = values.pop("as_json")
        reach = {key: values.pop(key) for key in _REACH if remote}
        run(lambda: command(Call(reach=reach, as_json=as_json), **values))

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *more)]
    start.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]  # what typer reads
    start.__annotations__ = {p.name: p.annotation for p in keyword}
    start.__doc__ = command.__doc__
    start.__name__ = name or command.__name__
    app.command(name or command.__name__)(start)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _strict(value: Any) -> Any:
    """JSON alone: NumPy's numbers as Python's, and what JSON has no number for (NaN, infinities) as text."""
    if isinstance(value, Mapping):
        return {str(key): _strict(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(member) for member in value]
    if hasattr(value, "tolist"):  # NumPy's
        return _strict(value.tolist())
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # as Zarr has it
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
