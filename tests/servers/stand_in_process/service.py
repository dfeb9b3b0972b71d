"""State shared by all connections of the S3 stand-in: objects, settings, counters."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..s3_messages import Request, Response, error, head_of
from ..s3_objects import Objects

CONTROL = "/-/"
"""Start of the control paths; it is no S3 path, since no bucket has a name of one character."""


@dataclass(slots=True)
class Settings:
    """How the server behaves. Changes apply to the next request."""

    latency: float = 0.0
    """Seconds from the end of a request to the first byte of its answer."""
    bandwidth: float | None = None
    """Bytes per second of one connection, each way."""
    rate: float | None = None
    """Requests per second above which 503 SlowDown is answered."""


class Service:
    """State shared by all connections: objects, settings, counters."""

    def __init__(self, settings: Settings, buckets: tuple[str, ...]) -> None:
        self.settings = settings
        self._buckets = buckets
        self.objects = Objects(buckets)
        self.loop = asyncio.get_running_loop()
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Set all counters to zero."""
        self.operations: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self.peak_in_flight = self.in_flight
        self.bytes_in = self.bytes_out = 0
        self._tokens = math.inf  # a full bucket; the next request limits it to the bucket's size
        self._filled_at = self.loop.time()

    def begin(self, request: Request) -> Response:
        """Count and answer a request; answer 503 if it exceeds the rate."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if self._allowed():
            answer = self.objects.answer(request)
        else:
            answer = error(503, "SlowDown", "Throttled", bodiless=request.method == "HEAD")
        self.operations[answer.operation] += 1
        self.statuses[answer.status] += 1
        self.bytes_in += len(memoryview(request.body))
        self.bytes_out += len(memoryview(answer.body))
        return answer

    def _allowed(self) -> bool:
        """A token bucket that holds 50 ms worth of requests."""
        rate = self.settings.rate
        if rate is None:
            return True
        now = self.loop.time()
        self._tokens = min(max(1.0, rate / 20), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def counters(self) -> dict[str, Any]:
        """The counters since the start or the last reset."""
        return {
            "requests": self.operations.total(),
            "operations": dict(self.operations),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "connections": self.connections,
            "peak_in_flight": self.peak_in_flight,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }

    def end(self) -> None:
        """Count a response as sent, or as abandoned by its client."""
        self.in_flight -= 1

    def control(self, request: Request) -> Response:
        """Serve the control paths below `/-/`, which are not counted, delayed or throttled."""
        match request.bucket:
            case "reset":
                self.reset()
            case "clear":
                self.objects = Objects(self._buckets)
                self.reset()
            case "settings":
                for name, value in json.loads(bytes(request.body)).items():
                    setattr(self.settings, name, value)
            case "everywhere":
                bucket, _, prefix = request.key.partition("/")
                self.objects.put_everywhere(bucket, prefix, request.body)
            case "counters":
                pass
            case _:
                return error(404, "NoSuchControl", "Control")
        body = json.dumps(self.counters()).encode()
        return Response(200, head_of(200, len(body), "Content-Type: application/json\r\n"), body, "Control")
