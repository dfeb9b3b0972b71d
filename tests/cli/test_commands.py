"""What the commands write, refuse and print, beyond what the recorded sessions show (test_sessions.py)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import zarr_s3_async as zs
from zarr_s3_async.cli import terminal
from zarr_s3_async.cli.app import app
from zarr_s3_async.cli.options import parse_region

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/cli.md").read_text()
DATA = np.arange(600, dtype="float32").reshape(20, 30)


def command(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"}, **options)


def done(*arguments: str) -> Any:
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An array of float32."""

    async def fill() -> None:
        async with zs.Session() as session:
            array = await session.create_array(
                f"{tmp_path.as_uri()}/x", shape=(20, 30), chunks=(10, 10), dtype="float32"
            )
            await array.set_slice(DATA, start=(0, 0))

    asyncio.run(fill())
    return f"{tmp_path.as_uri()}/x"


# Regions


@pytest.mark.parametrize(
    "text", ["", "3", "2:5", "::3", "-4:", "...,2", "1:4,::2", " 1 , 2 ", "[5:,1]", "...", "::-1,0"]
)
def test_a_region_is_parsed_as_in_numpy(text: str) -> None:
    assert np.array_equal(DATA[parse_region(text)], eval(f"DATA[{text.strip('[]') or '...'}]", {"DATA": DATA}))


@pytest.mark.parametrize("text", ["a", "1:2:3:4", "1.5", "0:1;2", "1,,2", "None"])
def test_an_invalid_region_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(zs.SelectionError, match="neither a number nor a slice"):
        parse_region(text)


# Files


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


# Plans, removals, attributes


def test_plan_copies_nothing(url: str, tmp_path: Path) -> None:
    plan = done("copy", url, f"{tmp_path.as_uri()}/copy", "--plan")
    assert plan["done"] is False
    assert plan["plan"]
    assert not (tmp_path / "copy").exists()


