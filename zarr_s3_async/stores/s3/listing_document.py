"""Parse the XML of ListObjectsV2 in one pass, extracting only the fields that are needed. Pure.

Source: S3 API reference, ListObjectsV2, Response Syntax.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus
from xml.parsers.expat import ExpatError, ParserCreate

from ..._types import Buffer

_FIELDS = frozenset({"Key", "Size", "ETag", "LastModified", "Prefix"})
"""Elements of `Contents` and of `CommonPrefixes`; no other element below those has these names. The page's own `Prefix`
ends up in its first entry, where it is harmless: objects do not use it, and a common prefix overwrites it."""
_CONTAINERS = frozenset({"Contents", "CommonPrefixes"})
_TOP = frozenset({"IsTruncated", "NextContinuationToken", "EncodingType"})


_MAX_DIGITS = 18
_is_indented = re.compile(rb">\s+<").search


class ListingError(ValueError):
    """The body is not a page of a listing."""


def parse_listing(body: Buffer) -> dict[str, Any]:
    """Parse a page into botocore's structure: `Contents`, `CommonPrefixes`, `IsTruncated`, `NextContinuationToken`.

    Raises:
        ListingError: The document is not well-formed or another one, contains a DTD, or an invalid number.
    """
    contents: list[dict[str, Any]] = []
    prefixes: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    found: dict[str, Any] = {}
    texts: list[str] = []
    pop = texts.pop
    data = bytes(body)
    parser = ParserCreate("UTF-8")

    def check_root(name: str, _: dict[str, str]) -> None:
        if name != "ListBucketResult":
            raise ListingError(f"a document {name!r}")
        # Only in an indented document is there text between elements, which must be dropped by a call per element.
        parser.StartElementHandler = forget_text if _is_indented(data, parser.CurrentByteIndex) else None

    def forget_text(*_: object) -> None:
        texts.clear()

    def end(name: str) -> None:
        nonlocal found
        if name in _FIELDS:
            found[name] = pop() if texts else ""
            return
        if name in _CONTAINERS:
            (contents if name == "Contents" else prefixes).append(found)
            found = {}
        elif name in _TOP:
            page[name] = texts[-1] if texts else ""
        texts.clear()

    parser.buffer_text = True  # expat then delivers each text in one piece, just before the end of its element
    parser.StartDoctypeDeclHandler = _refuse_doctype  # no DTD, hence no entity to expand
    parser.StartElementHandler = check_root
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    try:
        parser.Parse(data, True)  # positional-only: these are the last bytes
        return _decoded(page, contents, prefixes)
    except (ExpatError, ValueError) as error:
        raise ListingError(str(error)) from error


def _refuse_doctype(*_: object) -> None:
    raise ListingError("it has a DTD")


def _decoded(page: dict[str, Any], contents: list[dict[str, Any]], prefixes: list[dict[str, Any]]) -> dict[str, Any]:
    for found in contents:
        size = found.get("Size", "")
        # `int` also accepts spaces, signs, underscores and digits of other scripts.
        if not (size.isdecimal() and size.isascii() and len(size) <= _MAX_DIGITS):
            raise ListingError(f"not a size: {size[:40]!r}")
        found["Size"] = int(size)
    if "IsTruncated" in page:
        page["IsTruncated"] = page["IsTruncated"] == "true"
    if page.get("EncodingType") == "url":
        for name, entries in (("Key", contents), ("Prefix", prefixes)):
            for found in entries:
                text = found.get(name, "")
                # Most keys need no decoding, which takes longer than this check.
                if "%" in text or "+" in text:
                    found[name] = unquote_plus(text, errors="strict")
    page["Contents"], page["CommonPrefixes"] = contents, prefixes
    return page
