"""The room where a long body that broke is continued: the rest by `Range`, of the same object by `If-Match`.

What had come stays where it is, in the sink's memory or in the transport's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import DeadlineExceeded, NetworkError, StoreError
from .errors import unexpected
from .request import Request, Response
from .rows import place

WORTHWHILE = 4 * 2**20
"""Bytes of an object from which on it is continued: a shorter one is asked for anew as quickly."""


@dataclass(slots=True)
class Partial:
    """A body that ended too early, of an answer that said its length."""

    headers: Mapping[str, str]
    memory: memoryview
    """Of the whole body that was announced; rows of it may lie apart."""
    received: int

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return self.memory.nbytes

    def add(self, data: memoryview) -> None:
        """Take bytes that follow, unless they lie where they belong already."""
        if not self.memory.c_contiguous:
            place(self.memory, self.received, data)
        self.received += len(data)


class BrokenBody(NetworkError):
    """How a transport tells what had come when the body broke off, or took too long. It stays in stores/s3.

    Attributes:
        partial: What had come.
        late: The attempt's time was over, or hardly anything came any more.
    """

    partial: Partial
    late: bool = False

    @classmethod
    def of(cls, error: NetworkError | DeadlineExceeded, partial: Partial) -> BrokenBody:
        """With the words of `error`, for the transport to raise instead of it."""
        broken = cls(*error.args, bucket=error.bucket, key=error.key, code=error.code)
        broken.partial, broken.late = partial, isinstance(error, DeadlineExceeded)
        return broken

    def plain(self) -> StoreError:
        """The error as it leaves the store, without the body."""
        plain = DeadlineExceeded if self.late else NetworkError
        error = plain(*self.args, bucket=self.bucket, key=self.key, code=self.code, attempts=self.attempts)
        error.__cause__ = self.__cause__
        return error


class Resumption:
    """One request that may be continued."""

    __slots__ = ("_partial", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._partial: Partial | None = None

    def request(self) -> Request:
        """What to send next: all of it, or the rest."""
        partial = self._partial
        if partial is None:
            return self._request
        headers = {"range": f"bytes={partial.received}-{partial.size - 1}", "if-match": partial.headers["etag"]}
        return replace(self._request, headers={**self._request.headers, **headers}, sink=self._rest)

    def _rest(self, length: int) -> memoryview:
        partial = self._partial
        assert partial is not None  # noqa: S101  # only a request for the rest has this sink
        # Another length is another range: received aside, where it is found to be wrong.
        if partial.memory.c_contiguous and length == partial.size - partial.received:
            return partial.memory[partial.received :]
        return memoryview(bytearray(length))

    def take(self, outcome: Response | StoreError) -> Response | StoreError:
        """Keep what came of a broken body; complete a whole one; say so where it can no longer be continued."""
        if isinstance(outcome, BrokenBody):
            self._keep(outcome.partial)
            return outcome
        if self._partial is None or isinstance(outcome, StoreError):
            return outcome
        return self._completed(self._partial, outcome)

    def _keep(self, partial: Partial) -> None:
        if self._partial is not None:
            if partial.size == self._partial.size - self._partial.received:
                self._partial.add(partial.memory[: partial.received])
        elif _is_worth_it(self._request, partial):
            self._partial = partial

    def _completed(self, partial: Partial, response: Response) -> Response | StoreError:
        if response.status == 206 and response.headers["etag"] == partial.headers["etag"]:
            self._partial = None  # whoever finds it damaged wants all of it anew
            partial.add(memoryview(response.body))
            return Response(200, partial.headers, partial.memory)
        if response.status in (206, 412) and "if-match" not in self._request.headers:
            self._partial = None
            return unexpected(self._request, response, "the object was replaced while it was being read")
        return response


def _is_worth_it(request: Request, partial: Partial) -> bool:
    whole = "range" not in request.headers and "etag" in partial.headers
    return whole and partial.size >= WORTHWHILE and 0 < partial.received < partial.size
