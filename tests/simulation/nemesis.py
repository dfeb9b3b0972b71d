"""What goes wrong with requests, drawn from a seed: by name, each a function of one exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from zarr_s3_async.stores.base import PROBE

from .network import Exchange, Network
from .server import Server, answer, refusal

LATE = 2.0
"""Seconds after which, at the latest, a request that is held up on its way is carried out."""
STALL = 4.0
"""Seconds that a stalled answer takes: more than an attempt's timeout."""


class UnansweredWrite(NamedTuple):
    """A write that was carried out and whose answer did not reach the client: what it made of the object, and when.

    The client sends it again: it cannot know that it was carried out, where others have written the object whole since.
    """

    server: Server
    key: str
    time: float
    body: bytes | None
    """None: a deletion."""


class Nemesis:
    """Decides what happens to each request.

    Args:
        network: Where requests come from.
        random: The dice.
        weights: Of each fault, beside those of an exchange without one, which are what is left of 1.
    """

    def __init__(self, network: Network, random: Random, weights: Mapping[str, float]) -> None:
        self._network = network
        self._random = random
        self._faults = [(FAULTS[name], weight) for name, weight in weights.items()]
        self.quiet = False
        """Nothing goes wrong any more."""
        self._unanswered: dict[tuple[int, str], UnansweredWrite] = {}
        network.meet = self.meet

    @property
    def unanswered_writes(self) -> list[UnansweredWrite]:
        """See `UnansweredWrite`."""
        return list(self._unanswered.values())

    def meet(self, exchange: Exchange) -> None:
        """Let a request meet the fault that is drawn for it."""
        if exchange.link.closes_at_reuse:
            self._note(exchange, "closed before")
            self.later(self._network.latency(), exchange.link.reset)
            return
        if not self.quiet:
            drawn = self._random.random()
            for fault, weight in self._faults:
                if drawn < weight:
                    fault(self, exchange)
                    return
                drawn -= weight
        self.serve(exchange)

    # ---- what faults are made of

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Act after so long."""
        self._network.loop.call_later(seconds, act)

    def within(self, seconds: float) -> float:
        """So long at most."""
        return self._random.uniform(0, seconds)

    def choose(self, *choices: int) -> int:
        """One of them."""
        return self._random.choice(choices)

    def serve(
        self,
        exchange: Exchange,
        *,
        there: float | None = None,
        back: float | None = None,
        then: Callable[[bytes], None] | None = None,
    ) -> None:
        """Carry it out when it arrives, and answer.

        Args:
            exchange: Which.
            there: Seconds until it arrives.
            back: Seconds until its answer arrives.
            then: What becomes of the answer instead of its delivery.
        """
        there = self._network.latency() if there is None else there
        back = self._network.latency() if back is None else back

        def arrive() -> None:
            if not exchange.server.up:
                self._note(exchange, "finds no server")
                self.later(back, exchange.link.reset)
                return
            data = self._carry_out(exchange)
            self.later(back, lambda: then(data) if then else self._deliver(exchange, data))

        self.later(there, arrive)

    def refuse(self, exchange: Exchange, data: bytes, why: str) -> None:
        """Answer without carrying it out."""
        self._note(exchange, why)
        self.later(2 * self._network.latency(), lambda: exchange.link.deliver(data))

    def carry_out_late(self, exchange: Exchange) -> None:
        """Carry it out in the end, whatever became of its connection."""

        def arrive() -> None:
            if exchange.server.up:
                self._carry_out(exchange, late=" (late)")

        self.later(self.within(LATE), arrive)

    def _deliver(self, exchange: Exchange, data: bytes) -> None:
        if exchange.link.open and not exchange.link.incarnation.crashed:
            self._unanswered.pop((exchange.number, ""), None)
        exchange.link.deliver(data)

    def _carry_out(self, exchange: Exchange, *, late: str = "") -> bytes:
        request, server = exchange.request, exchange.server
        status, data = server.carry_out(request, exchange.key_id)
        self._note(exchange, f"{status}{late}{_changed(request.method, status, request.body)}")
        if status in (200, 204) and request.method in ("PUT", "DELETE"):
            body = bytes(request.body) if request.method == "PUT" else None
            unanswered = UnansweredWrite(server, request.key, self._network.loop.time(), body)
            self._unanswered[(exchange.number, late)] = unanswered
        return data

    def _note(self, exchange: Exchange, what: str) -> None:
        self._network.note(exchange.link.incarnation.name, f"{exchange}: {what}")


def _changed(method: str, status: int, body: object) -> str:
    size = len(memoryview(body))  # type: ignore[arg-type]  # a buffer
    return f", {bytes(body[:32]).hex(' ', 4)}" if method == "PUT" and status == 200 and 0 < size <= 64 else ""  # type: ignore[index]  # a buffer


def lost_request(nemesis: Nemesis, exchange: Exchange) -> None:
    """The connection breaks before the request arrives."""
    nemesis._note(exchange, "lost on its way")
    nemesis.later(nemesis.within(0.02), exchange.link.reset)


def lost_answer(nemesis: Nemesis, exchange: Exchange) -> None:
    """It is carried out, and the connection breaks."""
    nemesis.serve(exchange, then=lambda _: exchange.link.reset())


def late(nemesis: Nemesis, exchange: Exchange) -> None:
    """The connection breaks, and the request is carried out some time afterwards."""
    nemesis._note(exchange, "held up")
    nemesis.later(nemesis.within(0.02), exchange.link.reset)
    nemesis.carry_out_late(exchange)


def repeated(nemesis: Nemesis, exchange: Exchange) -> None:
    """It is carried out and answered, and some time afterwards carried out again."""
    nemesis.serve(exchange)
    nemesis.carry_out_late(exchange)


def slow(nemesis: Nemesis, exchange: Exchange) -> None:
    """It, or its answer, takes longer than an attempt may."""
    before = bool(nemesis.choose(0, 1))
    nemesis._note(exchange, "stalls" if before else "its answer stalls")
    nemesis.serve(exchange, there=STALL if before else None, back=None if before else STALL)


def broken_answer(nemesis: Nemesis, exchange: Exchange) -> None:
    """The connection breaks in the middle of the answer."""

    def then(data: bytes) -> None:
        exchange.link.deliver(data[: len(data) * nemesis.choose(1, 5, 9) // 10])
        exchange.link.reset()

    nemesis.serve(exchange, then=then)


def throttled(nemesis: Nemesis, exchange: Exchange) -> None:
    """503 SlowDown; nothing is carried out."""
    nemesis.refuse(exchange, refusal(503, "SlowDown"), "503")


def failed_after(nemesis: Nemesis, exchange: Exchange) -> None:
    """500 InternalError, of something that was carried out."""
    nemesis.serve(exchange, then=lambda _: exchange.link.deliver(refusal(500, "InternalError")))


def forbidden(nemesis: Nemesis, exchange: Exchange) -> None:
    """403 AccessDenied, this once."""
    nemesis.refuse(exchange, refusal(403, "AccessDenied"), "403")


def refused_probe(nemesis: Nemesis, exchange: Exchange) -> None:
    """403 for a probe of what the server can do; others are served."""
    if PROBE in exchange.request.key:
        forbidden(nemesis, exchange)
    else:
        nemesis.serve(exchange)


def pretended(nemesis: Nemesis, exchange: Exchange) -> None:
    """A good status, or an absence, that is not S3's answer to this request; nothing is carried out."""
    method, key = exchange.request.method, exchange.request.key
    if method == "PUT":
        status = nemesis.choose(200, 202, 203, 204, 206, 299)
        data = answer(status, b"<html>Welcome</html>" if status == 200 else b"", etag='"0"', content_type="text/html")
    elif method == "DELETE":
        status = nemesis.choose(202, 203, 299)
        data = answer(status)
    else:
        status, data = 404, refusal(404, "NoSuchKey", key + "-another")
    nemesis.refuse(exchange, data, f"pretended {status}")


def served_once(nemesis: Nemesis, exchange: Exchange) -> None:
    """The server closes the connection after its answer, which the client learns at its next request."""
    exchange.link.closes_at_reuse = True
    nemesis.serve(exchange)


Fault = Callable[[Nemesis, Exchange], None]
FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        *(lost_request, lost_answer, late, repeated, slow, broken_answer),
        *(throttled, failed_after, forbidden, refused_probe, pretended, served_once),
    )
}
