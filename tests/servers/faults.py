"""What S3, S3-compatible servers and proxies do wrong: faults that a `FaultServer` injects into chosen requests.

A fault is a callable that is given the exchange. Most of these are one; those that take
arguments make one.
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
    """The S3 API's name of what is asked."""
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
    """An error answer; nothing is carried out.

    Args:
        status: HTTP status.
        code: Of S3's `<Error>` document; without one the body is empty, or `body`.
        body: Another body.
        content_type: Of the body.
        headers: More headers, `_` standing for `-`.
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
    """503 with a wish."""
    return refuse(503, "SlowDown", retry_after=str(seconds))


def skewed_clock(ahead: float) -> Fault:
    """Refuses every signature that is not of the server's time, which is `ahead` seconds from ours."""

    def skewed(exchange: Exchange) -> None:
        date = formatdate(time() + ahead, usegmt=True)
        refuse(403, "RequestTimeTooSkewed", date=date)(exchange)

    return skewed


def seconds_of(amz_date: str) -> float:
    """Seconds since the epoch that an `x-amz-date` names."""
    return datetime.strptime(amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def wrong_region(region: str, status: int = 301, code: str = "PermanentRedirect") -> Fault:
    """Refuses signatures for another region, and names the right one in a header."""

    def wrong(exchange: Exchange) -> None:
        if f"/{region}/s3/" in exchange.request.headers.get("authorization", ""):
            exchange.reply()
        else:
            refuse(status, code, x_amz_bucket_region=region)(exchange)

    return wrong


def redirect(location: str) -> Fault:
    """307 to another host."""
    return refuse(307, "TemporaryRedirect", location=location)


def endless_page(status: str, framing: str = "content-length: 1000000000000") -> Fault:
    """A page that goes on until the client has enough of it; nothing is carried out."""

    def page(exchange: Exchange) -> None:
        exchange.over = True
        exchange.write(f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\n{framing}\r\n\r\n".encode())
        while exchange.request.method != "HEAD":
            exchange.write(b"f" * _PIECE if "chunked" not in framing else b"%x\r\n%b\r\n" % (_PIECE, b"f" * _PIECE))

    page.__name__ = f"endless {status}"
    return page


def interim(count: int) -> Fault:
    """So many 102s, and then the right answer."""

    def informed(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n" * count)
        exchange.reply()

    return informed


# Answers that look good


def changed(status: str = "", **headers: str | None) -> Fault:
    """The right answer but for its status and these headers (`_` stands for `-`, None leaves one out)."""

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
    """The right answer, with one header line more."""

    def doubled(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        exchange.send(answer._replace(head=answer.head[:-2] + line.encode() + b"\r\n\r\n"))

    return doubled


def ignoring(*names: str) -> Fault:
    """A server that does not look at these headers."""

    def careless(exchange: Exchange) -> None:
        headers = {name: value for name, value in exchange.request.headers.items() if name not in names}
        exchange.send(exchange.server.answer(exchange.request._replace(headers=headers)))

    return careless


def error_in_200(exchange: Exchange) -> None:
    """200, and S3's `<Error>` document for a body, without an ETag."""
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code><Message>x</Message></Error>'
    _say_200(exchange, "application/xml", body)


def page_in_200(exchange: Exchange) -> None:
    """200 from a proxy that has nothing to do with S3."""
    body = b"<html><body>Welcome to the hotel</body></html>"
    _say_200(exchange, "text/html", body)


def _say_200(exchange: Exchange, content_type: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    exchange.write(head.encode() + (b"" if exchange.request.method == "HEAD" else body))


whole_for_range = ignoring("range")
"""200 with everything, where a range was asked for."""


def content_range(text: str) -> Fault:
    """A 206 that claims another range."""

    def claim(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        exchange.send(answer._replace(head=with_header(answer.head, "Content-Range", text)))

    return claim


def short_range(exchange: Exchange) -> None:
    """A 206 with one byte fewer than its Content-Range says."""
    answer = exchange.carry_out()
    body = bytes(answer.body)[:-1]
    head = with_header(answer.head, "Content-Length", str(len(body)))
    exchange.send(answer._replace(head=head, body=body))


def truncated_at(count: int) -> Fault:
    """Fewer bytes than were stored, with a Content-Length that agrees."""

    def truncated(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        body = bytes(answer.body)[:count]
        exchange.send(answer._replace(head=with_header(answer.head, "Content-Length", str(len(body))), body=body))

    return truncated


def checksum(of: bytes | None = None) -> Fault:
    """Answers with an `x-amz-checksum-crc32`: of the body, or of something else."""

    def summed(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        value = zlib.crc32(bytes(answer.body) if of is None else of).to_bytes(4, "big")
        head = with_header(answer.head, "x-amz-checksum-crc32", b64encode(value).decode())
        exchange.send(answer._replace(head=head))

    return summed


def in_chunks(exchange: Exchange) -> None:
    """The right answer, its length taken off by a proxy."""
    _say_in_chunks(exchange, b"0\r\n\r\n")


def cut_in_chunks(exchange: Exchange) -> None:
    """The same, and FIN before the last chunk."""
    _say_in_chunks(exchange, b"")
    exchange.close()


def _say_in_chunks(exchange: Exchange, end: bytes) -> None:
    answer = exchange.carry_out()
    head = with_header(with_header(answer.head, "Content-Length", None), "Transfer-Encoding", "chunked")
    body = bytes(answer.body)
    exchange.write(head + b"%x\r\n%b\r\n" % (len(body), body) + end)


# Connections that break


def reset_before_head(exchange: Exchange) -> None:
    """RST, and nothing carried out."""
    exchange.reset()


def close_before_head(exchange: Exchange) -> None:
    """FIN, and nothing carried out."""
    exchange.close()


def closed_after_one_answer(exchange: Exchange) -> None:
    """A server that closes its connections after one answer each, and says so only when one is used again."""
    (exchange.reset if exchange.served else exchange.reply)()


def lost_answer(exchange: Exchange) -> None:
    """Carried out, and then RST: the client cannot know."""
    exchange.carry_out()
    exchange.reset()


def lost_error(status: int = 500, code: str = "InternalError") -> Fault:
    """Carried out, and answered with an error all the same."""

    def lie(exchange: Exchange) -> None:
        exchange.carry_out()
        refuse(status, code)(exchange)

    return lie


def _half(exchange: Exchange) -> None:
    answer = exchange.carry_out()
    exchange.write(answer.head + bytes(answer.body)[: len(memoryview(answer.body)) // 2])


def reset_mid_body(exchange: Exchange) -> None:
    """RST after half of the body."""
    _half(exchange)
    exchange.reset()


def close_mid_body(exchange: Exchange) -> None:
    """FIN after half of the body, which had a Content-Length."""
    _half(exchange)
    exchange.close()


def close_without_length(exchange: Exchange) -> None:
    """FIN after half of a body that said nothing of its length."""
    answer = exchange.carry_out()
    head = with_header(answer.head, "Content-Length", None)
    exchange.write(head + bytes(answer.body)[: len(memoryview(answer.body)) // 2])
    exchange.close()


def stall_before_head(exchange: Exchange) -> None:
    """Carried out, and never answered."""
    exchange.carry_out()
    exchange.stall()


def stall_mid_body(exchange: Exchange) -> None:
    """Half of the body, and never more."""
    _half(exchange)
    exchange.stall()


def trickle(exchange: Exchange) -> None:
    """The body byte by byte, each in time, all of them never."""
    answer = exchange.carry_out()
    exchange.write(answer.head)
    exchange.over = True
    for byte in bytes(answer.body):
        exchange.write(bytes([byte]))
        exchange.pause(_TRICKLE)


class Late:
    """A request whose connection breaks at once, and which something on the way carries out later: at `land`."""

    def __init__(self) -> None:
        self._held: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self._held.append(exchange)
        exchange.reset()

    def land(self) -> list[int]:
        """Carry out what was held back; the statuses that nobody sees."""
        held, self._held = self._held, []
        return [exchange.carry_out().status for exchange in held]


def garbage(exchange: Exchange) -> None:
    """No HTTP at all."""
    exchange.write(b"SSH-2.0-OpenSSH_9.7\r\n\x00\x01\x02 what?\r\n\r\n")
    exchange.close()


def longer_than_said(exchange: Exchange) -> None:
    """More bytes than Content-Length said; those to come look like another answer."""
    answer = exchange.carry_out()
    exchange.write(answer.head + bytes(answer.body) + _UNASKED)


class MoreAfterwards:
    """The right answer, and then, on the idle connection, another one that nobody asked for."""

    def __init__(self) -> None:
        self.sent = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.reply()
        exchange.pause(_TRICKLE)
        exchange.write(_UNASKED)
        self.sent.set()
