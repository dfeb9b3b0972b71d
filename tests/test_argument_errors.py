"""Frequent mistakes of new users: the error is one line that says what to write."""

from __future__ import annotations

import operator
import pickle
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs


@pytest.fixture
async def array() -> AsyncIterator[Any]:
    async with zs.Session() as session:
        yield await session.create_array("memory://mistakes", shape=(4, 5), dtype="i4", fill_value=3)


FORGOTTEN: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "view.mean()": (lambda a: a[0].mean(), AttributeError, r"await array\[selection\] first, .*\.mean"),
    "view.T": (lambda a: a[0:2].T, AttributeError, r"await array\[selection\]"),
    "view + 1": (lambda a: a[0:3] + 1, TypeError, r"await array\[selection\] first"),
    "1 + view": (lambda a: 1 + a[0:3], TypeError, r"await array\[selection\] first"),
    "numpy + view": (lambda a: np.ones((3, 5)) + a[0:3], TypeError, r"await array\[selection\]"),
    "-view": (lambda a: -a[0:3], TypeError, r"await array\[selection\] first"),
    "view == 3": (lambda a: a[0, 0] == 3, TypeError, r"await array\[selection\] first"),
    "view > 3": (lambda a: a[0, 0] > 3, TypeError, r"await array\[selection\] first"),
    "if view": (lambda a: bool(a[0, 0]), TypeError, r"await array\[selection\] first"),
    "float(view)": (lambda a: float(a[0, 0]), TypeError, r"await array\[selection\] first"),
    "int(view)": (lambda a: int(a[0, 0]), TypeError, r"await array\[selection\] first"),
    "index by view": (lambda a: [1, 2, 3, 4][a[0, 0]], TypeError, r"await array\[selection\] first"),
    "np.asarray(view)": (lambda a: np.asarray(a[0]), TypeError, r"np\.asarray\(await array\[selection\]\)"),
    "np.mean(view)": (lambda a: np.mean(a[0]), TypeError, r"await array\[selection\]"),
    "len(view)": (lambda a: len(a[0]), TypeError, r"take \.shape\[0\]"),
    "for x in view": (lambda a: list(a[0]), TypeError, r"iterate over await array\[selection\]"),
    "3 in view": (lambda a: 3 in a[0], TypeError, r"in \(await array\[selection\]\)"),
    "array.mean()": (lambda a: a.mean(), AttributeError, r"await array\[\.\.\.\] first, .*\.mean"),
    "array.T": (lambda a: a.T, AttributeError, r"await array\[\.\.\.\]"),
    "array + 1": (lambda a: a + 1, TypeError, r"await array\[\.\.\.\] first"),
    "np.asarray(array)": (lambda a: np.asarray(a), TypeError, r"np\.asarray\(await array\[\.\.\.\]\)"),
    "len(array)": (lambda a: len(a), TypeError, r"take \.shape\[0\]"),
    "for x in array": (lambda a: list(a), TypeError, r"iterate over await array\[\.\.\.\]"),
    "array[0] = 1": (lambda a: operator.setitem(a, 0, 1), TypeError, r"await array\[selection\]\.set\(data\)"),
    "oindex = 1": (lambda a: operator.setitem(a.oindex, 0, 1), TypeError, r"\.set\(data\)"),
}


@pytest.mark.parametrize(("use", "error", "message"), FORGOTTEN.values(), ids=FORGOTTEN)
async def test_a_forgotten_await_is_reported(use: Any, error: type[Exception], message: str, array: Any) -> None:
    with pytest.raises(error, match=message) as caught:
        use(array)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


async def test_handles_are_truthy_and_unknown_attributes_raise_attribute_error(array: Any) -> None:
    assert array
    assert not hasattr(array, "frobnicate")
    with pytest.raises(AttributeError, match=r"'Array' object has no attribute 'frobnicate'$"):
        array.frobnicate()
    view = array[0]
    assert len({view, view}) == 1
    assert view.shape == (5,)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda g: g["x"], r"await group\.open\('x'\)"),
        (lambda g: operator.setitem(g, "x", 1), r"await group\.create_array\('x'"),
        (lambda g: list(g), r"async for name, node in group\.members\(\)"),
        (lambda g: len(g), r"async for name, node in group\.members\(\)"),
        (lambda g: "x" in g, r"await group\.contains\('x'\)"),
        (lambda g: pickle.dumps(g), r"send group\.ref"),
    ],
)
async def test_the_errors_of_a_group_say_how_to_open_its_nodes(use: Any, message: str) -> None:
    async with zs.Session() as session:
        group = await session.create_group("memory://g")
        assert group
        with pytest.raises(TypeError, match=message):
            use(group)


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_opening_a_node_of_the_other_kind_names_the_right_function(zarr_format: Any, tmp_path: Path) -> None:
    async with zs.Session() as session:
        group = await session.create_group(tmp_path, zarr_format=zarr_format)
        await group.create_array("a", shape=1, dtype="u1")
        with pytest.raises(zs.NodeNotFound, match=r"no array .* kind group: open it by open_group\("):
            await session.open_array(tmp_path)
        with pytest.raises(zs.NodeNotFound, match=r"no group .* kind array: open it by open_array\("):
            await session.open_group(tmp_path, path="a")
        with pytest.raises(zs.NodeNotFound, match="check the URL and the path, or create one"):
            await session.open_array(tmp_path, path="b")


def test_a_view_that_was_never_awaited_warns_with_its_line(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import asyncio
        import zarr_s3_async as zs
        async def main():
            async with zs.Session() as session:
                array = await session.create_array("memory://a", shape=(4,), dtype="i4")
                array[0:2]  # line 7
                array.oindex[[0, 1]]  # line 8
                array.sel  # no view
                await array[0:2]
                await array[0:2].get()
                await array[0:2].set(1)
                array[0:2].explain()
                array[0:2].shape
                repr(array[0:2])
        asyncio.run(main())
    """)
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True)
    warned = [line for line in done.stderr.splitlines() if "RuntimeWarning" in line]
    assert [line.split(":")[1] for line in warned] == ["7", "8"], done.stderr
    assert all("never read: write `await` before it" in line for line in warned)
    assert all(line.startswith(str(program)) for line in warned)


@pytest.mark.parametrize(
    ("call", "typo", "meant"),
    [
        (zs.open_array, "zarr_formta", "zarr_format="),
        (zs.open_array, "mising", "missing="),
        (zs.open_group, "consolidate", "consolidated="),
        (zs.open, "cahce", "cache="),
        (zs.create_group, "overwritten", "overwrite="),
        (zs.create_array, "paht", "path="),
        (zs.blocking.open_array, "mising", "missing="),
    ],
)
def test_a_misspelt_option_is_also_compared_with_those_of_the_function(call, typo, meant):
    options = {"shape": (1,), "dtype": "i4"} if call is zs.create_array else {}
    with pytest.raises(zs.ConfigError, match=f"'{typo}' of {call.__name__}: write {meant}"):
        call("memory://typos", **options, **{typo: 1})


@pytest.mark.parametrize("name", ["region", "profile", "ca_bundle", "storage_class", "sse_kms_key_id", "access_key_id"])
def test_an_option_from_an_empty_environment_variable_is_an_error(name):
    keys = {"secret_access_key": "x"} if name == "access_key_id" else {}
    with pytest.raises(zs.ConfigError, match=f"S3Config.{name} is empty"):
        zs.Session(**keys, **{name: ""})
