"""A third-party networked store: a server that keeps objects in memory, and a store for `toy://host:port/prefix`.

This module and one call of `register_store` are all that a second store needs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import zarr_s3_async as zs
from zarr_s3_async import errors
from zarr_s3_async.byte_range import ByteRange, Offset, Span, Suffix, checked
from zarr_s3_async.events import RequestDone, RetryScheduled
from zarr_s3_async.stores.base import Blob, Entry, Listing, StoreContext, StoreRef
from zarr_s3_async.stores.registry import split_url

RANGES = {"span": Span, "suffix": Suffix, "offset": Offset}


class ToyServer:
    """Keeps objects in memory. `async with ToyServer() as server:`."""

    def __init__(self) -> None:
        self.objects = zs.MemoryStore()
        self.breaks = 0
        """Number of the next requests that are neither carried out nor answered."""
        self.in_flight = self.peak = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            parameters = json.loads(await reader.readline())
            body = await reader.readexactly(parameters.pop("length"))
            await asyncio.sleep(0)
            if self.breaks:
                self.breaks -= 1
                return
            answer, data = await self._answer(parameters.pop("verb"), parameters, body)
            writer.write(json.dumps({**answer, "length": len(data)}).encode() + b"\n" + data)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # the client has closed the connection
        finally:
            self.in_flight -= 1
            writer.close()

    async def _answer(self, verb: str, parameters: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            if parameters.get("range"):
                parameters["range"] = RANGES[parameters["range"][0]](*parameters["range"][1])
            match verb:
                case "get":
                    blob = await self.objects.get(**parameters)
                    if blob is None:
                        return {"absent": True}, b""
                    return {"version": blob.version, "size": blob.size}, bytes(blob.data)
                case "put":
                    return {"version": await self.objects.put(data=body, **parameters)}, b""
                case "delete":
                    await self.objects.delete(**parameters)
                    return {}, b""
            return {"entries": [(e.key, e.size, e.version) async for e in self.objects.list_prefix(**parameters)]}, b""
        except errors.StoreError as error:
            return {"error": type(error).__name__, "message": str(error)}, b""


class ToyStore:
    """The objects below one prefix of one server."""

    def __init__(self, url: str, context: StoreContext) -> None:
        place, _, prefix = split_url(url)[1].partition("/")
        self._host, port = place.split(":")
        self._port = int(port)
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._context = context

    @property
    def url(self) -> str:
        return f"toy://{self._host}:{self._port}/{self._prefix}".rstrip("/")

    @property
    def ref(self) -> StoreRef:
        return StoreRef(url=self.url)

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002
        version: Any = None,
        sink: Any = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        parameters: dict[str, Any] = {"key": self._prefix + key, "version": version, "max_bytes": max_bytes}
        if checked(range) is not None:
            name = next(name for name, cls in RANGES.items() if isinstance(range, cls))
            parameters["range"] = (name, tuple(range))
        answer, data = await self._ask("get", parameters)
        if "absent" in answer:
            return None
        if sink is not None:
            memory = sink(len(data))
            memory[:] = data
            data = memory
        return Blob(data, answer["version"], answer["size"])

    async def put(self, key: str, data: Any, *, when: Any = "always") -> Any:
        answer, _ = await self._ask("put", {"key": self._prefix + key, "when": when}, bytes(data))
        return answer["version"]

    async def delete(self, key: str, *, when: Any = "always") -> None:
        await self._ask("delete", {"key": self._prefix + key, "when": when})

    async def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self.delete(key)

    async def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:
        answer, _ = await self._ask("list", {"prefix": self._prefix + prefix})
        for key, size, version in answer["entries"]:
            yield Entry(key[len(self._prefix) :], size, version)

    async def list_dir(self, prefix: str = "") -> Listing:
        folder = prefix.strip("/") + "/" if prefix.strip("/") else ""
        dirs, entries = set(), []
        async for entry in self.list_prefix(folder):
            head, slash, _ = entry.key[len(folder) :].partition("/")
            if slash:
                dirs.add(folder + head)
            elif head:
                entries.append(entry)
        return Listing(tuple(sorted(dirs)), tuple(entries))

    async def _ask(self, verb: str, parameters: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], Any]:
        """Send a request under the session's request limit, with retries by its retry policy."""
        for attempt in range(1, self._context.retry.attempts + 1):
            await self._context.requests.acquire()
            try:
                answer, body = await self._attempt(verb, parameters, data)
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self._emit(verb, attempt, "Broken", 0)
                failure = errors.NetworkError(f"{verb} {self.url}: {error!r}; check the server", attempts=attempt)
                failure.__cause__ = error
            else:
                self._emit(verb, attempt, None, len(body))
                if "error" in answer:
                    raise getattr(errors, answer["error"])(answer["message"])
                return answer, body
            finally:
                self._context.requests.release()
            self._context.emit(
                RetryScheduled(operation=verb, bucket="", key="", attempt=attempt, delay=0.0, reason="Broken")
            )
        raise failure

    def _emit(self, verb: str, attempt: int, error: str | None, received: int) -> None:
        self._context.emit(
            RequestDone(
                operation=verb, bucket="", key="", attempt=attempt, status=None, error=error,
                seconds=0.0, bytes_sent=0, bytes_received=received,
            )
        )  # fmt: skip

    async def _attempt(self, verb: str, parameters: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=2**24)
        try:
            head = json.dumps({**parameters, "verb": verb, "length": len(data)}).encode() + b"\n"
            writer.write(head + data)
            answer = json.loads(await reader.readline())
            return answer, await reader.readexactly(answer.pop("length"))
        finally:
            writer.close()
