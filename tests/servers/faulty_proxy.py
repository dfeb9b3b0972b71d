"""A proxy in front of a real server that loses responses, breaks connections and refuses requests, from a seed.

    with FaultyProxy(server.endpoint_url, lost=0.05, refused=0.03, reset=0.02, seed=7) as proxy:
        ... use proxy.endpoint_url ...
        assert proxy.count("lost", "PUT", "DELETE") > 0

Requests are forwarded complete or not at all. That matters: SeaweedFS 4.48 replaces an object by an empty one when a
connection breaks during an upload. S3 never does that, and it is not what these tests cover.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from random import Random
from typing import Literal, TypeAlias

from .http1 import CONTINUE, Head, has_no_body, read_body, read_head
from .proxy import Proxy

Outcome: TypeAlias = Literal["lost", "refused", "reset", "conflict", "passed"]

_CONDITIONS = ("if-match", "if-none-match")
_REFUSALS = ((503, "SlowDown"), (500, "InternalError"))


class FaultyProxy(Proxy):
    """Injects faults. Each rate is the fraction of requests that get that fault; the rest are forwarded unchanged.

    Args:
        upstream: `http://host:port` of the upstream server.
        lost: The request is carried out, and the connection breaks before the last byte of its response.
        refused: 503 SlowDown or 500 InternalError; the request is not forwarded.
        reset: The connection breaks; the request is not forwarded.
        conflict: Where the request has a precondition, 409 ConditionalRequestConflict, as S3 responds while another
            request for the key is in progress; the request is not forwarded.
        seed: Seed of the random choices. The same seed gives the same outcomes in the same order; the order of
            requests depends on the clients.
    """

    def __init__(
        self,
        upstream: str,
        *,
        lost: float = 0.0,
        refused: float = 0.0,
        reset: float = 0.0,
        conflict: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(upstream)
        rates: dict[Outcome, float] = {"lost": lost, "refused": refused, "reset": reset, "conflict": conflict}
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"rates are shares of all requests, and together at most 1, unlike {rates}")
        self._rates = rates
        self._random = Random(seed)
        self._counts: Counter[tuple[Outcome, str]] = Counter()

    def count(self, outcome: Outcome | None = None, *methods: str) -> int:
        """Count requests so far with this outcome, of these methods or of all."""
        return sum(
            n
            for (which, method), n in list(self._counts.items())
            if outcome in (None, which) and (not methods or method in methods)
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
                if head.expects_continue:
                    writer.write(CONTINUE)
                request = head.raw + await read_body(reader, head, until_end=False)
                if not await self._apply(self._choose(head), head.method, request, writer, behind, onward):
                    _break(writer)
                    return
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # one side broke the connection or does not speak HTTP: close both

    async def _apply(
        self,
        outcome: Outcome,
        method: str,
        request: bytes,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> bool:
        """Apply the chosen fault to this request. Returns False if the client's connection must break now."""
        answer = b""
        if outcome == "refused":
            answer = _refusal(method, *self._random.choice(_REFUSALS))
        elif outcome == "conflict":
            answer = _refusal(method, 409, "ConditionalRequestConflict")
        elif outcome != "reset":
            onward.write(request)
            answer = await _answer(behind, method)
        self._counts[outcome, method] += 1
        if outcome == "lost":
            answer = answer[: self._random.randrange(len(answer))]
        writer.write(answer)
        return outcome not in ("lost", "reset")

    def _choose(self, head: Head) -> Outcome:
        drawn = self._random.random()
        for outcome, rate in self._rates.items():
            if drawn < rate and (outcome != "conflict" or _has_condition(head)):
                return outcome
            drawn -= rate
        return "passed"


def _has_condition(head: Head) -> bool:
    return head.method != "GET" and not head.fields.keys().isdisjoint(_CONDITIONS)


def _refusal(method: str, status: int, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>by the faulty proxy</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + ("" if method == "HEAD" else body)).encode()


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    """Read the complete response to a request of this method."""
    while True:
        head = await read_head(reader)
        if head is None:
            raise EOFError
        if head.status < 200:  # 100 Continue was sent to the client already
            continue
        return (
            head.raw if has_no_body(method, head.status) else head.raw + await read_body(reader, head, until_end=True)
        )


def _break(writer: asyncio.StreamWriter) -> None:
    """Flush what was written so far and close with a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
