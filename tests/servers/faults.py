"""What S3, S3-compatible servers and proxies do wrong: faults that a `FaultServer` injects into chosen requests.

A fault is a callable that takes an `Exchange`. Most functions here are faults; those that take
other arguments return one.
"""

from __future__ import annotations

import threading
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from time import time
from typing import TypeAlias

from .exchange import Exchange, with_header
from .s3_messages import Request

Fault: TypeAlias = Callable[[Exchange], None]

_TRICKLE = 0.02
"""Seconds between two bytes of a slow body."""
_PIECE = 2**16
_BODILESS = ("204", "304")
_HUGE_PAGE = 20 * 2**20
_UNASKED = b'HTTP/1.1 200 OK\r\nETag: "evil"\r\nContent-Length: 4\r\n\r\nevil'


def operation_of(request: Request) -> str:
    """The S3 API name of the requested operation."""
    if not request.key:
        return {"GET": "ListObjectsV2", "POST": "DeleteObjects", "HEAD": "HeadBucket"}.get(request.method, "")
    if "uploads" in request.query:
        return "CreateMultipartUpload"
    if "uploadId" in request.query:
        names = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return names.get(request.method, "")
    return f"{request.method.capitalize()}Object"


# Answers that refuse


def refuse(
    status: int, code: str = "", *, body: bytes | None = None, content_type: str = "application/xml", **headers: str
) -> Fault:
    """Answer with an error; the request is not carried out.

    Args:
        status: HTTP status.
        code: Code in S3's `<Error>` document; if empty, the body is `body`.
        body: Body to send instead of an `<Error>` document.
        content_type: Content type of the body.
        headers: Additional headers, with `_` for `-`.
    """
    if body is None:
        document = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>on cue</Message></Error>'
        )
        body = document.encode() if code else b""
    lines = {"content-type": content_type, **{n.replace("_", "-"): v for n, v in headers.items()}}

    def refusal(exchange: Exchange) -> None:
        said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        head = f"HTTP/1.1 {status} On Cue\r\n{said}content-length: {len(body)}\r\n\r\n"
        exchange.write(head.encode() + (b"" if exchange.request.method == "HEAD" else body))

    refusal.__name__ = f"{status} {code or content_type}"
    return refusal


no_such_key = refuse(404, "NoSuchKey")
no_such_bucket = refuse(404, "NoSuchBucket")
html_404 = refuse(404, body=b"<html><body><h1>404 Not Found</h1></body></html>", content_type="text/html")
bare_404 = refuse(404)
bare_403 = refuse(403)
access_denied = refuse(403, "AccessDenied")
expired_token = refuse(400, "ExpiredToken")
internal_error = refuse(500, "InternalError")
unavailable = refuse(503, "ServiceUnavailable")
slow_down = refuse(503, "SlowDown")
too_many = refuse(429)
request_timeout = refuse(400, "RequestTimeout")
precondition_failed = refuse(412, "PreconditionFailed")
conflict = refuse(409, "ConditionalRequestConflict")
invalid_range = refuse(416, "InvalidRange")
huge_page = refuse(500, body=b"<html>" + b"x" * _HUGE_PAGE, content_type="text/html")


def retry_after(seconds: int) -> Fault:
    """503 SlowDown with a Retry-After header."""
    return refuse(503, "SlowDown", retry_after=str(seconds))


def skewed_clock(ahead: float) -> Fault:
    """Refuse signatures whose time differs from the server's clock, which is `ahead` seconds ahead of ours."""

    def skewed(exchange: Exchange) -> None:
        date = formatdate(time() + ahead, usegmt=True)
        refuse(403, "RequestTimeTooSkewed", date=date)(exchange)

    return skewed


