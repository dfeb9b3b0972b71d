"""A hop on the way to a real server that loses answers, breaks connections and refuses, at random and by a seed.

    with FaultyHop(server.endpoint_url, lost=0.05, refused=0.03, reset=0.02, seed=7) as hop:
        ... use hop.endpoint_url ...
        assert hop.count("lost", "PUT", "DELETE") > 0

Requests pass whole or not at all. That matters: SeaweedFS 4.48 replaces an object by an empty one when a connection
breaks in mid-upload, which S3 never does, and which is not what is to be tried here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from random import Random
from typing import Literal, TypeAlias

from ._hop import Head, Hop, has_no_body, read_head

Fate: TypeAlias = Literal["lost", "refused", "reset", "passed"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REFUSALS = ((503, "SlowDown"), (500, "InternalError"))


class FaultyHop(Hop):
    """Each rate is the share of requests to which that happens; of the rest nothing does.

    Args:
        upstream: `http://host:port` of the server behind.
        lost: The request is carried out, and the connection breaks before the last byte of its answer.
        refused: 503 SlowDown or 500 InternalError; the server behind is not asked.
        reset: The connection breaks; the server behind is not asked.
        seed: Of the dice. The same seed gives the same fates in the same order; which request is the n-th is
            up to the clients.
    """

    def __init__(
        self, upstream: str, *, lost: float = 0.0, refused: float = 0.0, reset: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(upstream)
        rates: dict[Fate, float] = {"lost": lost, "refused": refused, "reset": reset}
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"rates are shares of all requests, and together at most 1, unlike {rates}")
        self._rates = rates
        self._dice = Random(seed)
        self._counts: Counter[tuple[Fate, str]] = Counter()

    def count(self, fate: Fate | None = None, *methods: str) -> int:
        """Requests so far that met this fate, of these methods or of all."""
        return sum(
            n
            for (which, method), n in list(self._counts.items())
            if fate in (None, which) and (not methods or method in methods)
        )

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                if "expect" in head.fields:
                    writer.write(_CONTINUE)
                request = head.raw + await _body(reader, head, until_end=False)
                if not await self._meet(self._fate(), head.first[0], request, writer, behind, onward):
                    _break(writer)
                    return
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # a side broke off, or speaks something else: closing is the answer

    async def _meet(
        self,
        fate: Fate,
        method: str,
        request: bytes,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> bool:
        """Let a request meet its fate. False where the client's connection shall break now."""
        answer = b""
        if fate == "refused":
            answer = _refusal(self._dice, method)
        elif fate != "reset":
            onward.write(request)
            answer = await _answer(behind, method)
        self._counts[fate, method] += 1
        if fate == "lost":
            answer = answer[: self._dice.randrange(len(answer))]
        writer.write(answer)
        return fate in ("passed", "refused")

    def _fate(self) -> Fate:
        thrown = self._dice.random()
        for fate, rate in self._rates.items():
            if thrown < rate:
                return fate
            thrown -= rate
        return "passed"


def _refusal(dice: Random, method: str) -> bytes:
    status, code = dice.choice(_REFUSALS)
    body = f"<Error><Code>{code}</Code><Message>by the hop on the way</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + ("" if method == "HEAD" else body)).encode()


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    """The whole answer to a request of this method."""
    while True:
        head = await read_head(reader)
        if head is None:
            raise EOFError
        status = int(head.first[1])
        if status < 200:  # 100 Continue was said already
            continue
        return head.raw if has_no_body(method, status) else head.raw + await _body(reader, head, until_end=True)


async def _body(reader: asyncio.StreamReader, head: Head, *, until_end: bool) -> bytes:
    """The body as it comes on the wire."""
    if head.is_chunked:
        return await _chunks(reader)
    length = head.fields.get("content-length")
    if length is None and until_end:
        return await reader.read()
    return await reader.readexactly(int(length or 0))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((line := await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        pieces += [line, await reader.readexactly(size + 2)]
    pieces.append(line)
    while len(pieces[-1]) > 2 or pieces[-1] is line:  # trailers, and the empty line that ends them
        pieces.append(await reader.readuntil(b"\r\n"))
    return b"".join(pieces)


def _break(writer: asyncio.StreamWriter) -> None:
    """Close with what was written so far, and a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
