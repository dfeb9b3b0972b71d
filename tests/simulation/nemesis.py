"""Faults that are injected into requests, drawn from a seed. Each is a function of one exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from zarr_s3_async.stores.base import PROBE

from .network import Exchange, Network
from .server import Server, answer, refusal

LATE = 2.0
"""Maximum delay in seconds after which a delayed request is carried out."""
STALL = 4.0
"""Seconds that a stalled response takes: more than an attempt's timeout."""


class UnansweredWrite(NamedTuple):
    """A write that was carried out but whose response did not reach the client: the object's new state, and the time.

    The client repeats it: it cannot tell that it was carried out if other writers have replaced the whole object since.
    """

    server: Server
    key: str
    time: float
    body: bytes | None
    """None: a deletion."""


class Nemesis:
    """Decides what happens to each request.

    Args:
        network: Source of the requests.
        random: Source of the random choices.
        weights: Probability of each fault; the remainder to 1 is the probability of no fault.
    """

    def __init__(self, network: Network, random: Random, weights: Mapping[str, float]) -> None:
        self._network = network
        self._random = random
        self._faults = [(FAULTS[name], weight) for name, weight in weights.items()]
        self.quiet = False
        """True once the faults have ended: all later requests are served normally."""
        self._unanswered: dict[tuple[int, str], UnansweredWrite] = {}
        network.apply_fault = self.apply_fault

    @property
    def unanswered_writes(self) -> list[UnansweredWrite]:
        """See `UnansweredWrite`."""
        return list(self._unanswered.values())

    def apply_fault(self, exchange: Exchange) -> None:
        """Draw a fault for a request and apply it."""
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

    # ---- building blocks of faults

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Call `act` after this time."""
        self._network.loop.call_later(seconds, act)

    def within(self, seconds: float) -> float:
        """A random time of at most `seconds`."""
        return self._random.uniform(0, seconds)

    def choose(self, *choices: int) -> int:
        """A random one of `choices`."""
        return self._random.choice(choices)

    def serve(
        self,
        exchange: Exchange,
        *,
        there: float | None = None,
        back: float | None = None,
        then: Callable[[bytes], None] | None = None,
    ) -> None:
        """Carry the request out when it arrives, and answer.

        Args:
            exchange: The request.
            there: Seconds until the request arrives.
            back: Seconds until the response arrives.
            then: Called with the response instead of delivering it.
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
        """Carry the request out later, even if its connection has ended."""

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
    nemesis._note(exchange, "lost before it arrived")
    nemesis.later(nemesis.within(0.02), exchange.link.reset)


def lost_answer(nemesis: Nemesis, exchange: Exchange) -> None:
    """The request is carried out, and the connection breaks before the response."""
    nemesis.serve(exchange, then=lambda _: exchange.link.reset())


def late(nemesis: Nemesis, exchange: Exchange) -> None:
    """The connection breaks, and the request is carried out some time later."""
    nemesis._note(exchange, "held up")
    nemesis.later(nemesis.within(0.02), exchange.link.reset)
    nemesis.carry_out_late(exchange)


def repeated(nemesis: Nemesis, exchange: Exchange) -> None:
    """The request is carried out and answered, and carried out again some time later."""
    nemesis.serve(exchange)
    nemesis.carry_out_late(exchange)


def slow(nemesis: Nemesis, exchange: Exchange) -> None:
    """The request or its response takes longer than the attempt timeout."""
    before = bool(nemesis.choose(0, 1))
    nemesis._note(exchange, "stalls" if before else "its answer stalls")
    nemesis.serve(exchange, there=STALL if before else None, back=None if before else STALL)


def broken_answer(nemesis: Nemesis, exchange: Exchange) -> None:
    """The connection breaks in the middle of the response."""

    def then(data: bytes) -> None:
        exchange.link.deliver(data[: len(data) * nemesis.choose(1, 5, 9) // 10])
        exchange.link.reset()

    nemesis.serve(exchange, then=then)


def throttled(nemesis: Nemesis, exchange: Exchange) -> None:
    """503 SlowDown; the request is not carried out."""
    nemesis.refuse(exchange, refusal(503, "SlowDown"), "503")


def failed_after(nemesis: Nemesis, exchange: Exchange) -> None:
    """500 InternalError, although the request was carried out."""
    nemesis.serve(exchange, then=lambda _: exchange.link.deliver(refusal(500, "InternalError")))


def forbidden(nemesis: Nemesis, exchange: Exchange) -> None:
    """403 AccessDenied for this request only."""
    nemesis.refuse(exchange, refusal(403, "AccessDenied"), "403")


def refused_probe(nemesis: Nemesis, exchange: Exchange) -> None:
    """403 for a capability probe; other requests are served."""
    if PROBE in exchange.request.key:
        forbidden(nemesis, exchange)
    else:
        nemesis.serve(exchange)


def pretended(nemesis: Nemesis, exchange: Exchange) -> None:
    """A success status or a 404 that is not S3's response to this request; the request is not carried out."""
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
    """The server closes the connection after its response; the client notices with its next request."""
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