def seconds_of(amz_date: str) -> float:
    """Seconds since the epoch that an `x-amz-date` names."""
    return datetime.strptime(amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def wrong_region(region: str, status: int = 301, code: str = "PermanentRedirect") -> Fault:
    """Refuse signatures for another region, and name the right region in a header."""

    def wrong(exchange: Exchange) -> None:
        if f"/{region}/s3/" in exchange.request.headers.get("authorization", ""):
            exchange.reply()
        else:
            refuse(status, code, x_amz_bucket_region=region)(exchange)

    return wrong


def redirect(location: str) -> Fault:
    """Redirect (307) to another host."""
    return refuse(307, "TemporaryRedirect", location=location)


def endless_page(status: str, framing: str = "content-length: 1000000000000") -> Fault:
    """Send an endless body until the client closes; the request is not carried out."""

    def page(exchange: Exchange) -> None:
        exchange.over = True
        exchange.write(f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\n{framing}\r\n\r\n".encode())
        while exchange.request.method != "HEAD":
            exchange.write(b"f" * _PIECE if "chunked" not in framing else b"%x\r\n%b\r\n" % (_PIECE, b"f" * _PIECE))

    page.__name__ = f"endless {status}"
    return page


def interim(count: int) -> Fault:
    """Send `count` 102 responses, then the correct response."""

    def informed(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n" * count)
        exchange.reply()

    return informed


# Responses that look successful


def changed(status: str = "", **headers: str | None) -> Fault:
    """The correct response with another status and these headers changed (`_` for `-`; None removes one)."""

    def change(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        line, _, rest = answer.head.partition(b"\r\n")
        head = (f"HTTP/1.1 {status}".encode() if status else line) + b"\r\n" + rest
        for name, value in headers.items():
            head = with_header(head, name.replace("_", "-"), value)
        exchange.send(answer._replace(head=head, body=b"" if status[:3] in _BODILESS else answer.body))

    change.__name__ = status or ", ".join(headers)
    return change


def twice(line: str) -> Fault:
    """The correct response with one extra header line."""

    def doubled(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        exchange.send(answer._replace(head=answer.head[:-2] + line.encode() + b"\r\n\r\n"))

    return doubled


def ignoring(*names: str) -> Fault:
    """Act as a server that ignores these request headers."""

    def ignore(exchange: Exchange) -> None:
        headers = {name: value for name, value in exchange.request.headers.items() if name not in names}
        exchange.send(exchange.server.answer(exchange.request._replace(headers=headers)))

    return ignore


def error_in_200(exchange: Exchange) -> None:
    """200 with S3's `<Error>` document as the body, without an ETag."""
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code><Message>x</Message></Error>'
    _send_200(exchange, "application/xml", body)


def page_in_200(exchange: Exchange) -> None:
    """200 with an HTML page from a proxy that is not S3."""
    body = b"<html><body>Welcome to the hotel</body></html>"
    _send_200(exchange, "text/html", body)


def _send_200(exchange: Exchange, content_type: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    exchange.write(head.encode() + (b"" if exchange.request.method == "HEAD" else body))


whole_for_range = ignoring("range")
"""200 with the whole object, although a range was requested."""


def content_range(text: str) -> Fault:
    """A 206 whose Content-Range names another range."""

    def claim(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        exchange.send(answer._replace(head=with_header(answer.head, "Content-Range", text)))

    return claim


def short_range(exchange: Exchange) -> None:
    """A 206 with one byte fewer than its Content-Range states."""
    answer = exchange.carry_out()
    body = bytes(answer.body)[:-1]
    head = with_header(answer.head, "Content-Length", str(len(body)))
    exchange.send(answer._replace(head=head, body=body))


def truncated_at(count: int) -> Fault:
    """Send only the first bytes of the object, with a matching Content-Length."""

    def truncated(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        body = bytes(answer.body)[:count]
        exchange.send(answer._replace(head=with_header(answer.head, "Content-Length", str(len(body))), body=body))

    return truncated


def checksum(of: bytes | None = None) -> Fault:
    """Add `x-amz-checksum-crc32`: of the body, or of the bytes `of`."""

    def summed(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        value = zlib.crc32(bytes(answer.body) if of is None else of).to_bytes(4, "big")
        head = with_header(answer.head, "x-amz-checksum-crc32", b64encode(value).decode())
        exchange.send(answer._replace(head=head))

    return summed


def in_chunks(exchange: Exchange) -> None:
    """The correct response in chunked framing, as a proxy sends it that drops Content-Length."""
    _send_in_chunks(exchange, b"0\r\n\r\n")


def cut_in_chunks(exchange: Exchange) -> None:
    """As `in_chunks`, but FIN before the last chunk."""
    _send_in_chunks(exchange, b"")
    exchange.close()


def _send_in_chunks(exchange: Exchange, end: bytes) -> None:
    answer = exchange.carry_out()
    head = with_header(with_header(answer.head, "Content-Length", None), "Transfer-Encoding", "chunked")
    body = bytes(answer.body)
    exchange.write(head + b"%x\r\n%b\r\n" % (len(body), body) + end)


# Connections that break


def reset_before_head(exchange: Exchange) -> None:
    """RST; the request is not carried out."""
    exchange.reset()


def close_before_head(exchange: Exchange) -> None:
    """FIN; the request is not carried out."""
    exchange.close()


def closed_after_one_answer(exchange: Exchange) -> None:
    """Close the connection after one response without announcing it: the client notices when it sends again."""
    (exchange.reset if exchange.served else exchange.reply)()


def lost_answer(exchange: Exchange) -> None:
    """Carry the request out, then RST: the client cannot know whether it was."""
    exchange.carry_out()
    exchange.reset()


def lost_error(status: int = 500, code: str = "InternalError") -> Fault:
    """Carry the request out, but answer with an error."""

    def answer_with_an_error(exchange: Exchange) -> None:
        exchange.carry_out()
        refuse(status, code)(exchange)

    return answer_with_an_error


def _half(exchange: Exchange) -> None:
    answer = exchange.carry_out()
    exchange.write(answer.head + bytes(answer.body)[: len(memoryview(answer.body)) // 2])


def reset_mid_body(exchange: Exchange) -> None:
    """RST after half of the body."""
    _half(exchange)
    exchange.reset()


def close_mid_body(exchange: Exchange) -> None:
    """FIN after half of a body that has a Content-Length."""
    _half(exchange)
    exchange.close()


def close_without_length(exchange: Exchange) -> None:
    """FIN after half of a body without a Content-Length."""
    answer = exchange.carry_out()
    head = with_header(answer.head, "Content-Length", None)
    exchange.write(head + bytes(answer.body)[: len(memoryview(answer.body)) // 2])
    exchange.close()


def stall_before_head(exchange: Exchange) -> None:
    """Carry the request out and never answer."""
    exchange.carry_out()
    exchange.stall()


def stall_mid_body(exchange: Exchange) -> None:
    """Send half of the body, then nothing."""
    _half(exchange)
    exchange.stall()


def trickle(exchange: Exchange) -> None:
    """Send the body byte by byte: each byte arrives before the read timeout, the whole body never does."""
    answer = exchange.carry_out()
    exchange.write(answer.head)
    exchange.over = True
    for byte in bytes(answer.body):
        exchange.write(bytes([byte]))
        exchange.pause(_TRICKLE)


class Late:
    """Breaks the connection at once and holds the request back, as a proxy may; `deliver` carries it out later."""

    def __init__(self) -> None:
        self._held: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self._held.append(exchange)
        exchange.reset()

    def deliver(self) -> list[int]:
        """Carry out the held-back requests. Returns their statuses, which no client sees."""
        held, self._held = self._held, []
        return [exchange.carry_out().status for exchange in held]


def garbage(exchange: Exchange) -> None:
    """Send bytes that are not HTTP."""
    exchange.write(b"SSH-2.0-OpenSSH_9.7\r\n\x00\x01\x02 what?\r\n\r\n")
    exchange.close()


def longer_than_said(exchange: Exchange) -> None:
    """Send more bytes than Content-Length states; the rest looks like another response."""
    answer = exchange.carry_out()
    exchange.write(answer.head + bytes(answer.body) + _UNASKED)


class MoreAfterwards:
    """The correct response, and then an unsolicited one on the idle connection."""

    def __init__(self) -> None:
        self.sent = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.reply()
        exchange.pause(_TRICKLE)
        exchange.write(_UNASKED)
        self.sent.set()
