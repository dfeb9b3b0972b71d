"""Hostile bytes are refused with one error, and what is JSON comes through unchanged."""

import json

import pytest

from zarr_s3_async._model import document
from zarr_s3_async._model.document import check_portable, dump, load
from zarr_s3_async._model.problems import Invalid
from zarr_s3_async.errors import ConfigError


def nested(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_an_object_comes_through_with_its_order_and_its_types():
    raw = b'{"b": 1, "a": [1.0, true, null, "\\u00e9"], "big": 18446744073709551615}'
    value = load(raw)
    assert list(value) == ["b", "a", "big"]
    assert value == {"b": 1, "a": [1.0, True, None, "é"], "big": 2**64 - 1}
    assert type(value["a"][0]) is float


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_buffer_is_a_document(make):
    assert load(make(b'{"a": 1}')) == {"a": 1}


def test_a_byte_order_mark_is_passed_over():
    assert load(b"\xef\xbb\xbf{}") == {}


def test_a_parsed_document_passes_as_it_is():
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
def test_what_is_no_document_is_invalid(raw, words):
    with pytest.raises(Invalid, match=words):
        load(raw)


def test_the_deepest_document_allowed_is_read_and_can_be_written():
    assert dump(load(nested(document.MAX_DEPTH)))


def test_a_document_may_be_wide():
    assert len(load(b'{"a": [' + b"[], " * 200 + b"{}]}")["a"]) == 201


def test_brackets_in_a_text_are_no_nesting():
    assert load(b'{"a": "' + b"[{" * 200 + b'"}')
    with pytest.raises(Invalid, match="JSON object"):
        load(b'"' + b"[{" * 200 + b'"')


def test_size_is_bounded(monkeypatch):
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
def test_numbers_that_json_does_not_have_load_but_are_not_portable(literal):
    value = load(f'{{"a": [{{"b": {literal}}}]}}'.encode())
    with pytest.raises(Invalid, match="not a JSON number"):
        check_portable(value, "'a'")


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, [["x\udc00"]]])
def test_lone_surrogates_are_not_portable(value):
    with pytest.raises(Invalid, match="not valid Unicode"):
        check_portable(value, "'a'")


def test_what_json_has_is_portable():
    check_portable({"a": [1, 1.5, -0.0, True, None, "é😀", {"b": []}]}, "'a'")


def test_nan_survives_a_dump_as_the_literal_it_was():
    raw = dump(load(b'{"a": [NaN, -Infinity]}'))
    assert b"NaN" in raw
    assert b"-Infinity" in raw


def test_a_dump_is_for_people_unless_it_is_compact():
    assert dump({"a": [1]}) == b'{\n  "a": [\n    1\n  ]\n}'
    assert dump({"a": [1]}, compact=True) == b'{"a": [1]}'


def test_a_dump_is_ascii_so_that_any_reader_can_read_it():
    raw = dump({"é": "😀"})
    assert raw.isascii()
    assert json.loads(raw) == {"é": "😀"}
