"""Simulate algorithms (laws) that adapt a client to throttling: `python -m benchmarks.throttling [PICTURE]`.

It runs in virtual time with seeded random numbers, so every run prints the same table. The server models what is known
of S3: a rate per prefix, as a token bucket of 50 ms, above which it responds 503; the rate may change; latency doubles
near the limit, with log-normal noise. Clients always have more requests, keep at most 64 in flight, and wait before a
retry as `RetryPolicy` does by default.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from zarr_s3_async._policy.backoff import retry_delay
from zarr_s3_async._policy.window import ThrottledWindow
from zarr_s3_async.config import RetryPolicy

CEILING = 64
SEEDS = (1, 2, 3)
_BURST = 0.05
"""Capacity of the server's token bucket, in seconds of its rate."""


# Laws


class Law:
    """An algorithm: the client queries it before it sends, and reports responses to it. This one never waits."""

    def may_send(self, now: float, in_flight: int) -> bool:  # noqa: ARG002
        """True if one more request may be sent."""
        return True

    def later(self, now: float) -> float | None:  # noqa: ARG002
        """Time at which `may_send` should be called again; None: after the next response."""
        return None

    def sent(self, now: float) -> None:
        """A request was sent."""

    def refused(self, now: float, sent: float) -> None:
        """A request was throttled."""

    def answered(self, now: float, sent: float) -> None:
        """A request was answered."""


class Window(Law):
    """At most so many requests in flight, halved once a second, plus one per round trip: our former law."""

    decrease = 0.5
    hold = 1.0

    def __init__(self) -> None:
        self.limit = float(CEILING)
        self._decreased_at = -math.inf

    def may_send(self, now: float, in_flight: int) -> bool:  # noqa: ARG002
        return in_flight < max(1, int(self.limit))

    def refused(self, now: float, sent: float) -> None:  # noqa: ARG002
        if now >= self._decreased_at + self.hold:
            self.limit = max(1.0, self.limit * self.decrease)
            self._decreased_at = now

    def answered(self, now: float, sent: float) -> None:  # noqa: ARG002
        self.limit = min(CEILING, self.limit + 1 / self.limit)


class PerRoundTrip(Window):
    """Decreases at most once per round trip: responses to requests sent before a decrease are ignored."""

    def refused(self, now: float, sent: float) -> None:
        if sent >= self._decreased_at:
            self.limit = max(1.0, self.limit * self.decrease)
            self._decreased_at = now


class Gradient(PerRoundTrip):
    """Shrinks with the ratio of the lowest latency to the current one, as Netflix's concurrency-limits does."""

    decrease = 0.9

    def __init__(self) -> None:
        super().__init__()
        self._least = math.inf

    def answered(self, now: float, sent: float) -> None:
        self._least = min(self._least, now - sent)
        gradient = max(0.5, min(1.0, 1.5 * self._least / (now - sent)))
        wanted = self.limit * gradient + math.sqrt(self.limit)
        self.limit = min(CEILING, max(1.0, self.limit + 0.2 * (wanted - self.limit) / self.limit))


class Vegas(PerRoundTrip):
    """Keeps three to six requests queued at the server, which TCP Vegas estimates from latency."""

    decrease = 0.7

    def __init__(self) -> None:
        super().__init__()
        self._least = math.inf

    def answered(self, now: float, sent: float) -> None:
        self._least = min(self._least, now - sent)
        queued = self.limit * (1 - self._least / (now - sent))
        step = (queued < 3) - (queued > 6)
        self.limit = min(CEILING, max(1.0, self.limit + step / self.limit))


