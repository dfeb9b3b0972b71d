"""The SDK transport: every operation through aiobotocore, in the terms of a Request.

Which header or query name is which botocore parameter is read from botocore's own service model, so there is no
second list of them here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ...config import S3Config
from ...errors import ConfigError, CredentialsNotFound, NetworkError, StoreError
from .errors import network_error, unexpected, where
from .pool import ClientPool
from .request import ErrorDocument, Request, Response

_META = "x-amz-meta-"
_READ_SIZE = 2**18


class _Names(NamedTuple):
    """Wire names of one operation's parameters."""

    headers: Mapping[str, tuple[str, str]]
    """Header or query name to (botocore parameter, its type)."""
    document: str | None
    """The parameter that is the body."""
    has_key: bool


@lru_cache(maxsize=64)
def _names(model: Any) -> _Names:
    members = model.input_shape.members
    headers = {
        shape.serialization["name"].lower(): (name, shape.type_name)
        for name, shape in members.items()
        if shape.serialization.get("location") in ("header", "querystring")
    }
    return _Names(headers, model.input_shape.serialization.get("payload"), "Key" in members)


class SdkTransport:
    """Sends through the pool's client for `config`."""

    __slots__ = ("_config", "_pool")

    def __init__(self, pool: ClientPool, config: S3Config) -> None:
        self._pool = pool
        self._config = config

    async def send(self, request: Request) -> Response:
        """One attempt. Every foreign exception becomes a StoreError here."""
        client = await self._pool.client(self._config)
        model = client.meta.service_model.operation_model(request.operation)
        call: Callable[..., Awaitable[dict[str, Any]]] = getattr(client, _method_name(request.operation))
        try:
            parsed = await call(**_parameters(request, _names(model)))
            return await _response(request, parsed)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # the edge: whatever aiohttp and botocore raise is mapped here
            return _answered(request, error)


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
        # botocore takes bytes and bytearray as they are; a memoryview it takes for a file.
        parameters["Body"] = bytes(data) if isinstance(data, memoryview) else data
    return parameters


async def _response(request: Request, parsed: dict[str, Any]) -> Response:
    meta = parsed.pop("ResponseMetadata")
    status, headers = meta["HTTPStatusCode"], meta["HTTPHeaders"]
    stream = parsed.get("Body")
    if request.operation != "GetObject" or stream is None:
        return Response(status, headers, document=parsed)
    try:
        body = await _receive(request, status, headers, stream.raw_stream)
    except BaseException:
        stream.raw_stream.close()  # a half-read response must not go back to the pool
        raise
    return Response(status, headers, body)


async def _receive(request: Request, status: int, headers: Mapping[str, str], raw: Any) -> bytes | bytearray | memoryview:
    length = headers.get("content-length")
    if length is None:
        return await _receive_chunked(request, status, headers, raw)
    size = int(length)
    wanted = request.sink is not None and (status == 206) == ("range" in request.headers) and "etag" in headers
    body = request.sink(size) if request.sink is not None and wanted else memoryview(bytearray(size))
    received = 0
    while received < size:
        piece = await raw.content.read(min(_READ_SIZE, size - received))
        if not piece:
            break
        body[received : received + len(piece)] = piece
        received += len(piece)
    if received != size or not await _ended(raw):
        raise _broken(request, f"the body ended after {received} of {size} bytes")
    return body


async def _receive_chunked(request: Request, status: int, headers: Mapping[str, str], raw: Any) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        raise unexpected(request, Response(status, headers), "it has neither Content-Length nor chunks: its end cannot be told")
    body: bytes = await raw.read()  # aiohttp raises where the last chunk is missing
    return body


async def _ended(raw: Any) -> bool:
    """Let aiohttp see the end of the body, so that the connection returns to its pool."""
    return not await raw.content.read(1)


def _broken(request: Request, what: str) -> NetworkError:
    return NetworkError(
        f"{where(request)}: {what}; check the network", bucket=request.bucket, key=request.key, code="TruncatedBody"
    )


def _answered(request: Request, error: Exception) -> Response:
    """An HTTP error answer as a Response; anything else is raised in our own classes."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )
    from botocore.parsers import ResponseParserError

    match error:
        case ClientError():
            return _error_response(error.response)
        case NoCredentialsError() | PartialCredentialsError():
            raise CredentialsNotFound(
                f"{where(request)}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or anonymous=True",
                bucket=request.bucket,
                key=request.key,
            ) from error
        case ParamValidationError():
            raise ConfigError(f"{where(request)}: {error}") from error
        case ResponseParserError():
            raise unexpected(request, Response(200, {}), "its body is no S3 document") from error
        case HTTPClientError() | OSError():
            raise network_error(request, error) from error
        case BotoCoreError():
            raise StoreError(f"{where(request)}: {error}", bucket=request.bucket, key=request.key) from error
        case _ if type(error).__module__.partition(".")[0] == "aiohttp":
            raise network_error(request, error) from error
    raise error


def _error_response(response: Mapping[str, Any]) -> Response:
    meta, error = response["ResponseMetadata"], response.get("Error", {})
    status = meta["HTTPStatusCode"]
    code = str(error.get("Code") or "")
    # botocore fills in the status where the body had no code: S3 itself did not say it.
    document = ErrorDocument("" if code == str(status) else code, str(error.get("Message", "")), str(error.get("Region", "")))
    return Response(status, meta["HTTPHeaders"], error=document)