def test_copy_and_rechunk_keep_the_data_and_continue_when_repeated(url: str, tmp_path: Path) -> None:
    target = f"{tmp_path.as_uri()}/r"
    for _ in range(2):
        assert done("rechunk", url, target, "--chunks", "20,4", "--verify")["verified"] is True
    assert done("info", target)["chunks"] == [20, 4]
    assert done("get", target)["values"] == DATA.tolist()
    done("copy", url, f"{tmp_path.as_uri()}/two", "--zarr-format", "2")
    assert done("info", f"{tmp_path.as_uri()}/two")["zarr_format"] == 2


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_rm_deletes_only_after_confirmation(
    url: str, tmp_path: Path, answer: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarr_s3_async.cli.remove._is_at_terminal", lambda: True)
    result = command("rm", url, input=answer)
    assert result.exit_code == status, result.stderr
    assert "7 objects" in result.stderr
    assert (tmp_path / "x" / "zarr.json").exists() is (status != 0)


def test_rm_of_a_prefix_without_a_node_needs_its_name(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "notes.txt").write_text("mine")
    url = f"{tmp_path.as_uri()}/plain"
    assert command("rm", url, "--yes").exit_code == 2
    assert (tmp_path / "plain" / "notes.txt").exists()
    assert done("rm", url, "--yes", "--everything")["objects"] == 1
    assert not (tmp_path / "plain" / "notes.txt").exists()


def test_attributes_are_json_or_text_and_removing_an_absent_one_fails(url: str) -> None:
    assert done("attrs", url, "a=1", 'b={"c": [true]}', "c=plain text")["attributes"] == {
        "a": 1, "b": {"c": [True]}, "c": "plain text",
    }  # fmt: skip
    assert command("attrs", url, "--remove", "nothing").exit_code == 2
    assert command("attrs", url, "a=1", "--remove", "a").exit_code == 2
    assert done("attrs", url, "--remove", "a")["attributes"].keys() == {"b", "c"}


def test_fill_values_keep_their_notation_and_json_is_strict(tmp_path: Path) -> None:
    url = f"{tmp_path.as_uri()}/z"
    done("create", url, "--shape", "2", "--dtype", "float32", "--fill-value", "NaN")
    assert done("info", url)["fill_value"] == "NaN"
    assert done("get", url)["values"] == ["NaN", "NaN"]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["create", "memory://x", "--dtype", "i4"], "--shape"),
        (["create", "memory://x", "--shape", "two", "--dtype", "i4"], "--shape"),
        (["create", "memory://x", "--shape", "2", "--dtype", "i4", "--codecs", "["], "--codecs"),
        (["create", "memory://x", "--shape", "2", "--group"], "--group"),
        (["create", "memory://x", "--group", "--chunks", "2"], "--group"),
        (["create", "memory://x", "--shape", "2,2", "--dtype", "i4", "--chunks", "10"], "--chunks 10 has 1"),
        (["rechunk", "memory://x", "memory://y"], "--chunks"),
        (["plot", "memory://x", "--out", "x.jpg"], "--out"),
        (["ls", "s3://bucket", "--anonymous", "--profile", "somebody"], "--anonymous"),
        (["ls", "s3://bucket", "--endpoint-url", "localhost:9000"], "--endpoint-url"),
    ],
)
def test_errors_of_options_name_the_flags(arguments: list[str], flag: str) -> None:
    result = command(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert flag in line
    assert not re.search(r"\b(endpoint_url|anonymous|profile|overwrite|chunks|shape)=", line)


def test_the_error_of_a_missing_node_names_the_nodes_below(tmp_path: Path) -> None:
    for number in range(7):
        done("create", f"{tmp_path.as_uri()}/a{number}", "--shape", "2", "--dtype", "int8")
    for arguments in (["info"], ["get"], ["verify"], ["consolidate"], ["attrs"], ["rm", "--yes"]):
        result = command(arguments[0], tmp_path.as_uri(), *arguments[1:])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert f"below it are 'a0/', 'a1/', 'a2/', 'a3/', 'a4/', … (zarr-s3 ls {tmp_path.as_uri()})" in line
        assert "create one" not in line
    assert "below it" not in command("info", f"{tmp_path.as_uri()}/none").stderr
    assert "below it" not in command("tree", f"{tmp_path.as_uri()}/a0").stderr


def test_a_tree_without_a_group_shows_the_nodes_of_every_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/read.me").write_text("no node")
    done("create", f"{tmp_path.as_uri()}/a", "--shape", "2,3", "--dtype", "int8")
    done("create", f"{tmp_path.as_uri()}/g", "--group")
    done("create", f"{tmp_path.as_uri()}/g/b", "--shape", "5", "--dtype", "float32")
    shown = command("tree", tmp_path.as_uri()).stdout
    assert shown.splitlines() == [tmp_path.as_uri(), "├── a (2, 3) int8", "└── g", "    └── b (5,) float32"]
    assert [node["path"] for node in done("tree", tmp_path.as_uri())["nodes"]] == ["a", "g", "g/b"]
    assert [node["path"] for node in done("tree", f"{tmp_path.as_uri()}/g")["nodes"]] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--bucket", "A_B"], "'A_B' is not a bucket name"),
        (["--access-key", "a b"], "without spaces"),
        (["--env-file", "no/folder/env"], "--env-file no/folder/env"),
        (["--env-file", "."], "--env-file . is a folder"),
        (["--keep", "file"], "--keep file is not a folder"),
    ],
)
def test_serve_refuses_invalid_options_before_it_starts_a_server(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = command("serve", *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert told in line


def test_a_missing_folder_is_reported_before_any_request(url: str, tmp_path: Path) -> None:
    result = command("get", url, "--out", str(tmp_path / "no" / "x.npy"))
    assert result.exit_code == 2
    assert "--out" in result.stderr
    assert ".partial" not in result.stderr


@pytest.mark.parametrize("text", ["5,x", "5,,3", ",5", "x"])
def test_a_shape_with_a_gap_is_refused(text: str, tmp_path: Path) -> None:
    result = command("create", f"{tmp_path.as_uri()}/a", "--shape", text, "--dtype", "int8")
    assert result.exit_code == 2
    assert "--shape" in result.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("text", "shape"), [("", []), ("5", [5]), ("(5,)", [5]), ("5, 3", [5, 3]), ("5x3", [5, 3])])
def test_shapes_in_numpys_notation_are_accepted(text: str, shape: list[int], tmp_path: Path) -> None:
    assert done("create", f"{tmp_path.as_uri()}/a", "--shape", text, "--dtype", "int8")["shape"] == shape


def test_a_mistyped_aws_region_is_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    result = command("info", "s3://bucket/a", "--region", "us_east")
    assert result.exit_code == 2
    assert "us_east" in result.stderr
    assert len(result.stderr) < 160  # it does not list every option of S3Config


@pytest.mark.parametrize("name", ["put", "append"])
def test_a_url_in_place_of_the_file_is_reported(name: str, tmp_path: Path) -> None:
    result = command(name, "s3://bucket/a", "x.npy")
    assert result.exit_code == 2
    assert "'s3://bucket/a' is a URL: the file comes first" in " ".join(result.stderr.replace("│", "").split())
    result = command(name, str(tmp_path), "s3://bucket/a")
    assert result.exit_code == 2
    assert "there is no file" in result.stderr


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("x.npy", ["--dtype", "flot"], "--dtype flot is not a data type"),
        ("x.npy", ["--dtype", "int16"], "omit --dtype"),
        ("x.npz", ["--dtype", "int16"], "omit --dtype"),
        ("x.npy", ["--shape", "2,2"], "omit --shape"),
        ("x.csv", ["--shape", "2,2"], "omit --shape"),
        ("x.csv", ["--dtype", "flot"], "--dtype flot is not a data type"),
        ("x.raw", ["--dtype", "flot", "--shape", "4"], "--dtype flot is not a data type"),
        ("x.npy", ["--format", "npz"], "is an npy file"),
        ("x.npz", ["--format", "npy"], "is an npz file"),
        ("bad.npz", [], "is not an array of the format npz"),
        ("x.npy", ["--at", "...", "--chunks", "2"], "omit --chunks"),
        ("x.npy", ["--at", "...", "--shards", "2"], "omit --chunks, --shards"),
        ("x.npy", ["--at", "...", "--zarr-format", "3"], "--zarr-format"),
        ("x.npy", ["--at", "...", "--overwrite"], "--overwrite"),
    ],
)
def test_an_option_of_put_that_would_have_no_effect_is_refused(
    tmp_path: Path, url: str, file: str, options: list[str], expected: str
) -> None:
    data = np.arange(4.0)
    np.save(tmp_path / "x.npy", data)
    np.savez(tmp_path / "x.npz", data=data)
    (tmp_path / "x.csv").write_text("0,1,2,3")
    (tmp_path / "x.raw").write_bytes(data.tobytes())
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and no archive")
    target = url if "--at" in options else f"{tmp_path.as_uri()}/new"
    before = sorted(tmp_path.rglob("*"))
    result = command("put", str(tmp_path / file), target, *options)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert expected in line
    assert sorted(tmp_path.rglob("*")) == before


