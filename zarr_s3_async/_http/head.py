"""Parse HTTP/1.1 response heads: bytes in; status, headers and framing out. No IO.

Source: RFC 9112. What it calls invalid or leaves undefined (two lengths, a length with chunked coding, folded lines,
bare line ends) is rejected: a client that guesses where a body ends reads the rest as the next response.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import ProtocolError

MAX_HEAD = 32 * 1024
"""Bytes of a response head. S3's own stay under 10 KiB, user metadata included."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII)
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_MAX_DIGITS = 18
_MAX_NAMES = 256

_SINGLE = frozenset({"content-length", "content-range", "etag"})
"""Headers that may occur only once: if there are two, neither can be trusted."""

_names: dict[str, str] = {}
"""Validated header names in lower case, by their spelling; bounded, and every response uses the same few."""


_REPEATED = frozenset({
    "accept-ranges", "cache-control", "connection", "content-length", "content-type", "date", "server", "vary",
    "x-amz-server-side-encryption", "x-amz-storage-class", "x-content-type-options",
})  # fmt: skip
"""Headers whose lines most responses of a server have in common."""
_lines: dict[str, tuple[str, str]] = {}
"""Lines that were parsed already, of those headers; bounded."""
_status_lines: dict[str, tuple[int, str]] = {}
"""Status and minor version by status line; bounded."""
_MAX_LINES, _MAX_STATUS_LINES, _LONGEST_KEPT = 256, 64, 200


class Head(NamedTuple):
    """Status line and headers of a response."""

    status: int
    headers: dict[str, str]
    """Values by lower-case name; repeated headers are joined with a comma."""
    length: int | None
    """Content-Length."""
    chunked: bool
    keep_alive: bool


def looks_like_http(start: bytes | bytearray | memoryview) -> bool:
    """True if a response may start with these bytes, however few."""
    begin = bytes(start[:7])
    return b"HTTP/1.".startswith(begin)


def parse_head(data: bytes | bytearray | memoryview) -> Head:
    """Parse a response head.

    Args:
        data: From the status line to the last header, without the two final line ends.

    Raises:
        ProtocolError: The bytes are not a valid head.
    """
    # Every byte is a character of Latin-1, so decoding cannot fail.
    text = str(data, "latin-1")
    status_line, *lines = text.split("\r\n")
    status, minor_version = _status_lines.get(status_line) or _parsed_status_line(status_line)
    # Any line end that is not part of the "\r\n" that the head was split at: a smuggled header, or a folded line.
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise ProtocolError("a bare line end or a NUL in the head")
    headers = _headers(lines)
    found = headers.get
    coding, digits, connection = found("transfer-encoding"), found("content-length"), found("connection")
    chunked = coding is not None and _is_chunked(coding)
    length = None if digits is None else _length(digits)
    if chunked and length is not None:
        raise ProtocolError("both Content-Length and chunked transfer coding")
    keep_alive = minor_version == "1" if connection is None else _keeps_alive(connection, minor_version)
    return Head(status, headers, length, chunked, keep_alive)


def _parsed_status_line(line: str) -> tuple[int, str]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(f"no HTTP/1.1 status line: {line[:80]!r}")
    found = int(match[2]), match[1]
    if len(line) <= _LONGEST_KEPT:
        if len(_status_lines) >= _MAX_STATUS_LINES:
            _status_lines.clear()
        _status_lines[line] = found
    return found


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    known = _names.get
    for line in lines:
        parsed = _lines.get(line)
        if parsed is not None and parsed[0] not in headers:
            headers[parsed[0]] = parsed[1]
            continue
        name, colon, value = line.partition(":")
        # Names are validated once and then found in a table: every response repeats the same few.
        lower = known(name) or _checked_name(name)
        if not colon:
            raise ProtocolError(f"a header line without a colon: {line[:80]!r}")
        value = value.strip(" \t")
        if lower in headers:
            value = _joined(lower, headers[lower], value)
        elif lower in _REPEATED and len(line) <= _LONGEST_KEPT:
            if len(_lines) >= _MAX_LINES:
                _lines.clear()
            _lines[line] = lower, value
        headers[lower] = value
    return headers


def _checked_name(name: str) -> str:
    if not _is_token(name):
        raise ProtocolError(f"not a header name: {name[:80]!r}")
    if len(_names) >= _MAX_NAMES:
        _names.clear()
    return _names.setdefault(name, name.lower())


def _joined(name: str, first: str, second: str) -> str:
    if name in _SINGLE:
        raise ProtocolError(f"two {name} headers")
    return f"{first}, {second}"


def _length(text: str) -> int:
    # `int` alone would also accept signs, spaces, underscores and digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise ProtocolError(f"not a Content-Length: {text[:40]!r}")
    return int(text)


def _is_chunked(coding: str) -> bool:
    if coding.lower() != "chunked":
        raise ProtocolError(f"unknown Transfer-Encoding: {coding[:40]!r}")
    return True


def _keeps_alive(said: str, minor_version: str) -> bool:
    tokens = {token.strip().lower() for token in said.split(",")}
    return "close" not in tokens and (minor_version == "1" or "keep-alive" in tokens)


def parse_content_range(header: str) -> tuple[int, int, int] | None:
    """(first, last + 1, size of the whole object) of a 206; None if the header is invalid."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last, size = (int(group) for group in match.groups())
    return (first, last + 1, size) if first <= last < size else None
