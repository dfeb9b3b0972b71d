"""Target: error documents (compared with ElementTree), Content-Range, Retry-After and dates of S3."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager

from zarr_s3_async._http.head import parse_content_range
from zarr_s3_async._policy.backoff import parse_http_date, parse_retry_after
from zarr_s3_async.stores.s3.errors import is_missing_key, looks_like_error, parse_error
from zarr_s3_async.stores.s3.request import Response

from .oracles import Run, bounded, watching_memory


@contextmanager
def target() -> Iterator[Run]:
    with watching_memory():
        yield _run


def _run(data: bytes) -> None:
    text = data.decode("latin-1")
    span = parse_content_range(text)
    assert span is None or 0 <= span[0] < span[1] <= span[2]
    wait = parse_retry_after(text, 0.0)
    assert wait is None or wait >= 0
    parse_http_date(text)
    with bounded(40 * len(data)):
        found = parse_error(data, {})
    if is_missing_key(Response(404, {}, data, None, found)):
        assert looks_like_error(data)
        root = ET.fromstring(data, ET.XMLParser(encoding="utf-8"))  # our parser ignores the declared encoding, too
        codes = [child.text for child in root if child.tag.rpartition("}")[2] == "Code"]
        assert (root.tag.rpartition("}")[2], (codes[0] or "").strip()) == ("Error", "NoSuchKey")
