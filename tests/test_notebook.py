"""Representations in notebooks: short texts, tables, and the stored objects of an array; no secrets, no errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async import blocking


@pytest.fixture(autouse=True, scope="module")
def close_sessions() -> Iterator[None]:
    yield
    blocking.close()


async def test_representations_are_short_and_contain_the_main_facts(tmp_path: Path) -> None:
    keys = {"access_key_id": "AKIAKEY", "secret_access_key": "s3cr3t"}
    async with zs.Session(region="eu-west-1", **keys) as session:
        array = await session.create_array(tmp_path, shape=(10,), chunks=(2,), dtype="i4")
        await array[0:3].set(1)
        report = await array.verify()
        assert repr(session) == "<Session open, region='eu-west-1'>"
        assert repr(report) == f"<VerifyReport of {tmp_path.as_uri()}: ok, 1 nodes, 3 objects; print it>"
        assert repr(array.explain()).startswith("<Explanation: 5 objects, 5 chunks; read 5 GET of ")
        html = session._repr_html_()
        assert "eu-west-1" in html
        assert "s3cr3t" not in html
        assert "AKIAKEY" not in html


async def test_an_array_shows_its_grid_without_a_request() -> None:
    async with zs.Session() as session:
        for shape, cells in (((10, 9), 5 * 3), ((), 0), ((0, 3), 0), ((7,), 4), ((4, 4, 10_000), 2 * 48)):
            chunks = tuple(2 if n < 9 else -(-n // 3) if n == 9 else 2 for n in shape)
            array = await session.create_array("memory://a", shape=shape, chunks=chunks, dtype="i4", overwrite=True)
            html = array._repr_html_()
            assert html.count("<rect") == cells, shape
            assert "blue: stored" not in html
        named = await session.create_array(
            "memory://b", shape=(2,), dtype="i4", dimension_names=("<x>",), attributes={"a": 1}
        )
        assert "&lt;x&gt;" in named._repr_html_()
        group = await session.create_group("memory://g")
        assert "memory://g" in group._repr_html_()


def test_a_blocking_array_shows_which_objects_are_stored(tmp_path: Path) -> None:
    array = blocking.create_array(tmp_path / "a", shape=(6, 6), chunks=(2, 2), dtype="i4")
    array[0:2, 0:4] = 1
    array[4, 4] = 1
    html = array._repr_html_()
    colors = [cell.split('fill="')[1].split('"')[0] for cell in html.split("<rect")[1:]]
    stored = {index for index, color in enumerate(colors) if color == colors[0]}
    assert stored == {0, 1, 8}
    assert "blue: stored" in html
    huge = blocking.create_array(tmp_path / "b", shape=(10**6, 10**6), chunks=(10, 10), dtype="i4")
    assert "blue: stored" not in huge._repr_html_()
    group = blocking.create_group(tmp_path / "g")
    group.create_array("x", shape=(1,), dtype="u1")
    assert "x (1,) uint8" in group._repr_html_()


def test_an_array_in_a_store_without_listings_is_shown() -> None:
    class Closed(zs.MemoryStore):
        closed = False

        def list_prefix(self, prefix: str = "") -> Any:
            if self.closed:
                raise zs.AccessDenied("no")
            return super().list_prefix(prefix)

    store = Closed()
    array = blocking.create_array(store, shape=(4,), chunks=(2,), dtype="i4")
    store.closed = True
    assert "<rect" in array._repr_html_()
