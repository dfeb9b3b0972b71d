"""Untrusted bytes are refused with one kind of error, and valid JSON is read unchanged."""

import json

import pytest

from zarr_s3_async._model import document
from zarr_s3_async._model.document import check_portable, dump, load
from zarr_s3_async._model.problems import Invalid
from zarr_s3_async.errors import ConfigError


def nested(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_an_object_keeps_its_order_and_its_types():
    raw = b'{"b": 1, "a": [1.0, true, null, "\\u00e9"], "big": 18446744073709551615}'
    value = load(raw)
    assert list(value) == ["b", "a", "big"]
    assert value == {"b": 1, "a": [1.0, True, None, "é"], "big": 2**64 - 1}
    assert type(value["a"][0]) is float


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_a_document_may_be_any_buffer(make):
    assert load(make(b'{"a": 1}')) == {"a": 1}


def test_a_byte_order_mark_is_ignored():
    assert load(b"\xef\xbb\xbf{}") == {}


def test_a_parsed_document_is_accepted():
    value = {"a": 1}
    assert load(value) is value


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1}x', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[]", "JSON object"),
        (b"1", "JSON object"),
        (b"null", "JSON object"),
        (b'"text"', "JSON object"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' is duplicated"),
        (b'{"x": [{"a": 1, "b": 2, "a": 1}]}', "'a' is duplicated"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (nested(document.MAX_DEPTH + 1), "nested"),
        (nested(100_000), "nested"),
        (b"[" * 100_000, "nested"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested"),
    ],
)
def test_invalid_documents_are_refused(raw, words):
    with pytest.raises(Invalid, match=words):
        load(raw)


def test_the_deepest_document_allowed_is_read_and_can_be_written():
    assert dump(load(nested(document.MAX_DEPTH)))


def test_a_document_may_have_many_members():
    assert len(load(b'{"a": [' + b"[], " * 200 + b"{}]}")["a"]) == 201


def test_brackets_in_strings_are_not_counted_as_nesting():
    assert load(b'{"a": "' + b"[{" * 200 + b'"}')
    with pytest.raises(Invalid, match="JSON object"):
        load(b'"' + b"[{" * 200 + b'"')


def test_the_size_of_a_document_is_bounded(monkeypatch):
    monkeypatch.setattr(document, "MAX_BYTES", 20)
    load(b'{"a": "0123456789"}')
    with pytest.raises(Invalid, match="21 bytes"):
        load(b'{"a": "0123456789ab"}')
    with pytest.raises(ConfigError, match="read back"):
        dump({"a": "0123456789abcdef"})


def test_the_number_of_values_is_bounded():
    with pytest.raises(Invalid, match="values"):
        load(b'{"a": [' + b"[]," * (document.MAX_VALUES // 2) + b"[]]}")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_nan_and_infinity_are_loaded_but_not_portable(literal):
    value = load(f'{{"a": [{{"b": {literal}}}]}}'.encode())
    with pytest.raises(Invalid, match="not a JSON number"):
        check_portable(value, "'a'")


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, [["x\udc00"]]])
def test_lone_surrogates_are_not_portable(value):
    with pytest.raises(Invalid, match="not valid Unicode"):
        check_portable(value, "'a'")


def test_valid_json_is_portable():
    check_portable({"a": [1, 1.5, -0.0, True, None, "é😀", {"b": []}]}, "'a'")


def test_nan_is_dumped_as_the_same_literal():
    raw = dump(load(b'{"a": [NaN, -Infinity]}'))
    assert b"NaN" in raw
    assert b"-Infinity" in raw


def test_a_dump_is_indented_unless_compact():
    assert dump({"a": [1]}) == b'{\n  "a": [\n    1\n  ]\n}'
    assert dump({"a": [1]}, compact=True) == b'{"a": [1]}'


def test_a_dump_is_ascii():
    raw = dump({"é": "😀"})
    assert raw.isascii()
    assert json.loads(raw) == {"é": "😀"}
