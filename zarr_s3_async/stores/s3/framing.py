"""The room where a head decides about its body: is there one, where does it end, whose memory is it. No IO.

Source: RFC 9112, section 6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .body import Body, ExactBody, SmallBody
from .checksum import MODE_HEADER
from .chunked import ChunkedBody
from .error_document import MAX_ERROR_BODY
from .http_head import Head, ProtocolError
from .rows import RowsBody, rows_of

if TYPE_CHECKING:
    from ..._types import Buffer
    from .buffers import Buffers
    from .request import Request

_MAX_CHUNKED = 5 * 2**30
"""The largest object that one S3 PUT makes."""


def has_no_body(request: Request, head: Head) -> bool:
    """These answers end with their head, whatever it says of lengths."""
    return request.operation == "HeadObject" or head.status in (204, 304)


def is_data(request: Request, head: Head) -> bool:
    """True where the body is an object's own bytes; any other is an error, a page or a short confirmation."""
    return head.status < 300 and request.operation == "GetObject" and "etag" in head.headers


def takes_sink(request: Request, head: Head) -> bool:
    """True for just what was asked for: a range where one was, the whole object where not; with an ETag."""
    return (
        request.sink is not None
        and head.status == (206 if "range" in request.headers else 200)
        and "etag" in head.headers
    )


def received(request: Request, head: Head, data: memoryview) -> Buffer:
    """A body that came with its head: in the sink's memory where that takes it as it is, else a copy.

    Raises:
        Exception: What the request's sink raised; ValueError for memory that does not fit.
    """
    sink = request.sink
    if sink is None or not takes_sink(request, head) or rows_of(sink, len(data)) is not None:
        return bytes(data)
    memory = _checked(sink(len(data)), len(data))
    memory[:] = data
    return memory


def body_of(request: Request, head: Head, buffers: Buffers) -> Body:
    """The body that this answer has, in the sink's memory where it takes one, and in the buffers' else.

    Raises:
        ProtocolError: Its end cannot be told, or there is no memory for it.
        Exception: What the request's sink raised; ValueError for memory that does not fit.
    """
    data = is_data(request, head)
    if head.chunked:
        return ChunkedBody(_MAX_CHUNKED if data else MAX_ERROR_BODY)
    if not data:
        return SmallBody(head.length)
    if head.length is None:
        raise ProtocolError("the answer has neither Content-Length nor chunks, so its end cannot be told")
    if request.sink is not None and takes_sink(request, head):
        # What is summed up afterwards has to lie in one piece.
        rows = None if MODE_HEADER in request.headers else rows_of(request.sink, head.length)
        if rows is not None:
            return RowsBody(rows, buffers.scratch())
        return ExactBody(_checked(request.sink(head.length), head.length))
    return ExactBody(_memory(buffers, head.length))


def _checked(memory: memoryview, length: int) -> memoryview:
    if memory.nbytes != length or memory.readonly or not memory.c_contiguous:
        raise ValueError(f"the sink must give writable, contiguous memory of {length} bytes, not {memory.nbytes}")
    return memory if memory.ndim == 1 and memory.format == "B" else memory.cast("B")


def _memory(buffers: Buffers, length: int) -> memoryview:
    try:
        return buffers.take(length)
    except (MemoryError, OverflowError) as error:
        raise ProtocolError(f"no memory for a body of {length} bytes") from error
