"""Target: valid and invalid values for any argument of any public method.

A seed's first line names a method (`Array.get_slice`). Each following pair of bytes gives the number of an argument
and the number of its value; the other arguments are valid. Every call must return or raise one of our errors.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async._array import ArrayOptions

from .oracles import Run, named

_NEVER = 30.0
"""Seconds after which a call is considered hanging."""


class _Odd:
    """An object without any attributes or methods."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<odd>"


VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**63,
    -(2**70),
    1.5,
    math.nan,
    math.inf,
    1j,
    "",
    "a",
    "3",
    "../x",
    "\ud800",
    "a\0b\n",
    "x" * 2000,
    b"x",
    [],
    [1],
    (0, 1),
    (-1, 5),
    [0.5],
    ["a"],
    [[1]],
    {},
    {"a": 1},
    {"\ud800": math.nan},
    {1: _Odd()},
    _Odd(),
    int,
    len,
    slice(None),
    slice("a", None, 0),
    ...,
    np.float64("nan"),
    np.int64(2),
    np.zeros((2, 2)),
    np.array(["a"]),
    np.array([object()]),
    np.datetime64("NaT"),
    Path("x"),
    Ellipsis,
)
"""No value is big: other tests cover values that are refused for their size."""

_THE_STORE, _THE_ARRAY, _ANOTHER = object(), object(), object()
"""Placeholders for objects that are created for each run."""
RIGHT: dict[str, Any] = {
    "where": _THE_STORE,
    "source": _THE_ARRAY,
    "sources": _THE_ARRAY,
    "arrays": _THE_ARRAY,
    "target": _ANOTHER,
    "fn": abs,
    "length": 2,
    "batch_size": 2,
    "name": "a",
    "path": "",
    "shape": (4, 6),
    "dtype": "i4",
    "chunks": (2, 3),
    "region": (slice(0, 2), slice(0, 3)),
    "key": (slice(0, 2), slice(0, 3)),
    "start": (0, 0),
    "stop": (2, 3),
    "data": 1,
    "attributes": {"b": 2},
    "axis": 0,
    "bucket": "data",
    "prefix": "p",
    "url": "memory://",
    "missing": "fill",
}
CLASSES: dict[str, type] = {
    "Session": zs.Session,
    "Array": zs.Array,
    "Group": zs.Group,
    "View": zs.View,
}
OPTIONS = (zs.S3Config, zs.Limits, zs.RetryPolicy, zs.HedgePolicy, zs.CacheSize, zs.Session)
FUNCTIONS: tuple[Callable[..., Any], ...] = (zs.map_chunks, zs.copy, zs.plan_copy, zs.doctor, zs.BatchLoader, zs.Window)
_CALLED = {"progress", "hooks", "credentials", "fn", "transform", "save_state"}
"""Functions of the caller: the errors that they raise are passed on."""
_LEFT_OUT = {"aclose", "open"}
"""Methods that are not tested: `Session.open` equals `open_array` and `open_group`, and `aclose` has no arguments."""


@dataclass(frozen=True)
class Method:
    """A public method, and its arguments by name."""

    call: Callable[..., Any]
    arguments: tuple[str, ...]
    required: tuple[str, ...]


def _method(owner: type, name: str) -> Method:
    function = getattr(owner, name)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named_ones = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    arguments = [p.name for p in named_ones]
    if "create_array" in name:
        arguments += sorted(ArrayOptions.__annotations__)
    required = [p.name for p in named_ones if p.default is p.empty]
    return Method(function, tuple(dict.fromkeys(arguments)), tuple(required))


def _methods() -> dict[str, Method]:
    found = {
        f"{title}.{name}": _method(owner, name)
        for title, owner in CLASSES.items()
        for name in sorted(vars(owner))
        if inspect.isfunction(vars(owner)[name]) and not name.startswith("_") and name not in _LEFT_OUT
    }
    found["Array.__getitem__"] = Method(zs.Array.__getitem__, ("key",), ("key",))
    for option in OPTIONS:
        parameters = inspect.signature(option).parameters.values()
        names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        if option is zs.Session:
            names += [field.name for field in fields(zs.S3Config)]
        found[option.__name__] = Method(option, tuple(names), ())
    for function in FUNCTIONS:
        parameters = inspect.signature(function).parameters.values()
        found[function.__name__] = Method(
            function,
            tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD),
            tuple(p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD),
        )
    return found


METHODS = _methods()


@contextmanager
def target() -> Iterator[Run]:
    # A path that is not a URL is relative to the current folder.
    with asyncio.Runner() as runner, warnings.catch_warnings(), TemporaryDirectory() as folder, chdir(folder):
        warnings.simplefilter("ignore")
        yield lambda data: runner.run(_run(data))


async def _run(data: bytes) -> None:
    name, rest = named(data)
    method = METHODS.get(name)
    if method is None:
        return
    given = {argument: RIGHT.get(argument) for argument in method.required}
    if "create_array" in name:
        given |= {"shape": (4, 6), "dtype": "i4"}
        given |= {"name": "new"} if "name" in given else {}
    for number, value in zip(rest[::2], rest[1::2], strict=False):
        if method.arguments:
            argument, chosen = method.arguments[number % len(method.arguments)], VALUES[value % len(VALUES)]
            if not (argument in _CALLED and callable(chosen)):
                given[argument] = chosen
    async with asyncio.timeout(_NEVER), zs.Session() as session:
        await _call(name, method, given, session)


async def _call(name: str, method: Method, given: dict[str, Any], session: zs.Session) -> None:
    store = zs.MemoryStore()
    group = await session.create_group(store)
    array = await group.create_array("a", shape=(4, 6), chunks=(2, 3), dtype="i4")
    owner = {"Session": session, "Array": array, "Group": group}.get(name.partition(".")[0]) if "." in name else None
    if name.startswith("View."):
        owner = array[0:2]
        await owner  # a view that is never read warns when it is garbage collected
    made = {_THE_STORE: store, _THE_ARRAY: array}
    if "sources" in given:
        made[_ANOTHER] = await group.create_array("b", shape=(4, 6), chunks=(4, 2), dtype="i4")
    if "source" in given:
        made[_ANOTHER] = zs.MemoryStore()
    given = {name: next((it for mark, it in made.items() if mark is value), value) for name, value in given.items()}
    try:
        result = method.call(**given) if owner is None else method.call(owner, **given)
        await _settled(result)
    except zs.ZarrS3Error as error:
        error.args[0].encode("utf-8", "surrogatepass")  # the error has a message for any value


async def _settled(result: Any) -> None:
    """Await, iterate or enter the result, whatever it is, to its end."""
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__aenter__") and not isinstance(result, zs.Session | zs.Array | zs.Group):
        async with result as entered:
            if hasattr(entered, "__aiter__"):
                async for _ in entered:
                    pass
    elif hasattr(result, "__aiter__"):
        async for _ in result:
            pass
