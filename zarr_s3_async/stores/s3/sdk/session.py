"""aiobotocore's HTTP session, without its own retries and redirects. Imported on first use, since it imports aiohttp.

aiohttp sends an idempotent request, including PUTs, again when a keep-alive connection breaks. For a conditional write
that makes two attempts out of one without the retry layer knowing: 412 for our own success. It takes bytes on an idle
connection for the response to the next request. It follows redirects, with the session token in a header, to
any host; aiobotocore reads every answer but an object to its end, however long that is; and botocore
finds `<Error>` deep in any page, and expands the entities of its document type.
"""

from __future__ import annotations

import select
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict

from ...._http.body import MAX_SMALL_BODY
from ..errors import parse_error
from .attempt import ATTEMPT, Attempt

_MAX_DOCUMENT = 8 * 2**20
"""Bytes of a control operation's answer that are read: 1,000 keys of 1,024 bytes, each byte percent-encoded, fit."""
_WITH_DOCUMENT = ("GET", "POST")

if TYPE_CHECKING:

    class AIOHTTPSession:
        """What is used of aiobotocore's, which carries no types."""

        async def _get_session(self, proxy_url: str | None) -> Any: ...

else:
    from aiobotocore.httpsession import AIOHTTPSession


class NoRetrySession(AIOHTTPSession):
    """Sends each request once, without following redirects."""

    speaks_s3: ClassVar[bool] = False

    async def _get_session(self, proxy_url: str | None) -> _Sender:
        session: Any = await super()._get_session(proxy_url)
        # aiohttp has no public switches for these; tests hold that they work with the installed one.
        session._retry_connection = False  # noqa: SLF001
        session.connector._factory = partial(_Quiet, loop=session._loop)  # noqa: SLF001
        return _Sender(session, self.speaks_s3)


class S3Session(NoRetrySession):
    """For S3: bodies of errors that are not S3's own documents are replaced by empty ones before botocore parses
    them."""

    speaks_s3 = True


class _Quiet(ResponseHandler):
    """A connection that is reused only if nothing arrived on it since its last response."""

    served = False
    _attempt: Attempt | None = None

    def is_connected(self) -> bool:
        """Asked by the connector before a connection is used again."""
        if not super().is_connected():
            return False
        attempt = ATTEMPT.get()
        if attempt is not None and attempt is self._attempt:
            return True  # asked of the connection that the attempt is using
        if self.served and ((attempt is not None and attempt.fresh) or self._has_unasked()):
            self.abort()
            return False
        return True

    def set_response_params(self, **options: Any) -> None:
        """Called right before a request is sent: what is here by now answers nothing that was asked."""
        attempt = ATTEMPT.get()
        if attempt is not None:
            attempt.reused = self.served
        if self.served and self._has_unasked():
            self._tail = b""
            self._buffer.clear()
            self.abort()  # the request, which is about to be written, fails at the closed transport
        self.served, self._attempt = True, attempt
        super().set_response_params(**options)

    def _has_unasked(self) -> bool:
        return bool(len(self) or self._tail or _has_news(self.transport))


def _has_news(transport: Any) -> bool:
    """True where bytes, or the other side's end, wait to be read."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Sender:
    """What `AIOHTTPSession.send` uses of a ClientSession."""

    __slots__ = ("_session", "_speaks_s3")

    def __init__(self, session: aiohttp.ClientSession, speaks_s3: bool) -> None:
        self._session = session
        self._speaks_s3 = speaks_s3

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse | _Received:
        try:
            response = await self._session.request(method, allow_redirects=False, **options)
        except aiohttp.ClientError as error:
            _forget_request(error)
            raise
        attempt = ATTEMPT.get()
        if attempt is not None:
            attempt.answered = True
        _check_headers(response)
        if response.status < 300:
            if self._speaks_s3 and method == "GET" and "list-type" not in response.url.query:
                return response  # an object, which `transport` receives
            limit = _MAX_DOCUMENT if method in _WITH_DOCUMENT else MAX_SMALL_BODY
            return _Received(response, await _start_of(response, limit))
        body = await _start_of(response, MAX_SMALL_BODY)
        return _Received(response, _canonical(body) if self._speaks_s3 else body)


def _canonical(body: bytes) -> bytes:
    """An error document that botocore reads as `parse_error` does; empty where S3 wrote none."""
    error = parse_error(body, {})
    if not error.code:
        return b""
    fields = {"Code": error.code, "Message": error.message, "Region": error.region, "Key": error.key}
    text = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"<Error>{text}</Error>".encode()


def _forget_request(error: aiohttp.ClientError) -> None:
    """Take out of an error what it shows of the request, and what does not pickle.

    The repr of a response error shows every header that was sent, the signature and the session token among them; both
    kinds show the proxy's URL with its password. Whoever pickles an error with its cause, as dask's workers do, would
    send them along.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        sent = error.request_info
        shown = sent._replace(
            url=sent.url.with_user(None),
            real_url=sent.real_url.with_user(None),
            headers=CIMultiDict(),  # type: ignore[arg-type]  # a proxy of one does not pickle
        )
        error.request_info = shown
        error.headers = None
        error.args = (shown, *error.args[1:])
    elif isinstance(error, aiohttp.ClientConnectorError):
        key = error._conn_key._replace(ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)  # noqa: SLF001
        error._conn_key = key  # noqa: SLF001  # aiohttp has no public way
        error.args = (key, *error.args[1:])


class _Received:
    """A response whose body, or as much of it as S3 would ever send, is here."""

    __slots__ = ("_body", "raw_headers", "status", "url")

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.url = response.url
        self._body = body
        # botocore drops the bodies of PUTs: their length, which chunks do not say, is all that can be checked.
        length = [] if response.method == "HEAD" else [(b"content-length", str(len(body)).encode())]
        kept = ((name, value) for name, value in response.raw_headers if not length or name.lower() != length[0][0])
        self.raw_headers = (*kept, *length)

    async def read(self) -> bytes:
        return self._body


def _check_headers(response: aiohttp.ClientResponse) -> None:
    """Reject contradicting duplicate headers, of which aiohttp would silently take the last one."""
    names = [name.lower() for name, _ in response.raw_headers]
    for name in (b"etag", b"content-range"):
        if names.count(name) > 1:
            response.close()
            raise aiohttp.ClientPayloadError(f"two {name.decode()} headers")


async def _start_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` + 1 bytes: of the rest nothing is read, and the connection is closed."""
    body = bytearray()
    try:
        while len(body) <= limit:
            piece = await response.content.read(limit + 1 - len(body))
            if not piece:
                break
            body += piece
    except BaseException:
        response.close()
        raise
    if len(body) > limit:
        response.close()
    else:
        response.release()
    return bytes(body)
