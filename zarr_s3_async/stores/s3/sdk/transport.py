"""The SDK transport: sends a Request of any operation through aiobotocore.

The body of a GET is received into the sink's memory, with a minimum rate. The mapping from header and query names to
botocore's parameters is read from botocore's own service model, so there is no second list of them here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple

from ...._http.body import MAX_OBJECT, MAX_SMALL_BODY, MAX_UNREQUESTED
from ...._http.partial import PartialBody
from ...._http.pool import PACE_BYTES, PACE_STEPS
from ...._types import Buffer
from ....config import S3Config
from ....errors import ConfigError, DeadlineExceeded, NetworkError, StoreError, ZarrS3Error
from ..answer_checks import (
    as_range,
    longest_answer,
    part_of,
    takes_sink,
    too_much,
    unbounded,
    whole_for_range,
)
from ..errors import attempt_timed_out, network_error, stale_connection, too_long, unexpected, where
from ..recovery import Regions
from ..request import Request, Response
from ..resume import BrokenBody
from .attempt import ATTEMPT, Attempt
from .clients import ClientPool
from .errors import is_disconnect, response_or_raise

_READ_SIZE = 2**18


class Receiving:
    """Receives the body of one attempt. The timer is extended with every step that arrives in time."""

    __slots__ = ("_deadline", "_partial", "_request", "_seconds")

    def __init__(self, request: Request, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._partial: PartialBody | None = None

    async def receive(self, status: int, headers: Mapping[str, str], stream: Any, timer: asyncio.Timeout) -> Buffer:
        """Read the body to its end. A failure closes the connection: a partly read response must not return to a pool.

        Raises:
            BrokenBody: The body was truncated; the error contains the bytes received.
        """
        try:
            if status not in (200, 206):  # S3 sends no object with another one, and `answer_checks` says so
                await stream.content.read(MAX_SMALL_BODY)
                stream.close()
                return b""
            if "content-length" not in headers:
                return await self._receive_chunks(status, headers, stream)
            length = int(headers["content-length"])
            if whole_for_range(self._request, status, headers):
                return await self._receive_part(stream, length)
            if length > self._longest(status):
                raise too_much(self._request, headers)
            memory = self._memory(status, headers, length)
            return await self._receive_exactly(headers, stream, memory, timer)
        except BaseException:
            stream.close()
            raise

    def _longest(self, status: int) -> float:
        longest = longest_answer(self._request) if status == 206 else None
        return inf if longest is None else longest

    async def _receive_part(self, stream: Any, length: int) -> memoryview:
        """Receive the requested part of a whole object: bytes before it are dropped, bytes after it are not read."""
        start, stop = part_of(self._request, length)
        memory = self._memory(206, {"etag": ""}, stop - start)
        at = 0
        while at < stop:
            piece = await stream.content.read(min(_READ_SIZE, stop - at))
            if not piece:
                raise _broken(self._request, f"the body ended after {at} of {length} bytes")
            wanted = piece[max(0, start - at) :]
            memory[at + len(piece) - len(wanted) - start :][: len(wanted)] = wanted
            at += len(piece)
        stream.close()
        return memory

    def late(self) -> DeadlineExceeded | BrokenBody:
        """The error of an attempt whose timer ran out."""
        if self._partial is None:
            return attempt_timed_out(self._request, self._seconds)
        if asyncio.get_running_loop().time() >= self._deadline:
            return BrokenBody.of(attempt_timed_out(self._request, self._seconds), self._partial)
        too_slow = DeadlineExceeded(
            f"{where(self._request)}: fewer than {PACE_BYTES} bytes arrived within {self._seconds / PACE_STEPS:g} s, "
            f"after {self._partial.received} of {self._partial.size}; check the network, or raise "
            "S3Config.attempt_timeout",
            bucket=self._request.bucket,
            key=self._request.key,
            code="TooSlow",
        )
        return BrokenBody.of(too_slow, self._partial)

    async def _receive_exactly(
        self, headers: Mapping[str, str], stream: Any, memory: memoryview, timer: asyncio.Timeout
    ) -> memoryview:
        self._partial = partial = PartialBody(headers, memory, 0)
        try:
            await self._fill(stream, partial, timer)
        except NetworkError as error:
            raise BrokenBody.of(error, partial) from None
        except Exception as error:
            raise BrokenBody.of(network_error(self._request, error), partial) from error
        return memory

    async def _fill(self, stream: Any, partial: PartialBody, timer: asyncio.Timeout) -> None:
        memory, size, due = partial.memory, partial.size, PACE_BYTES
        self._wind(timer)
        while partial.received < size:
            piece = await stream.content.read(min(_READ_SIZE, size - partial.received))
            if not piece:
                raise _broken(self._request, f"the body ended after {partial.received} of {size} bytes")
            memory[partial.received : partial.received + len(piece)] = piece
            partial.received += len(piece)
            if partial.received >= due:
                due = partial.received + PACE_BYTES
                self._wind(timer)
        if await stream.content.read(1):  # lets aiohttp see the end, so that the connection returns to its pool
            raise _broken(self._request, f"the body continues after its {size} bytes")

    def _wind(self, timer: asyncio.Timeout) -> None:
        # Never beyond the timeout of the whole attempt, however fast the bytes arrive.
        step = asyncio.get_running_loop().time() + self._seconds / PACE_STEPS
        timer.reschedule(min(step, self._deadline))

    def _memory(self, status: int, headers: Mapping[str, str], size: int) -> memoryview:
        request = self._request
        if request.max_bytes is not None and size > request.max_bytes:
            raise too_long(request, size)
        if request.sink is not None and takes_sink(request, status, headers):
            return request.sink(size)
        return memoryview(bytearray(size))

    async def _receive_chunks(self, status: int, headers: Mapping[str, str], stream: Any) -> Buffer:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            what = "it has neither Content-Length nor chunks, so its end cannot be determined"
            raise unexpected(self._request, Response(status, headers), what)
        request, body = self._request, bytearray()
        ignores_range, longest = whole_for_range(request, status, headers), self._longest(status)
        while piece := await stream.content.read(_READ_SIZE):  # aiohttp raises if the last chunk is missing
            body += piece
            if len(body) > longest:
                raise too_much(request, headers)
            if ignores_range and len(body) > MAX_UNREQUESTED:
                raise unbounded(request, headers)
            if request.max_bytes is not None and len(body) > request.max_bytes:
                raise too_long(request)
            if len(body) > MAX_OBJECT:
                raise _broken(request, f"the object has more than {MAX_OBJECT} bytes")
        return body


def _broken(request: Request, what: str) -> NetworkError:
    return NetworkError(
        f"{where(request)}: {what}; check the network",
        bucket=request.bucket,
        key=request.key,
        code="TruncatedBody",
    )


_META = "x-amz-meta-"


class _Names(NamedTuple):
    """Wire names of one operation's parameters."""

    headers: Mapping[str, tuple[str, str]]
    """Header or query name to (botocore parameter, its type)."""
    document: str | None
    """The parameter that is the body."""
    has_key: bool


