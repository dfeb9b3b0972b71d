"""What the commands write, refuse and print, beyond what the recorded sessions show (test_sessions.py)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from zarr_s3_async.cli import terminal
from zarr_s3_async.cli.app import app

from .commands import DATA, command, done

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text()


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