def test_hints_about_python_calls_are_left_out() -> None:
    place = command("info", "bucket/a").stderr
    assert "file://$PWD/bucket/a" in place
    assert "Path(" not in place
    assert terminal.in_flags("but a node of kind array: open it by open_array(...)") == "but a node of kind array"


def test_hints_of_the_library_are_written_as_flags() -> None:
    assert terminal.in_flags("pass overwrite=True") == "pass --overwrite"
    assert (
        terminal.in_flags("give region='eu-west-1', or endpoint_url=") == "give --region eu-west-1, or --endpoint-url"
    )
    assert terminal.in_flags("chunks=[10, 20], shards=(5,)") == "--chunks 10,20, --shards 5"
    assert terminal.in_flags("missing_on_403=True stays") == "missing_on_403=True stays"


# Terminals


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = "from zarr_s3_async.cli import main; main()"
    variables = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        env=variables | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | environment,
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_output_works_in_every_terminal_encoding(url: str, encoding: str) -> None:
    assert command("attrs", url, "name=\N{SNOWMAN} na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve").exit_code == 0
    for arguments in (["info", url], ["--help"], ["ls", f"{url}/\N{SNOWMAN}"]):
        result = run(*arguments, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in result.stderr, result.stderr
        (result.stdout + result.stderr).decode(encoding)
    shown = run("info", url, PYTHONIOENCODING=encoding).stdout.decode(encoding)
    assert ("20 \N{MULTIPLICATION SIGN} 30" if encoding != "ascii" else "20 x 30") in shown


def test_no_color_and_dumb_terminals_get_no_escape_sequences(url: str) -> None:
    assert b"\x1b[" in run("info", url, FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = run("info", url, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]", plain)
    assert b"\x1b" not in run("info", url).stdout


def test_a_closed_pipe_is_no_error(url: str) -> None:
    code = "from zarr_s3_async.cli import main; main()"
    reader = f"{sys.executable} -c '{code}' ls --all {url}/c/0 | head -1"
    result = subprocess.run(
        ["bash", "-c", reader], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert "Traceback" not in result.stderr


def test_version_prints_the_version_of_the_package() -> None:
    assert command("--version").stdout == f"zarr-s3 {zs.__version__}\n"


def test_shells_get_completion() -> None:
    assert "--install-completion" in command("--help").stdout


def test_the_error_of_a_mistyped_command_or_flag_names_the_right_one(url: str) -> None:
    assert "'info'" in command("inof", url).stderr
    assert "--region" in command("info", url, "--regon", "x").stderr


# The page


def documented() -> dict[str, set[str]]:
    table = PAGE.partition("\n## JSON\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}


def test_json_output_has_the_documented_fields(url: str, tmp_path: Path) -> None:
    page, group, made = documented(), f"{tmp_path.as_uri()}/g", f"{tmp_path.as_uri()}/m"
    np.save(tmp_path / "a.npy", DATA)
    shown = {
        "`create --group`": done("create", group, "--group"),
        "`create`, `put`, `append`": done("put", str(tmp_path / "a.npy"), f"{group}/a"),
        "`info` of an array": done("info", url),
        "`info` of a group": done("info", group),
        "`ls`": done("ls", group),
        "`tree`": done("tree", group),
        "`get`": done("get", url, "0"),
        "`get --out FILE`": done("get", url, "0", "--out", str(tmp_path / "o.npy")),
        "`plot`": done("plot", url),
        "`explain`": done("explain", url),
        "`attrs`": done("attrs", url),
        "`copy`, `rechunk`": done("copy", url, made),
        "`rm`": done("rm", made, "--yes"),
        "`consolidate`": done("consolidate", group),
        "`doctor`": done("doctor", url),
        "`bench`": done("bench", url, "--seconds", "0.05", "--max-requests", "2"),
    }
    assert shown.keys() | {"`serve`", "`demo`", "`view`"} == page.keys()
    for name, fields in shown.items():
        assert set(fields) == page[name], name
    assert shown["`bench`"]["best"] in {1, 2}


def test_every_command_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z]+)[ `]", PAGE.partition("\n## ")[0], re.MULTILINE)
    assert rows == [one.name for one in app.registered_commands]