_PARSER_ERRORS = (ValueError, ArithmeticError, TypeError, LookupError, AttributeError, RuntimeError)
"""Exceptions of botocore's parser for invalid documents: duplicate or missing elements, dates out of range."""
_known_names: dict[str, _Names] = {}
"""Names by operation. Not by the client's model, which has megabytes and would outlive its client."""


def _names(model: Any) -> _Names:
    names = _known_names.get(model.name)
    if names is None:
        members = model.input_shape.members
        headers = {
            shape.serialization["name"].lower(): (name, shape.type_name)
            for name, shape in members.items()
            if shape.serialization.get("location") in ("header", "querystring")
        }
        names = _Names(headers, model.input_shape.serialization.get("payload"), "Key" in members)
        _known_names[model.name] = names
    return names


class SdkTransport:
    """Sends through the pool's client for `config`, in the bucket's region, with its own attempt timeout."""

    __slots__ = ("_pool", "_regions", "_seconds")

    def __init__(self, pool: ClientPool, config: S3Config, regions: Regions | None = None) -> None:
        self._pool = pool
        self._regions = regions or Regions(config)
        self._seconds = config.attempt_timeout

    async def send(self, request: Request) -> Response:
        """Send one attempt. Every foreign exception is mapped to a StoreError here.

        Raises:
            BrokenBody: The body of a GET was truncated or too slow; the error contains the bytes received.
            NetworkError, DeadlineExceeded: There was no response.
        """
        # Client creation is outside the attempt timeout: it is slow once, and a retry would start it over.
        async with self._pool.lease(self._regions.config_for(request.bucket)) as client:
            return await self._send(client, request)

    async def _send(self, client: Any, request: Request) -> Response:
        receiving = Receiving(request, self._seconds)
        attempt = Attempt(fresh=request.fresh)
        # A context variable, since aiohttp gives its connections no other way to the attempt that uses them.
        outer = ATTEMPT.set(attempt)
        try:
            async with asyncio.timeout(self._seconds) as timer:
                return await _exchange(client, request, receiving, timer)
        except StoreError:
            raise
        except TimeoutError as error:
            raise receiving.late() from error
        except Exception as error:
            # A used connection on which no byte of the response arrived: the server had probably closed it while it was
            # idle.
            if attempt.reused and not attempt.answered and is_disconnect(error):
                raise stale_connection(request, error) from error
            return response_or_raise(request, error)  # every exception of aiohttp and botocore is mapped here
        finally:
            ATTEMPT.reset(outer)


