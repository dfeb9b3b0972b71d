"""The room where an error body becomes an `ErrorDocument`. Pure, and wary: the body comes from strangers.

Source: S3 API reference, "REST error responses".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .request import ErrorDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._types import Buffer

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error body that are read; S3's own are a few hundred."""

_WANTED = {"Code": "code", "Message": "message", "Region": "region"}
_may_be_error = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>)?\s*<Error[\s>/]").match


class _NotWanted(Exception):
    """The document is none of S3's."""


def looks_like_error(body: Buffer) -> bool:
    """True where a body may be an `<Error>` document."""
    return _may_be_error(bytes(memoryview(body)[:512])) is not None


def parse_error(body: Buffer, headers: Mapping[str, str]) -> ErrorDocument:
    """What S3 said, with an empty code where the body is no well-formed `<Error>` document of S3's."""
    region = headers.get("x-amz-bucket-region", "")
    if len(memoryview(body)) > MAX_ERROR_BODY or not looks_like_error(body):
        return ErrorDocument("", region=region)
    fields = _fields(bytes(body))
    code = fields.get("code", "")
    if not code:
        return ErrorDocument("", region=region)
    return ErrorDocument(code, fields.get("message", ""), fields.get("region") or region)


def _fields(body: bytes) -> dict[str, str]:
    from xml.parsers.expat import ExpatError, ParserCreate

    reader = _Reader()
    parser = ParserCreate("UTF-8")
    parser.StartDoctypeDeclHandler = reader.doctype  # no DTD, hence no entity to expand
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)  # positional-only: these are the last bytes
    except (ExpatError, _NotWanted):
        return {}
    return {name: "".join(parts).strip() for name, parts in reader.fields.items()}


class _Reader:
    """Keeps the text of the wanted children of the root, the first of each name."""

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self._depth = 0
        self._into: list[str] | None = None

    def doctype(self, *_: object) -> None:
        raise _NotWanted

    def start(self, name: str, _: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and name != "Error":
            raise _NotWanted
        field = _WANTED.get(name) if self._depth == 2 else None
        self._into = self.fields.setdefault(field, []) if field and field not in self.fields else None

    def end(self, _: str) -> None:
        self._depth -= 1
        self._into = None

    def text(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)
