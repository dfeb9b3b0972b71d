"""Docstrings of public functions and methods describe exactly the parameters, what is returned and what is raised.

A docstring with "see `name`" inherits the description of that name, such as a store's `get` that of `Readable.get`. The
first sentence of a function without parameters may describe what it returns.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from zarr_s3_async import errors

MODULES = ("", ".blocking", ".events", ".fastapi", ".metrics", ".testing", ".codecs.base", ".stores.base")
ADAPTERS = (".adapters.dask", ".adapters.obspec", ".adapters.obstore", ".adapters.zarr", ".viewer")
"""Modules that need an extra."""
SECTIONS = re.compile(r"^(Args|Returns|Yields|Raises):\n((?:    .*\n|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^    ([\w*][\w*, .]*?):", re.MULTILINE)
SEE = re.compile(r"\b[Ss]ee `[\w.]+`")


def functions() -> Iterator[tuple[str, Any]]:
    """Functions and methods of the public modules with their names, each once."""
    seen: set[object] = set()
    for module in (*MODULES, *ADAPTERS):
        try:
            public = importlib.import_module(f"zarr_s3_async{module}")
        except ImportError:
            if module not in ADAPTERS:
                raise
            continue
        for name in getattr(public, "__all__", ()):
            value = getattr(public, name)
            members = inspect.getmembers_static(value) if inspect.isclass(value) else [("", value)]
            for member, found in members:
                function = inspect.unwrap(getattr(found, "__func__", found))
                ours = inspect.isfunction(function) and function.__module__.startswith("zarr_s3_async")
                if ours and not member.startswith("_") and function not in seen:
                    seen.add(function)
                    yield ".".join(filter(None, (module[1:], name, member))), function


def raised(function: Any) -> bool:
    """Whether the function itself has a statement that raises a new error."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):  # generated, such as a named tuple's
        return False
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def problems(function: Any) -> Iterator[str]:
    """What the docstring of a function lacks, or has too much."""
    text = inspect.cleandoc(function.__doc__ or "") + "\n"
    if not text.strip():
        yield "no docstring"
        return
    inherits = SEE.search(text) is not None
    sections = dict(SECTIONS.findall(text))
    signature = inspect.signature(function)
    described = {name.strip(" *") for names in ENTRY.findall(sections.get("Args", "")) for name in names.split(",")}
    # A parameter may be called `cls` in a function that is no method, and then it is described.
    given = set(signature.parameters) - ({"self", "cls"} - described)
    if described - given:
        yield f"Args has {sorted(described - given)}, which are no parameters"
    if given - described and not (inherits and not described):
        yield f"Args lacks {sorted(given - described)}"
    returns = signature.return_annotation not in {None, "None", "NoReturn", "Never", inspect.Signature.empty}
    if returns and given and not inherits and not sections.keys() & {"Returns", "Yields"}:
        yield "no Returns"
    if not returns and "Returns" in sections:
        yield "Returns, and it returns nothing"
    if raised(function) and not inherits and "Raises" not in sections:
        yield "no Raises"
    for names in ENTRY.findall(sections.get("Raises", "")):
        for name in names.split(","):
            if not hasattr(errors, name.strip()) and not hasattr(builtins, name.strip()):
                yield f"Raises names {name.strip()}, which is no error"


def test_public_docstrings_describe_parameters_results_and_errors() -> None:
    found = {name: list(problems(function)) for name, function in functions()}
    assert len(found) > 150
    assert {name: lacks for name, lacks in found.items() if lacks} == {}


def test_a_wrong_docstring_is_found() -> None:
    def wrong(size: int, other: int) -> int:
        """Count.

        Args:
            size: Of it.
            gone: Not a parameter.

        Raises:
            StorError: No such class.
        """
        return size + other

    def silent(size: int) -> int:
        """Count.

        Args:
            size: Of it.
        """
        raise ValueError(size)

    assert list(problems(wrong)) == [
        "Args has ['gone'], which are no parameters",
        "Args lacks ['other']",
        "no Returns",
        "Raises names StorError, which is no error",
    ]
    assert list(problems(silent)) == ["no Returns", "no Raises"]
    assert list(problems(lambda: None)) == ["no docstring"]