async def _exchange(client: Any, request: Request, receiving: Receiving, timer: asyncio.Timeout) -> Response:
    model = client.meta.service_model.operation_model(request.operation)
    call: Callable[..., Awaitable[dict[str, Any]]] = getattr(client, _method_name(request.operation))
    parsed = await _parsed(request, call(**_parameters(request, _names(model))))
    meta = parsed.pop("ResponseMetadata")
    status, headers = meta["HTTPStatusCode"], meta["HTTPHeaders"]
    stream = parsed.get("Body")
    if request.operation != "GetObject" or stream is None:
        return Response(status, headers, document=parsed)
    body = await receiving.receive(status, headers, stream.raw_stream, timer)
    if "content-length" in headers and whole_for_range(request, status, headers):
        return as_range(request, headers, body, int(headers["content-length"]))
    return Response(status, headers, body)


async def _parsed(request: Request, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await answer
    except ZarrS3Error:
        raise
    except _PARSER_ERRORS as error:
        if type(error).__module__.partition(".")[0] in ("botocore", "aiohttp"):
            raise  # a specific error, which `response_or_raise` maps
        # botocore parses elements, numbers and dates without handling the exceptions of their parsers.
        what = f"the SDK cannot read it ({type(error).__name__}: {error})"
        raise unexpected(request, Response(200, {}), what) from error


@lru_cache(maxsize=32)
def _method_name(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))


def _parameters(request: Request, names: _Names) -> dict[str, Any]:
    parameters: dict[str, Any] = {"Bucket": request.bucket}
    if names.has_key:
        parameters["Key"] = request.key
    metadata: dict[str, str] = {}
    for name, value in (*request.headers.items(), *request.query.items()):
        if name.startswith(_META):
            metadata[name.removeprefix(_META)] = value
        elif name.lower() in names.headers:
            parameter, kind = names.headers[name.lower()]
            parameters[parameter] = int(value) if kind in ("integer", "long") else value
        else:
            raise ConfigError(f"{request.operation} has no header or query parameter {name!r}")
    if metadata:
        parameters["Metadata"] = metadata
    if names.document is not None and request.document is not None:
        parameters[names.document] = request.document
    elif request.payload is not None:
        data = request.payload
        # botocore accepts bytes and bytearray directly, but treats a memoryview as a file.
        parameters["Body"] = bytes(data) if isinstance(data, memoryview) else data
    return parameters
