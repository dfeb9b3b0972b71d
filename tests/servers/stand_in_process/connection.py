"""The connections of the S3 stand-in: HTTP/1.1 in and out, as slow as configured.

One request at a time per connection: the next one is parsed after the response to the previous one was sent.
"""

from __future__ import annotations

import asyncio
from typing import cast

from ..http1 import CONTINUE, END_OF_HEAD, Head, decode_aws_chunked, parse_head, split_target
from ..s3_messages import Buffer, Request, Response, error
from .service import CONTROL, Service

_SCRATCH = 64 * 1024
_JOINED = 32 * 1024
_TICK = 0.005


class Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = service.loop
        self._scratch = bytearray(_SCRATCH)
        self._view = memoryview(self._scratch)
        self._filled = 0
        self._head: Head | None = None  # the head of the request whose body is being received
        self._body = bytearray()
        self._missing = memoryview(b"")  # part of the body that was not yet received
        self._body_began = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._service.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # asyncio's signature
        if self._busy:
            self._service.end()
            self._busy = False

    def get_buffer(self, sizehint: int) -> memoryview:  # asyncio's signature
        return self._missing if self._head is not None else self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._head is None:
            self._filled += nbytes
            self._advance()
            return
        self._missing = self._missing[nbytes:]
        if self._missing:
            self._pace_upload()
        else:
            self._finish(self._head, self._body)

    # Requests

    def _advance(self) -> None:
        """Take the next request from the scratch buffer, if it is complete and the previous one was answered."""
        if self._busy:
            if self._filled == _SCRATCH:
                self._transport.pause_reading()
            return
        end = self._scratch.find(END_OF_HEAD, 0, self._filled)
        if end < 0:
            if self._filled == _SCRATCH:
                self._transport.abort()
            return
        head = parse_head(bytes(self._view[: end + len(END_OF_HEAD)]))
        if "transfer-encoding" in head.fields:
            self._write_whole(error(411, "MissingContentLength", "Refused"))
            self._transport.close()
            return
        length = head.content_length or 0
        here = bytes(self._view[end + 4 : min(self._filled, end + 4 + length)])
        self._shift(end + 4 + len(here))
        if len(here) == length:
            self._finish(head, here)
        else:
            self._expect(head, here, length)

    def _shift(self, count: int) -> None:
        rest = self._filled - count
        if rest:
            self._scratch[:rest] = self._scratch[count : self._filled]
        self._filled = rest

    def _expect(self, head: Head, here: bytes, length: int) -> None:
        self._head = head
        self._body = bytearray(length)
        self._body[: len(here)] = here
        self._missing = memoryview(self._body)[len(here) :]
        self._body_began = self._loop.time()
        if head.expects_continue:
            self._transport.write(CONTINUE)

    def _pace_upload(self) -> None:
        bandwidth = self._service.settings.bandwidth
        if bandwidth is None:
            return
        due = self._body_began + (len(self._body) - len(self._missing)) / bandwidth
        if due - self._loop.time() > _TICK:
            self._transport.pause_reading()
            self._loop.call_at(due, self._resume)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self, head: Head, body: Buffer) -> None:
        """Handle a complete request."""
        self._head = None
        self._missing = memoryview(b"")
        if head.fields.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            body = decode_aws_chunked(bytes(body))
        request = _request(head, body)
        if head.target.startswith(CONTROL):
            self._write_whole(self._service.control(request))
            return
        self._busy = True
        answer = self._service.begin(request)
        latency = self._service.settings.latency
        if latency > 0:
            self._loop.call_later(latency, self._write, answer)
        else:
            self._write(answer)

    # Answers

    def _write(self, answer: Response) -> None:
        if self._transport.is_closing():
            return
        bandwidth = self._service.settings.bandwidth
        if bandwidth is not None and len(memoryview(answer.body)) > bandwidth * _TICK:
            self._transport.write(answer.head)
            self._write_slowly(memoryview(answer.body), 0, self._loop.time(), bandwidth)
        else:
            self._write_whole(answer)
            self._answered()

    def _write_whole(self, answer: Response) -> None:
        if len(memoryview(answer.body)) <= _JOINED:
            self._transport.write(answer.head + bytes(answer.body))
        else:
            self._transport.write(answer.head)
            self._transport.write(answer.body)

    def _write_slowly(self, body: memoryview, sent: int, began: float, bandwidth: float) -> None:
        if self._transport.is_closing():
            return
        allowed = int((self._loop.time() - began + _TICK) * bandwidth)
        stop = min(len(body), max(allowed, sent + 1))
        self._transport.write(body[sent:stop])
        if stop == len(body):
            # The last slice counts as sent after its delay, not when it was handed to the socket.
            self._loop.call_at(began + stop / bandwidth, self._answered)
        else:
            when = began + stop / bandwidth
            self._loop.call_at(when, self._write_slowly, body, stop, began, bandwidth)

    def _answered(self) -> None:
        if not self._busy:
            return
        self._busy = False
        self._service.end()
        if self._filled:
            if self._filled == _SCRATCH:
                self._resume()
            self._advance()


def _request(head: Head, body: Buffer) -> Request:
    path, query = split_target(head.target)
    path = path.removeprefix(CONTROL if path.startswith(CONTROL) else "/")
    bucket, _, key = path.partition("/")
    return Request(head.method, bucket, key, query, head.fields, body)
