"""Regions and files: what `get`, `plot` and `put` read and write, and the values that they refuse."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.cli.options import parse_region

from .commands import DATA, command, done


@pytest.mark.parametrize(
    "text", ["", "3", "2:5", "::3", "-4:", "...,2", "1:4,::2", " 1 , 2 ", "[5:,1]", "...", "::-1,0"]
)
def test_a_region_is_parsed_as_in_numpy(text: str) -> None:
    assert np.array_equal(DATA[parse_region(text)], eval(f"DATA[{text.strip('[]') or '...'}]", {"DATA": DATA}))


@pytest.mark.parametrize("text", ["a", "1:2:3:4", "1.5", "0:1;2", "1,,2", "None"])
def test_an_invalid_region_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(zs.SelectionError, match="neither a number nor a slice"):
        parse_region(text)


@pytest.mark.parametrize("region", ["", "3:9,::1", "5:5", "2:4,3", "::2,::-1", "7"])
def test_get_writes_the_region_as_npy_npz_csv_and_raw(url: str, tmp_path: Path, region: str) -> None:
    wanted = DATA[parse_region(region)]
    for form in ("npy", "npz", "csv", "raw"):
        file = tmp_path / f"out.{form}"
        fields = done("get", url, region, "--out", str(file))
        assert fields["shape"] == list(wanted.shape)
        assert fields["nbytes"] == file.stat().st_size
    assert np.array_equal(np.load(tmp_path / "out.npy"), wanted)
    assert np.array_equal(np.load(tmp_path / "out.npz")["data"], wanted)
    assert np.array_equal(np.fromfile(tmp_path / "out.raw", "float32").reshape(wanted.shape), wanted)
    if wanted.size:
        read = np.genfromtxt(tmp_path / "out.csv", delimiter=",", dtype="float32")
        assert np.array_equal(read.reshape(wanted.shape), wanted)


def test_get_writes_a_png_with_a_pixel_per_element(url: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    done("get", url, "--out", str(tmp_path / "x.png"))
    assert imread(tmp_path / "x.png").shape[:2] == DATA.shape


def test_a_plot_of_a_large_plane_shows_every_nth_element(tmp_path: Path) -> None:
    url = f"{tmp_path.as_uri()}/wide"
    done("create", url, "--shape", "3,10,2000", "--dtype", "float32", "--chunks", "1,10,2000", "--fill-value", "2.5")
    fields = done("plot", url)
    assert fields["shape"] == [10, 500]
    assert (fields["low"], fields["high"]) == (2.5, 2.5)
    assert done("plot", url, "0,:,:")["shape"] == [10, 2000]
    assert command("plot", url, "...").exit_code == 2


def test_get_to_stdout_writes_only_the_file(url: str) -> None:
    result = command("get", url, "0:3", "--out", "-", "--format", "raw")
    assert result.stdout_bytes == DATA[0:3].tobytes()


def test_a_failed_get_keeps_the_existing_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    file.write_bytes(b"mine")
    assert command("get", f"{url}/nothing", "--out", str(file)).exit_code == 2
    assert command("get", url, "99", "--out", str(file)).exit_code == 2
    assert file.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "raw"])
def test_put_stores_the_data_of_the_file(tmp_path: Path, form: str) -> None:
    file, url = tmp_path / f"in.{form}", f"{tmp_path.as_uri()}/y"
    match form:
        case "npy":
            np.save(file, DATA)
        case "npz":
            np.savez(file, DATA)
        case "csv":
            np.savetxt(file, DATA, delimiter=",")
        case "raw":
            file.write_bytes(DATA.tobytes())
    done("put", str(file), url, "--dtype", "float32", "--shape", "20,30", "--chunks", "7,9")
    assert done("get", url)["values"] == DATA.tolist()
    assert done("append", str(file), url, "--dtype", "float32", "--shape", "20,30")["shape"] == [40, 30]
    assert done("get", url, "20:")["values"] == DATA.tolist()


def test_put_into_a_region_keeps_the_rest(url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "part.npy", np.full((2, 3), -1, "float32"))
    done("put", str(tmp_path / "part.npy"), url, "--at", "4:6,5:8")
    wanted = DATA.copy()
    wanted[4:6, 5:8] = -1
    assert done("get", url)["values"] == wanted.tolist()


@pytest.mark.parametrize(
    ("dtype", "values", "lost"),
    [
        ("int32", [1.0, np.nan], "nan"),
        ("int32", [1.0, np.inf], "inf"),
        ("int32", [1.0, 2.5], "2.5"),
        ("int32", [1.0, 1e12], "1000000000000.0"),
        ("uint8", [1, -1], "-1"),
        ("int64", np.array([1, 2**63], "uint64"), "9223372036854775808"),
        ("uint64", [1, -1], "-1"),
        ("bool", [1, 2], "2"),
        ("float32", [1.0, 1e300], "1e+300"),
        ("float64", [1.0, 1j], "complex numbers"),
    ],
)
def test_values_that_the_array_cannot_hold_are_refused_and_nothing_is_written(
    tmp_path: Path, dtype: str, values: Any, lost: str
) -> None:
    url = f"{tmp_path.as_uri()}/a"
    done("create", url, "--shape", "2", "--dtype", dtype)
    np.save(tmp_path / "x.npy", np.asarray(values))
    for arguments in (["put", str(tmp_path / "x.npy"), url, "--at", ":"], ["append", str(tmp_path / "x.npy"), url]):
        result = command(*arguments)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert lost in line
        assert f"data type {dtype} cannot hold" in line
    assert done("get", url)["values"] == [0, 0]


_RECORD = [("a", "i8"), ("b", "f8")]


@pytest.mark.parametrize(
    ("dtype", "values", "lost"),
    [
        ("int4", np.array([1, 300]), "300"),
        ("int4", np.array([1, 0.5]), "0.5"),
        ("int4", np.array([1, np.nan]), "nan"),
        ("uint4", np.array([1, -1]), "-1"),
        ("float8_e4m3fn", np.array([1, 1e6]), "1000000"),
        ("float8_e4m3fn", np.array([1, -np.inf]), "-inf"),
        ("float4_e2m1fn", np.array([1, 100]), "100"),
        ("<U4", np.array(["a", "longer"]), "longer"),
        ("<U4", np.array([1, 1.12345]), "1.12345"),
        ("|S4", np.array([b"a", b"longer"]), "longer"),
        ("|S4", np.array(["a", "\u00e9"]), "\\xe9"),
        ("bool", np.array([0, 2]), "2"),
        ("int8", np.array([1, 300], "m8[s]"), "300"),
        ("datetime64[s]", np.array(["NaT", "2020-01-01T00:00:00.5"], "M8[ms]"), "2020-01-01T00:00:00.500"),
        ([("a", "i1"), ("b", "f4")], np.array([(1, 1.5), (300, 1.5)], _RECORD), "300"),
        ([("a", "i1"), ("b", "i8")], np.array([1, 300]), "300"),
    ],
    ids=str,
)
def test_values_of_any_type_that_the_array_cannot_hold_are_refused(
    tmp_path: Path, dtype: Any, values: Any, lost: str
) -> None:
    async def create() -> Any:
        async with zs.Session() as session:
            array = await session.create_array(tmp_path / "a", shape=2, dtype=dtype)
            return await array[...]

    before = asyncio.run(create())
    np.save(tmp_path / "x.npy", values)
    url = f"{tmp_path.as_uri()}/a"
    for arguments in (["put", str(tmp_path / "x.npy"), url, "--at", ":"], ["append", str(tmp_path / "x.npy"), url]):
        result = command(*arguments)
        assert result.exit_code == 2, result.stdout
        assert lost in result.stderr
        assert "cannot hold" in result.stderr

    async def read() -> Any:
        async with zs.Session() as session:
            return await (await session.open_array(tmp_path / "a"))[...]

    np.testing.assert_array_equal(asyncio.run(read()), before)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int4", np.array([7.0, -8.0])),
        ("bfloat16", np.array([1.2345, np.nan])),
        ("float8_e4m3fn", np.array([448, np.nan])),
        ("<U4", np.array(["four", ""])),
        ("<U4", np.array([1.5, 12])),
        ("|S4", np.array(["four", "a"])),
        ("datetime64[s]", np.array(["NaT", "2020-01-01T00:00:01"], "M8[ms]")),
        ([("a", "i1"), ("b", "f4")], np.array([(1, 0.1), (-128, np.nan)], _RECORD)),
    ],
    ids=str,
)
def test_values_of_any_type_that_the_array_can_hold_are_stored(tmp_path: Path, dtype: Any, values: Any) -> None:
    async def create_and(*, read: bool) -> Any:
        async with zs.Session() as session:
            if read:
                return await (await session.open_array(tmp_path / "a"))[...]
            array = await session.create_array(tmp_path / "a", shape=2, dtype=dtype)
            return array.dtype

    stored_as = asyncio.run(create_and(read=False))
    np.save(tmp_path / "x.npy", values)
    done("put", str(tmp_path / "x.npy"), f"{tmp_path.as_uri()}/a", "--at", ":")
    # As bytes, because NaN in records, and of types of ml_dtypes, is not equal to itself.
    assert asyncio.run(create_and(read=True)).tobytes() == values.astype(stored_as).tobytes()


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int8", [1.0, -2.0]),
        ("uint8", [1, 255]),
        ("float32", [0.1, np.nan]),
        ("float32", [np.inf, 16777217]),
        ("bool", [0, 1]),
        ("complex64", [1.5, 1j]),
    ],
)
def test_values_that_the_array_can_hold_are_stored_as_numpy_converts_them(
    tmp_path: Path, dtype: str, values: Any
) -> None:
    url = f"{tmp_path.as_uri()}/a"
    done("create", url, "--shape", "2", "--dtype", dtype)
    np.save(tmp_path / "x.npy", np.asarray(values))
    done("put", str(tmp_path / "x.npy"), url, "--at", ":")
    done("get", url, "--out", str(tmp_path / "out.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.asarray(values).astype(dtype))


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("1,x", "int32", "could not convert string 'x' to int32 at row 1, column 2"),
        ("1,2\n3,", "int32", "at row 2, column 2"),
        ("1.5,2", "int32", "'1.5' to int32"),
        ("300,2", "uint8", "'300' to uint8"),
        ("a,b\n1,2", "float64", "'a' to float64 at row 1"),
        ("yes,no", "bool", "'yes' to bool"),
        ("1,2\n3", "float64", "the number of columns changed from 2 to 1 at row 2"),
    ],
)
def test_a_csv_cell_that_is_not_a_number_of_the_type_is_refused(
    tmp_path: Path, text: str, dtype: str, expected: str
) -> None:
    (tmp_path / "x.csv").write_text(text)
    result = command("put", str(tmp_path / "x.csv"), f"{tmp_path.as_uri()}/a", "--dtype", dtype)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert expected in line
    assert "usecols" not in line


def test_an_empty_cell_of_a_csv_is_nan_and_words_are_booleans(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,\n,4")
    done("put", str(tmp_path / "x.csv"), f"{tmp_path.as_uri()}/a")
    assert done("get", f"{tmp_path.as_uri()}/a")["values"] == [[1.0, "NaN"], ["NaN", 4.0]]
    (tmp_path / "b.csv").write_text("True,0\nfalse,1")
    done("put", str(tmp_path / "b.csv"), f"{tmp_path.as_uri()}/b", "--dtype", "bool")
    assert done("get", f"{tmp_path.as_uri()}/b")["values"] == [[True, False], [False, True]]


def test_a_file_with_pickles_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    result = command("put", str(tmp_path / "x.npy"), f"{tmp_path.as_uri()}/y")
    assert result.exit_code == 2
    assert "(ConfigError)" in result.stderr
