"""Parsing pages of listings: valid pages give their entries, anything else is rejected."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async.stores.s3.listing_document import ListingError, parse_listing

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_objects = st.lists(st.tuples(_keys, st.integers(0, 5 * 2**40), st.text("0123456789abcdef", min_size=1)), max_size=5)


def _document(inner: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {_NAMESPACE}>{inner}</ListBucketResult>'.encode()


@given(_objects, st.lists(_keys, max_size=5), st.one_of(st.none(), st.text("abc=/+", min_size=1)), st.booleans())
def test_a_valid_page_gives_its_entries(
    objects: list[tuple[str, int, str]], folders: list[str], token: str | None, owners: bool
) -> None:
    """The elements may be in any order, keys are any UTF-8, and unknown elements are ignored."""
    owner = "<Owner><ID>75aa</ID><DisplayName>somebody</DisplayName></Owner><StorageClass>STANDARD</StorageClass>"
    contents = [
        f"<Contents><ETag>&quot;{etag}&quot;</ETag><Key>{quote_plus(key)}</Key>{owner * owners}<Size>{size}</Size>"
        "<ChecksumAlgorithm/><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        for key, size, etag in objects
    ]
    prefixes = [f"<CommonPrefixes><Prefix>{quote_plus(folder)}</Prefix></CommonPrefixes>" for folder in folders]
    next_token = f"<NextContinuationToken>{escape(token or '')}</NextContinuationToken>"
    page = parse_listing(
        _document(
            "<Name>bucket</Name><Prefix/><EncodingType>url</EncodingType>\n"
            + "\n".join([*prefixes, *contents])
            + f"<IsTruncated>{str(token is not None).lower()}</IsTruncated>"
            + (next_token if token else "")
        )
    )
    expected: list[dict[str, Any]] = [
        {"Key": key, "Size": size, "ETag": f'"{etag}"', "LastModified": "2026-01-02T03:04:05.000Z"}
        for key, size, etag in objects
    ]
    found = [{name: value for name, value in entry.items() if name != "Prefix"} for entry in page["Contents"]]
    assert found == expected
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == folders
    assert page["IsTruncated"] is (token is not None)
    assert page.get("NextContinuationToken") == token


def test_keys_are_decoded_only_if_the_response_declares_them_encoded() -> None:
    inner = "<Contents><Key>a%20b+c</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated>"
    assert parse_listing(_document(inner))["Contents"][0]["Key"] == "a%20b+c"
    inner = f"<EncodingType>url</EncodingType>{inner}"
    assert parse_listing(_document(inner))["Contents"][0]["Key"] == "a b c"


_LAUGHS = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Not found</body></html>",
        b'<?xml version="1.0"?><Error><Code>InternalError</Code></Error>',
        _document("<IsTruncated>false</IsTruncated>")[:-5],
        _document("<Contents><Key>x</Key></Contents>"),
        _document("<Contents><Key>x</Key><Size></Size></Contents>"),
        _document("<Contents><Key>x</Key><Size>-1</Size></Contents>"),
        _document("<Contents><Key>x</Key><Size>1_0</Size></Contents>"),
        _document("<Contents><Key>x</Key><Size>\u0661</Size></Contents>"),
        _document(f"<Contents><Key>x</Key><Size>{'9' * 5000}</Size></Contents>"),
        _document("<EncodingType>url</EncodingType><Contents><Key>%FF</Key><Size>1</Size></Contents>"),
        _document("<Contents><Key>\x00</Key><Size>1</Size></Contents>"),
        _document("").replace(b"?>\n", b"?>" + _LAUGHS.encode()),
        b"\xff\xfe" + _document(""),
    ],
    ids=[
        "nothing",
        "HTML",
        "an error",
        "truncated",
        "no size",
        "an empty size",
        "a negative size",
        "a size in Python's notation",
        "a size in digits of another script",
        "a size of many digits",
        "a key that is not UTF-8",
        "a character that XML forbids",
        "a DTD",
        "another encoding",
    ],
)
def test_an_invalid_page_is_rejected(body: bytes) -> None:
    with pytest.raises(ListingError):
        parse_listing(body)
