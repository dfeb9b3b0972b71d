"""A transport with scripted responses, for tests of the layers above it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.config import RetryPolicy, S3Config
from zarr_s3_async.events import Event
from zarr_s3_async.stores.s3.capabilities import Capabilities, Capability
from zarr_s3_async.stores.s3.request import ErrorDocument, Request, Response
from zarr_s3_async.stores.s3.retry import RetryingTransport, Traced
from zarr_s3_async.stores.s3.slots import Slots
from zarr_s3_async.stores.s3.store import S3Store

NO_SUCH_KEY = Response(404, {}, error=ErrorDocument("NoSuchKey", "gone"))


def ok(body: bytes = b"data", etag: str = '"1"', status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"etag": etag, "content-length": str(len(body)), **named}, body)


def failed(status: int, code: str = "", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, error=ErrorDocument(code, "said the script"))


class Script:
    """Returns its responses in order (an exception is raised), and records the requests."""

    def __init__(self, answers: Iterable[Response | BaseException]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class AllSupported(Capabilities):
    """The capabilities of a server that supports all of them and is not Amazon: no probes, no checksums."""

    def __init__(self, transport: RetryingTransport) -> None:
        super().__init__(self._url, transport)

    async def _url(self) -> str:
        return "http://localhost"

    async def have(self, capability: Capability, near: Request, *, now: bool = False) -> bool:
        return True

    async def completes_atomically(self) -> bool:
        return True

    def is_known(self, capability: Capability) -> bool:
        return True


class ScriptedRetries:
    """RetryingTransport(Traced(Script)) with a clock that only records how long it would wait."""

    def __init__(self, *answers: Response | BaseException, attempts: int = 3, slots: int = 4, **config: Any) -> None:
        self.script = Script(answers)
        self.events: list[Event] = []
        self.waits: list[float] = []
        self.slots = Limiter(slots)
        self.held_while_waiting: list[int] = []
        self.config = S3Config(**config)

        async def wait(seconds: float) -> None:
            self.waits.append(seconds)
            self.held_while_waiting.append(self.slots.held)

        self.retrying = RetryingTransport(
            Traced(self.script, self.events.append),
            slots=Slots(self.slots),
            policy=RetryPolicy(attempts=attempts, base_delay=0.1),
            emit=self.events.append,
            uniform=lambda: 0.5,
            wait=wait,
        )
        self.store = S3Store(
            "bucket", "root", transport=self.retrying, config=self.config, capabilities=AllSupported(self.retrying)
        )
