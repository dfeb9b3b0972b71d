"""aiobotocore's HTTP session, without its own retries and redirects. Imported on first use, since it imports aiohttp.

aiohttp sends an idempotent request, including PUTs, again when a keep-alive connection breaks. For a conditional write
this makes two attempts of one without the retry layer knowing, and our own success appears as a 412. aiohttp takes
bytes on an idle connection for the response to the next request. It follows redirects to any host, with the session
token in a header. aiobotocore reads every response except objects to its end, however long that is. botocore finds
`<Error>` deep in any page, and expands the entities of its document type.
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
"""Maximum bytes read of a control operation's response: 1,000 keys of 1,024 bytes, all percent-encoded, fit."""
_WITH_DOCUMENT = ("GET", "POST")

if TYPE_CHECKING:

    class AIOHTTPSession:
        """The used part of aiobotocore's class, which has no type annotations."""

        async def _get_session(self, proxy_url: str | None) -> Any: ...

else:
    from aiobotocore.httpsession import AIOHTTPSession


class NoRetrySession(AIOHTTPSession):
    """Sends each request once, without following redirects."""

    speaks_s3: ClassVar[bool] = False

    async def _get_session(self, proxy_url: str | None) -> _Sender:
        session: Any = await super()._get_session(proxy_url)
        # aiohttp has no public options for these; tests check that they work with the installed version.
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
        """Called by the connector before a connection is used again."""
        if not super().is_connected():
            return False
        attempt = ATTEMPT.get()
        if attempt is not None and attempt is self._attempt:
            return True  # this attempt is using the connection already
        if self.served and ((attempt is not None and attempt.fresh) or self._has_unsolicited()):
            self.abort()
            return False
        return True

    def set_response_params(self, **options: Any) -> None:
        """Called right before a request is sent: bytes that have arrived by now belong to no request."""
        attempt = ATTEMPT.get()
        if attempt is not None:
            attempt.reused = self.served
        if self.served and self._has_unsolicited():
            self._tail = b""
            self._buffer.clear()
            self.abort()  # the request, which is about to be written, fails at the closed transport
        self.served, self._attempt = True, attempt
        super().set_response_params(**options)

    def _has_unsolicited(self) -> bool:
        return bool(len(self) or self._tail or _has_news(self.transport))


def _has_news(transport: Any) -> bool:
    """True if bytes, or the end of the stream, can be read."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Sender:
    """The part of a ClientSession that `AIOHTTPSession.send` uses."""

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
                return response  # an object, whose body `transport` receives
            limit = _MAX_DOCUMENT if method in _WITH_DOCUMENT else MAX_SMALL_BODY
            return _Received(response, await _start_of(response, limit))
        body = await _start_of(response, MAX_SMALL_BODY)
        return _Received(response, _canonical(body) if self._speaks_s3 else body)


def _canonical(body: bytes) -> bytes:
    """An error document that botocore parses to the same result as `parse_error`; empty if it is not from S3."""
    error = parse_error(body, {})
    if not error.code:
        return b""
    fields = {"Code": error.code, "Message": error.message, "Region": error.region, "Key": error.key}
    text = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"<Error>{text}</Error>".encode()


def _forget_request(error: aiohttp.ClientError) -> None:
    """Remove the request and unpicklable parts from an error.

    The repr of a response error contains every header that was sent, including the signature and the session token;
    both kinds contain the proxy's URL with its password. Pickling an error with its cause, as dask's workers do, would
    disclose them.
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
    """A response with its body, read up to the length that S3 can send."""

    __slots__ = ("_body", "raw_headers", "status", "url")

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.url = response.url
        self._body = body
        # botocore drops the bodies of PUTs: only their length can be checked, which chunked responses do not have.
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
    """The body, or its first `limit` + 1 bytes; then the rest is not read, and the connection is closed."""
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
