"""The SDK transport: every operation through aiobotocore, in the terms of a Request.

Which header or query name is which botocore parameter is read from botocore's own service model, so there is no
second list of them here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ...config import S3Config
from ...errors import ConfigError, StoreError, ZarrS3Error
from .errors import unexpected
from .pool import ClientPool
from .regions import Regions
from .request import Request, Response
from .sdk_errors import answered
from .sdk_receive import Receiving

_META = "x-amz-meta-"


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
    """Sends through the pool's client for `config`, in the region where the bucket is. It times its attempts itself."""

    __slots__ = ("_pool", "_regions", "_seconds")

    def __init__(self, pool: ClientPool, config: S3Config, regions: Regions | None = None) -> None:
        self._pool = pool
        self._regions = regions or Regions(config)
        self._seconds = config.attempt_timeout

    async def send(self, request: Request) -> Response:
        """One attempt. Every foreign exception becomes a StoreError here.

        Raises:
            BrokenBody: The body of a GET ended too early or came too slowly; it carries what had come.
            NetworkError, DeadlineExceeded: No answer came.
        """
        # Not timed: the first one takes as long as it takes, and a second try would begin at its beginning.
        client = await self._pool.client(self._regions.config_for(request.bucket))
        receiving = Receiving(request, self._seconds)
        try:
            async with asyncio.timeout(self._seconds) as timer:
                return await _exchange(client, request, receiving, timer)
        except StoreError:
            raise
        except TimeoutError as error:
            raise receiving.late() from error
        except Exception as error:  # noqa: BLE001  # the edge: whatever aiohttp and botocore raise is mapped here
            return answered(request, error)


async def _exchange(client: Any, request: Request, receiving: Receiving, timer: asyncio.Timeout) -> Response:
    model = client.meta.service_model.operation_model(request.operation)
    call: Callable[..., Awaitable[dict[str, Any]]] = getattr(client, _method_name(request.operation))
    parsed = await _parsed(request, call(**_parameters(request, _names(model))))
    meta = parsed.pop("ResponseMetadata")
    status, headers = meta["HTTPStatusCode"], meta["HTTPHeaders"]
    stream = parsed.get("Body")
    if request.operation != "GetObject" or stream is None:
        return Response(status, headers, document=parsed)
    return Response(status, headers, await receiving.receive(status, headers, stream.raw_stream, timer))


async def _parsed(request: Request, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await answer
    except ZarrS3Error:
        raise
    except (ValueError, OverflowError) as error:
        # botocore reads numbers and dates with whatever reads them, and lets through what that raises.
        raise unexpected(request, Response(200, {}), f"the SDK cannot read it ({error})") from error


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
