"""Target: responses of a server to any operation of a store over the SDK's transport.

A seed's first line names an operation of S3. The rest is the response to it, after which the server closes the
connection. Other operations are answered as S3 does. Every call must raise one of our errors or return a right result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zarr_s3_async as zs
from zarr_s3_async.byte_range import Span
from zarr_s3_async.stores.base import Blob, Entry
from zarr_s3_async.stores.s3.store import S3Store

from ..servers.exchange import Exchange
from ..servers.fault_server import FaultServer
from .answers import Sent, _by_http_client
from .oracles import Run, named

_NEVER = 30.0
"""Seconds after which a call is considered hanging."""
_SECRET = "never-to-be-shown"  # the server does not check it
_BIG = bytes(100)


async def _pages(store: S3Store) -> list[Entry]:
    return [found async for found in store.list_prefix()]


_CALLS: dict[str, list[Callable[[S3Store], Awaitable[Any]]]] = {
    "GetObject": [lambda store: store.get("k"), lambda store: store.get("k", range=Span(1, 3))],
    "PutObject": [lambda store: store.put("k", b"new"), lambda store: store.put("k", b"new", when="absent")],
    "DeleteObject": [lambda store: store.delete("k")],
    "DeleteObjects": [lambda store: store.delete_many(["k", "l"])],
    "ListObjectsV2": [_pages, lambda store: store.list_dir("")],
    "CreateMultipartUpload": [lambda store: store.put("big", _BIG)],
    "UploadPart": [lambda store: store.put("big", _BIG)],
    "CompleteMultipartUpload": [lambda store: store.put("big", _BIG)],
    "AbortMultipartUpload": [lambda store: store.put("big", _BIG)],
}
OPERATIONS = tuple(_CALLS)


@contextmanager
def target() -> Iterator[Run]:
    with FaultServer() as server, asyncio.Runner() as runner:
        config = zs.S3Config(
            endpoint_url=server.endpoint_url,
            region="us-east-1",
            access_key_id="AKID",
            secret_access_key=_SECRET,
            addressing_style="path",
            transport="sdk",
            conditional_writes="off",
            multipart_bytes=10,
            part_bytes=5 * 2**20,
        )
        session = zs.Session(s3=config, retry=zs.RetryPolicy(attempts=1))
        try:
            yield lambda data: runner.run(_run(server, session, data))
        finally:
            runner.run(session.aclose())


async def _run(server: FaultServer, session: zs.Session, data: bytes) -> None:
    name, answer = named(data)
    if name not in _CALLS:
        return
    store = session.s3("data", "root")
    assert isinstance(store, S3Store)
    for call in _CALLS[name]:
        server.forget()
        server.put("data", "root/k", b"stored")

        def say(exchange: Exchange) -> None:
            exchange.write(answer)
            exchange.close()

        server.cue(name, say, times=1000)
        if name == "AbortMultipartUpload":
            server.cue("UploadPart", lambda exchange: exchange.reset(), times=1000)
        try:
            async with asyncio.timeout(_NEVER):
                result = await call(store)
        except zs.ZarrS3Error as error:
            shown = f"{error}{error!r}{vars(error)}"
        else:
            shown = repr(result)
            _check(name, result, answer)
        assert _SECRET not in shown


def _check(name: str, result: Any, answer: bytes) -> None:
    match result:
        case Blob():
            seen = _by_http_client(Sent("GET", answer, hung_up=True))
            if seen is None:  # the requested range of a truncated object may be complete
                seen = 200, answer.partition(b"\r\n\r\n")[2][Span(1, 3).start : Span(1, 3).stop]
            assert bytes(result.data) in seen[1]
            assert result.version
        case list():
            for found in result:
                assert isinstance(found.key, str)
                assert isinstance(found.size, int)
                assert isinstance(found.version, str)
        case str():
            assert name in ("PutObject", "UploadPart", "CompleteMultipartUpload", "CreateMultipartUpload")
            assert result
