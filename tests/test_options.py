"""Every option is checked by name, type and value when it is given, so a typo never changes a read or a write."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async.config import S3Options

URL = "memory://options"


async def _now(_: object) -> None:
    """Invalid options raise when they are given, not when they are used."""


WRONG_WORDS: dict[str, Any] = {
    "session.open_array missing": lambda s, g, a: s.open_array(URL, path="g/a", missing="rise"),
    "session.open missing": lambda s, g, a: s.open(URL, path="g/a", missing="rise"),
    "group.open missing": lambda s, g, a: g.open("a", missing="rise"),
    "get_slice missing": lambda s, g, a: a.get_slice(0, 4, missing="rise"),
    "get_slice missing empty": lambda s, g, a: a.get_slice(0, 4, missing=""),
    "get_slice missing False": lambda s, g, a: a.get_slice(0, 4, missing=False),
    "view.get missing": lambda s, g, a: a[0:4].get(missing="rise"),
    "oindex missing": lambda s, g, a: a.oindex[[0]].get(missing="Fill"),
    "open_array zarr_format": lambda s, g, a: s.open_array(URL, path="g/a", zarr_format="3"),
    "open_array zarr_format 4": lambda s, g, a: s.open_array(URL, path="g/a", zarr_format=4),
    "open_array zarr_format True": lambda s, g, a: s.open_array(URL, path="g/a", zarr_format=True),
    "open zarr_format": lambda s, g, a: s.open(URL, path="g/a", zarr_format=3.0),
    "open_group zarr_format": lambda s, g, a: s.open_group(URL, path="g", zarr_format="v3"),
    "verify zarr_format": lambda s, g, a: s.verify(URL, path="g", zarr_format="2"),
    "create_group zarr_format": lambda s, g, a: s.create_group(URL, path="h", zarr_format="2"),
    "create_group overwrite": lambda s, g, a: s.create_group(URL, path="g", overwrite="false"),
    "group.create_group overwrite": lambda s, g, a: g.create_group("a", overwrite=1),
    "create_array overwrite": lambda s, g, a: g.create_array("a", shape=1, dtype="u1", overwrite="no"),
    "create_array write_empty_chunks": lambda s, g, a: g.create_array("b", shape=1, dtype="u1", write_empty_chunks=0),
    "create_array zarr_format": lambda s, g, a: s.create_array(URL, path="b", shape=1, dtype="u1", zarr_format="3"),
    "create_array order": lambda s, g, a: g.create_array("b", shape=1, dtype="u1", order="c"),
    "create_array separator": lambda s, g, a: g.create_array("b", shape=1, dtype="u1", dimension_separator="-"),
    "create_array chunks": lambda s, g, a: g.create_array("b", shape=1, dtype="u1", chunks="Auto"),
    "create_array encoding": lambda s, g, a: g.create_array("b", shape=1, dtype="u1", chunk_key_encoding="v3"),
    "array.verify strict": lambda s, g, a: a.verify(strict="yes"),
    "group.verify strict": lambda s, g, a: g.verify(strict=None),
    "update_attributes replace": lambda s, g, a: a.update_attributes({}, replace="False"),
    "group.update_attributes replace": lambda s, g, a: g.update_attributes({}, replace=0),
    "get_slice timeout": lambda s, g, a: a.get_slice(0, 4, timeout="5"),
    "set_slice timeout": lambda s, g, a: a.set_slice(1, 0, 4, timeout=True),
    "stream order": lambda s, g, a: _now(a.stream(order="c")),
    "stream missing": lambda s, g, a: _now(a.stream(missing="")),
    "stream_slices missing": lambda s, g, a: _now(a.stream_slices(0, 1, missing="rise")),
    "write_stream resume": lambda s, g, a: _now(a.write_stream(resume="no")),
    "append axis": lambda s, g, a: a.append([1], axis="0"),
    "verify progress": lambda s, g, a: a.verify(progress="print"),
    "verify max_findings": lambda s, g, a: g.verify(max_findings="all"),
    "group.open name": lambda s, g, a: g.open(5),
    "open_array path": lambda s, g, a: s.open_array(URL, path=None),
    "delete path": lambda s, g, a: s.delete(URL, path=None),
    "view.get timeout": lambda s, g, a: a[0:4].get(timeout=-1),
    "view.set timeout": lambda s, g, a: a[0:4].set(1, timeout=float("nan")),
    "view.set a timeout without a float": lambda s, g, a: a[0:4].set(1, timeout=10**400),
    "open_array cache without a float": lambda s, g, a: s.open_array(a.ref, cache=10**400),
}


@pytest.mark.parametrize("call", WRONG_WORDS.values(), ids=WRONG_WORDS)
async def test_an_invalid_option_is_refused_in_every_call_and_changes_nothing(call: Callable[..., Any]) -> None:
    async with zs.Session() as session:
        group = await session.create_group(URL, path="g")
        array = await group.create_array("a", shape=(4,), dtype="u1", fill_value=7, attributes={"kept": 1})
        with pytest.raises(zs.ConfigError, match=r"must be|chunk key encoding 'v3'"):
            await call(session, group, array)
        assert array.attrs == {"kept": 1}
        assert [name async for name, _ in group.members()] == ["a"]
        assert (await array[...]).tolist() == [7] * 4


WRONG_TYPES = {
    "bool": ["true", "False", 1, 0, "", []],
    "float": ["5", True, float("nan"), 0, -1, []],
    "int": ["5", True, 2.5, 0, -1, []],
    "int | None": ["5", True, 2.5, -1, []],
    "str | None": [1, b"text", True, False, []],
    "AddressingStyle": ["", "Auto", None, False, 1],
    "Transport": ["", "http", None, False, 1],
    "Checksums": ["", "On", None, True, 1],
    "ConditionalWrites": ["", "required", None, True, 1],
    "Sse | None": ["", "aes256", True, False, 1],
}


@pytest.mark.parametrize("kind", [zs.S3Config, zs.Limits, zs.RetryPolicy, zs.HedgePolicy, zs.CacheSize])
def test_every_field_of_every_option_class_is_checked(kind: type) -> None:
    for field in fields(kind):
        least = 0 if kind is zs.CacheSize else None
        for wrong in WRONG_TYPES.get(field.type, ["text", 1]):
            if wrong == least and not isinstance(wrong, bool):
                continue
            with pytest.raises(zs.ConfigError, match=field.name):
                kind(**{field.name: wrong})


@pytest.mark.parametrize("value", [None, False, 0, "", True, "x"])
def test_an_unknown_option_is_refused_with_any_value(value: Any) -> None:
    for name in ("anonymus", "frobnicate", "verify", "pool"):
        with pytest.raises(zs.ConfigError, match=f"unknown option {name!r}"):
            zs.Session(**{name: value})
        with pytest.raises(zs.ConfigError, match=f"unknown option {name!r}"):
            zs.S3Config().with_options(**{name: value})


@pytest.mark.parametrize(("cores", "threads"), [(1, 2), (3, 3), (64, 4)])
def test_codecs_have_a_thread_per_core_within_bounds(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert zs.Limits().cpu_threads == threads


def test_calls_accept_the_options_of_the_class() -> None:
    known = {field.name: field.type for field in fields(zs.S3Config)}
    options = {name: hint.__forward_arg__ for name, hint in S3Options.__annotations__.items()}
    assert options == {name: hint if hint.endswith("None") else f"{hint} | None" for name, hint in known.items()}


def test_false_is_not_treated_as_an_absent_option() -> None:
    with pytest.raises(zs.ConfigError, match="given both"):
        zs.Session(s3=zs.S3Config(anonymous=True), anonymous=False)
    assert zs.S3Config().with_options(anonymous=False, region=None) == zs.S3Config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region_name": "eu-west-1"}, "write region="),
        ({"aws_access_key_id": "AKIA"}, "write access_key_id="),
        ({"aws_secret_access_key": "s3cr3t"}, "write secret_access_key="),
        ({"aws_session_token": "s3cr3t"}, "write session_token="),
        ({"profile_name": "me"}, "write profile="),
        ({"key": "AKIA"}, "write access_key_id="),
        ({"secret": "s3cr3t"}, "write secret_access_key="),
        ({"token": "s3cr3t"}, "write session_token="),
        ({"anon": True}, "write anonymous="),
        ({"endpoint": "http://localhost:9000"}, "write endpoint_url="),
        ({"endpoint_ur": "http://localhost:9000"}, "write endpoint_url="),
        ({"verify": False}, "write ca_bundle="),
        ({"skip_signature": True}, "write anonymous="),
        ({"limit": zs.Limits()}, "write limits="),
        ({"requests": 64}, r"write limits=zs.Limits\(requests=...\)"),
        ({"limits": 64}, r"write limits=zs.Limits\(requests=64\)"),
        ({"limits": {"requests": 64}}, r"write limits=zs.Limits\(requests=64\)"),
        ({"retry": 5}, r"write retry=zs.RetryPolicy\(attempts=5\)"),
        ({"hedge": True}, r"write hedge=zs.HedgePolicy\(\)"),
        ({"cache": 2**30}, r"write cache=zs.CacheSize\(chunks="),
        ({"s3": {"region": "x"}}, r"write s3=zs.S3Config"),
        ({"hooks": print}, r"write hooks=\[hook\]"),
        ({"hooks": [1]}, "list of callables"),
        ({"endpoint_url": "localhost:9000"}, "write http://localhost:9000"),
        ({"attempt_timeout": "5"}, "must be a number above zero, not '5'"),
        ({"attempt_timeout": 10**5000}, "must be a number above zero, not an int of 16,610 bits"),
        ({"anonymous": "false"}, "must be True or False, not 'false'"),
        ({"transport": "wires"}, "did you mean 'wire'"),
        ({"access_key_id": "", "secret_access_key": ""}, "access_key_id is empty"),
    ],
)
def test_option_names_of_other_libraries_get_an_error_with_our_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(zs.ConfigError, match=message) as caught:
        zs.Session(**options)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token", "endpoint_url"])
def test_a_secret_of_a_wrong_type_is_not_shown(name: str) -> None:
    with pytest.raises(zs.ConfigError) as caught:
        zs.S3Config(**{name: b"s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compressors": None}, "write compressor="),
        ({"chunk": 1}, "write chunks="),
        ({"chunk_shape": 1}, "write chunks="),
        ({"shapes": 1}, "write shape="),
        ({"attrs": {}}, "write attributes="),
        ({"zarr_version": 2}, "write zarr_format="),
        ({"frobnicate": None}, "create_array takes: "),
    ],
)
async def test_the_error_of_a_mistyped_option_names_the_nearest_one(options: dict[str, Any], message: str) -> None:
    async with zs.Session() as session:
        with pytest.raises(zs.ConfigError, match=message):
            await session.create_array(URL, shape=1, dtype="u1", **options)
        assert not await session.exists(URL)


@pytest.mark.parametrize("missing", ["shape", "dtype"])
async def test_the_error_of_a_missing_option_names_it(missing: str) -> None:
    options: dict[str, Any] = {"shape": 1, "dtype": "u1"}
    del options[missing]
    async with zs.Session() as session:
        with pytest.raises(zs.ConfigError, match=f"create_array needs {missing}="):
            await session.create_array(URL, **options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": "nonsense"},
        {"compressor": "zstdd"},
        {"chunks": (1, 1)},
        {"shape": "3"},
        {"fill_value": "x"},
        {"dimension_names": ("a", "b")},
        {"attributes": {"a": object()}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_an_invalid_option_of_a_new_array_gives_one_traceback(wrong: dict[str, Any]) -> None:
    async with zs.Session() as session:
        with pytest.raises((zs.ConfigError, zs.UnsupportedFeature)) as caught:
            await session.create_array(URL, **{"shape": 3, "dtype": "i4", **wrong})
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback (most recent call last)") == 1, text