class Paced(Law):
    """A token bucket, active after the first throttled response."""

    burst = 1.0
    """Seconds."""

    def __init__(self) -> None:
        self.rate = math.inf
        self._tokens, self._filled_at = 0.0, 0.0

    def fill(self, now: float) -> None:
        if self.rate < math.inf:
            most = max(1.0, self.rate * self.burst)
            self._tokens = min(most, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now

    def may_send(self, now: float, in_flight: int) -> bool:  # noqa: ARG002
        self.fill(now)
        return self.rate == math.inf or self._tokens >= 1 - 1e-9

    def later(self, now: float) -> float | None:
        return now + max(1e-4, (1 - self._tokens) / self.rate)

    def sent(self, now: float) -> None:  # noqa: ARG002
        self._tokens -= self.rate < math.inf


class SdkAdaptive(Paced):
    """The adaptive mode of the AWS SDKs: CUBIC on a token bucket, from a sending rate measured in half seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._bucket, self._sent, self._measured = 0.0, 0, 0.0
        self._before, self._refused_at, self._flat = 0.0, 0.0, 0.0

    def _measure(self, now: float) -> None:
        bucket = math.floor(now * 2) / 2
        self._sent += 1
        if bucket > self._bucket:
            self._measured += 0.8 * (self._sent / (bucket - self._bucket) - self._measured)
            self._sent, self._bucket = 0, bucket

    def _set(self, rate: float, now: float) -> None:
        self.fill(now)
        self.rate = max(0.5, min(rate, 2 * self._measured))

    def refused(self, now: float, sent: float) -> None:  # noqa: ARG002
        self._measure(now)
        self._before = min(self._measured, self.rate)
        self._flat = (self._before * 0.3 / 0.4) ** (1 / 3)
        self._refused_at = now
        self._set(0.7 * self._before, now)

    def answered(self, now: float, sent: float) -> None:  # noqa: ARG002
        self._measure(now)
        if self.rate < math.inf:
            self._set(0.4 * (now - self._refused_at - self._flat) ** 3 + self._before, now)


class PacedAsServed(Paced):
    """CUBIC on a token bucket, which falls once per round trip to 0.9 of the rate that was served."""

    burst = 0.02

    def __init__(self) -> None:
        super().__init__()
        self._answers: deque[float] = deque(maxlen=CEILING)
        self._decreased_at, self._before = -math.inf, 0.0

    def refused(self, now: float, sent: float) -> None:
        if sent < self._decreased_at:
            return
        served = len(self._answers) / (now - self._answers[0]) if self._answers and now > self._answers[0] else 100.0
        self.fill(now)
        self._before, self._decreased_at = min(served, self.rate), now
        self.rate = max(1.0, 0.9 * self._before)

    def answered(self, now: float, sent: float) -> None:  # noqa: ARG002
        self._answers.append(now)
        if self.rate < math.inf:
            self.fill(now)
            past = now - self._decreased_at - 1.0
            self.rate = max(1.0, self._before * (1 + 0.1 * past**3))


class WindowAsServed(Law):
    """The algorithm of this library: `_policy/window.py`."""

    def __init__(self) -> None:
        self._window: ThrottledWindow | None = None

    @property
    def limit(self) -> float:
        return CEILING if self._window is None else self._window.limit

    def may_send(self, now: float, in_flight: int) -> bool:  # noqa: ARG002
        return in_flight < self.limit

    def refused(self, now: float, sent: float) -> None:
        if self._window is None:
            self._window = ThrottledWindow(CEILING, now)
        else:
            self._window.refused(now, sent)

    def answered(self, now: float, sent: float) -> None:
        if self._window is not None:
            self._window.answered(now, sent)
            if self._window.recovered:
                self._window = None


LAWS: dict[str, Callable[[], Law]] = {
    "none": Law,
    "halved once a second (before)": Window,
    "AIMD per round trip": PerRoundTrip,
    "gradient": Gradient,
    "Vegas": Vegas,
    "SDK adaptive": SdkAdaptive,
    "paced as served": PacedAsServed,
    "window as served (now)": WindowAsServed,
}


# The simulation


@dataclass
class Server:
    """One prefix."""

    rate: Callable[[float], float]
    latency: float
    random: Random
    tokens: float = math.inf
    filled_at: float = 0.0
    load: float = 0.0
    """Requests per second, over the last 100 ms or so."""

    def take(self, now: float) -> tuple[bool, float]:
        """Whether a request is served, and after how many seconds it is answered."""
        rate = self.rate(now)
        past = now - self.filled_at
        self.tokens = min(max(1.0, rate * _BURST), self.tokens + past * rate)
        self.filled_at = now
        self.load = self.load * math.exp(-past / 0.1) + 10
        served = self.tokens >= 1
        self.tokens -= served
        near = min(1.0, self.load / rate) ** 6
        return served, self.latency * (1 + near) * math.exp(self.random.gauss(0, 0.15))


@dataclass
class Client:
    """A client with unlimited requests, or with a given number."""

    law: Law
    left: float = math.inf
    in_flight: int = 0
    again: deque[int] = field(default_factory=deque)
    """Number of attempts of each request that waits for a retry."""
    waits: bool = False
    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)


class Simulation:
    """Simulate clients of one server for `seconds`, or until all their requests are answered."""

    def __init__(self, server: Server, clients: list[Client], seconds: float) -> None:
        self._server, self._random = server, server.random
        self._seconds = seconds
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._policy = RetryPolicy()
        self.clients = clients

    def run(self, starts: list[float]) -> None:
        for client, start in zip(self.clients, starts, strict=True):
            self._at(start, self._send, client)
        while self._events:
            now, _, act, arguments = heapq.heappop(self._events)
            if now > self._seconds:
                return
            act(now, *arguments)

    def _at(self, when: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act, arguments))

    def _send(self, now: float, client: Client) -> None:
        while client.in_flight < CEILING and (client.again or client.left > 0):
            if not client.law.may_send(now, client.in_flight):
                when = client.law.later(now)
                if when is not None and not client.waits:
                    client.waits = True
                    self._at(when, self._wake, client)
                return
            if client.again:
                attempt = client.again.popleft() + 1
            else:
                attempt = 1
                client.left -= 1
            client.law.sent(now)
            client.in_flight += 1
            served, duration = self._server.take(now)
            self._at(now + duration, self._back, client, served, now, attempt)

    def _wake(self, now: float, client: Client) -> None:
        client.waits = False
        self._send(now, client)

    def _back(self, now: float, client: Client, served: bool, sent: float, attempt: int) -> None:
        client.in_flight -= 1
        if served:
            client.answers.append(now)
            client.law.answered(now, sent)
        else:
            client.refusals.append(now)
            client.law.refused(now, sent)
            self._at(now + retry_delay(self._policy, attempt, self._random.random()), self._retry, client, attempt)
        self._send(now, client)

    def _retry(self, now: float, client: Client, attempt: int) -> None:
        client.again.append(attempt)
        self._send(now, client)


def simulate(
    law: Callable[[], Law],
    rate: Callable[[float], float],
    latency: float,
    *,
    seed: int,
    starts: list[float],
    seconds: float,
    total: float = math.inf,
) -> list[Client]:
    """The clients, with when they were answered and refused."""
    clients = [Client(law(), left=total) for _ in starts]
    Simulation(Server(rate, latency, Random(seed)), clients, seconds).run(starts)
    return clients


# Measurements


def constant_rate(
    law: Callable[[], Law], rate: float, latency: float, starts: list[float], seed: int
) -> tuple[float, ...]:
    """Goodput as a share of the rate and Jain's index of the clients, in the second half; share of refused requests."""
    seconds = 20.0
    clients = simulate(law, lambda _: rate, latency, seed=seed, starts=starts, seconds=seconds)
    good = [sum(when > seconds / 2 for when in client.answers) for client in clients]
    refused = sum(len(client.refusals) for client in clients)
    everything = refused + sum(len(client.answers) for client in clients)
    fair = sum(good) ** 2 / (len(good) * sum(n * n for n in good)) if sum(good) else 0.0
    return sum(good) / (seconds / 2) / rate, fair, refused / everything


def burst(law: Callable[[], Law], seed: int) -> tuple[float, float]:
    """Seconds and refusals of 1,024 requests at 2,000 per second and 5 ms: a row of the benchmarks."""
    (client,) = simulate(law, lambda _: 2000.0, 0.005, seed=seed, starts=[0.0], seconds=60.0, total=1024)
    return (client.answers[-1] if len(client.answers) == 1024 else math.inf), float(len(client.refusals))


def recovery(law: Callable[[], Law], seed: int) -> float:
    """Seconds until 85 % of a rate are used that rises from 1,000 to 3,000 at 10 s; latency 10 ms."""
    (client,) = simulate(law, lambda t: 3000.0 if t > 10 else 1000.0, 0.01, seed=seed, starts=[0.0], seconds=40.0)
    for quarter in range(40, 158):
        start = quarter / 4
        if sum(start < when <= start + 0.5 for when in client.answers) >= 0.85 * 1500:
            return start - 10
    return math.inf


def rising(law: Callable[[], Law], seed: int) -> float:
    """Goodput as a share, while the rate grows from 500 by 10 % per second, as of a prefix that S3 splits; 10 ms."""
    (client,) = simulate(law, lambda t: 500 * 1.1**t, 0.01, seed=seed, starts=[0.0], seconds=20.0)
    return len(client.answers) / (500 * (1.1**20 - 1) / math.log(1.1))


def figures(law: Callable[[], Law]) -> Iterator[str]:
    """The cells of a row."""

    def average(found: list[tuple[float, ...]]) -> list[float]:
        return [mean(column) for column in zip(*found, strict=True)]

    seconds, refused = average([burst(law, seed) for seed in SEEDS])
    yield f"{seconds:.2f} s, {refused:.0f}"
    for rate, latency, starts in (
        (2000.0, 0.005, [0.0]),
        (3500.0, 0.02, [0.0, 0.0, 3.0, 6.0]),
        (3500.0, 0.03, [0.05 * n for n in range(16)]),
        (400.0, 0.02, [0.05 * n for n in range(40)]),
    ):
        good, fair, wasted = average([constant_rate(law, rate, latency, starts, seed) for seed in SEEDS])
        yield f"{good:.0%}, {wasted:.1%}" + (f", {fair:.2f}" if len(starts) > 1 else "")
    yield f"{mean(recovery(law, seed) for seed in SEEDS):.1f} s"
    yield f"{mean(rising(law, seed) for seed in SEEDS):.0%}"


HEAD = (
    "algorithm",
    "1,024 requests",
    "one client, 2,000/s",
    "four, 3,500/s",
    "sixteen, 3,500/s",
    "forty, 400/s",
    "1,000/s to 3,000/s",
    "rising 10 %/s",
)


def table() -> Iterator[str]:
    """Markdown."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---|" + "---:|" * (len(HEAD) - 1)
    for name, law in LAWS.items():
        yield f"| {name} | {' | '.join(figures(law))} |"


def draw(path: Path) -> None:
    """Answers per second of four clients that come one after the other and of one whose rate changes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    laws = [name for name in LAWS if name != "none"]
    figure, axes = plt.subplots(len(laws), 2, figsize=(10, 1.5 * len(laws)), sharex="col", layout="constrained")
    for (left, right), name in zip(axes, laws, strict=True):
        four = simulate(LAWS[name], lambda _: 3500.0, 0.02, seed=1, starts=[0, 3, 6, 9], seconds=20.0)
        for client in four:
            left.plot(*_per_second(client.answers), linewidth=0.8)
        (one,) = simulate(LAWS[name], _changing, 0.02, seed=1, starts=[0.0], seconds=20.0)
        right.plot(*_per_second(one.answers), linewidth=0.8, label="answered")
        right.plot(*_per_second(one.refusals), linewidth=0.8, color="#c8442b", label="refused")
        right.plot([0, 8, 8, 14, 14, 20], [2000, 2000, 700, 700, 2500, 2500], ":", color="#888888", label="allowed")
        left.set_title(name, loc="left", fontsize=8, fontweight="bold")
        left.set_ylim(0, 3600)
        right.set_ylim(0, 3600)
        for axis in (left, right):
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][1].legend(frameon=False, fontsize=7, loc="upper left", ncols=3)
    axes[-1][0].set_xlabel("seconds; four clients at 3,500 requests per second", fontsize=8)
    axes[-1][1].set_xlabel("seconds; one client, the rate changes", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _changing(now: float) -> float:
    return 2000.0 if now < 8 else 700.0 if now < 14 else 2500.0


def _per_second(times: list[float]) -> tuple[list[float], list[float]]:
    step = 0.25
    bins = [0] * int(20 / step)
    for when in times:
        if when < 20:
            bins[int(when / step)] += 1
    return [step * n for n in range(len(bins))], [n / step for n in bins]


def main() -> None:
    """Print the table; write the plot if a file is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throttling", description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path, nargs="?")
    picture = parser.parse_args().picture
    for line in table():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    if picture is not None:
        draw(picture)


if __name__ == "__main__":
    main()
