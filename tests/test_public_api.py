"""The public names and their signatures equal those in tests/public_api.txt.

After an intended change, `WRITE_DOCS=1 pytest tests/test_public_api.py` writes the file; add it to the changelog.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr_s3_async as zs
import zarr_s3_async.blocking

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def default(value: object) -> str:
    """A default value as written in the source, the same in every version of Python."""
    if value is None or value is Ellipsis or isinstance(value, bool | int | float | str | bytes | tuple):
        return repr(value)
    return f"{type(value).__name__}()"


def signature(function: Any) -> str:
    """Parameters with their defaults, without annotations, which type checkers test (tests/types)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    last = None
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and last not in {parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL}:
            parts.append("*")
        if last is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        value = "" if parameter.default is parameter.empty else f"={default(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{value}")
        last = parameter.kind
    if last is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    return f"({', '.join(parts)})"


def members(owner: type) -> Iterator[str]:
    """The public members of a class, except those of every object, exception or typed dictionary."""
    if issubclass(owner, dict):
        yield from (f"  [{name!r}]" for name in sorted(owner.__annotations__))
        return
    common = {name for base in (object, Exception, tuple, enum.Enum) if issubclass(owner, base) for name in dir(base)}
    fields = {name for base in owner.__mro__ for name in inspect.get_annotations(base)}
    for name in sorted({name for name in {*dir(owner), *fields} if not name.startswith("_")} - common):
        value = inspect.getattr_static(owner, name, None)
        if isinstance(value, staticmethod | classmethod):
            yield f"  {type(value).__name__} {name}{signature(value.__func__)}"
        elif inspect.isfunction(value):
            word = "async " if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value) else ""
            yield f"  {word}{name}{signature(value)}"
        else:
            yield f"  {name}"


def entries(module: Any, prefix: str) -> Iterator[str]:
    """The lines of the snapshot for each public name of a module, and its members."""
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value):
            bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
            yield f"class {prefix}{name}({bases}){'' if issubclass(value, dict | Exception) else signature(value)}"
            yield from members(value)
        elif inspect.isfunction(value):
            yield f"{'async ' if inspect.iscoroutinefunction(value) else ''}{prefix}{name}{signature(value)}"
        else:
            yield f"{prefix}{name}"


def public_api() -> str:
    lines = [*entries(zs, "zs."), *entries(zarr_s3_async.blocking, "zs.blocking.")]
    return "\n".join(lines) + "\n"


def test_the_public_names_and_signatures_are_those_of_the_snapshot() -> None:
    now = public_api()
    if os.environ.get("WRITE_DOCS"):
        SNAPSHOT.write_text(now)
    difference = difflib.unified_diff(
        SNAPSHOT.read_text().splitlines(), now.splitlines(), "snapshot", "now", lineterm=""
    )
    changed = "\n".join(difference)
    assert not changed, (
        f"{changed}\n\nIf this is meant: WRITE_DOCS=1 pytest tests/test_public_api.py, and a line in CHANGELOG.md"
    )


def test_a_change_of_a_parameter_is_detected() -> None:
    def before(a: int, /, b: int = 1, *, c: str = "x") -> None: ...
    def after(a: int, /, b: int = 2, *, c: str = "x") -> None: ...

    assert signature(before) == "(a, /, b=1, *, c='x')"
    assert signature(after) != signature(before)


def test_all_names_of_a_star_import_exist() -> None:
    assert len(set(zs.__all__)) == len(zs.__all__)
    for name in zs.__all__:
        assert hasattr(zs, name), name
