"""The room where a long body that broke is continued: the rest by `Range`, of the same object by `If-Match`.

What had come stays where it is, in the sink's memory or in the transport's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..._http.body import PartialBody
from ..._types import Version
from ...errors import DeadlineExceeded, NetworkError, StoreError
from .answer_checks import parse_content_range
from .errors import unexpected
from .request import Request, Response
from .write_ids import if_match

WORTHWHILE = 4 * 2**20
"""Bytes of an object from which on it is continued: a shorter one is asked for anew as quickly."""


class BrokenBody(NetworkError):
    """How a transport tells what had come when the body broke off, or took too long. It stays in stores/s3.

    Attributes:
        partial: What had come.
        late: The attempt's time was over, or hardly anything came any more.
    """

    partial: PartialBody
    late: bool = False

    @classmethod
    def of(cls, error: NetworkError | DeadlineExceeded, partial: PartialBody) -> BrokenBody:
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

    __slots__ = ("_partial", "_place", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._partial: PartialBody | None = None
        self._place: memoryview | None = None
        """Where the rest belongs; given out at most once per attempt."""

    def request(self) -> Request:
        """What to send next: all of it, or the rest."""
        partial = self._partial
        if partial is None:
            return self._request
        headers = {
            "range": f"bytes={partial.received}-{partial.size - 1}",
            "if-match": if_match(Version(partial.headers["etag"])),
        }
        return replace(self._request, headers={**self._request.headers, **headers}, sink=self._rest)

    def _rest(self, length: int) -> memoryview:
        partial = self._partial
        assert partial is not None  # noqa: S101  # only a request for the rest has this sink
        # Another length is another range: received aside, where it is found to be wrong.
        if length != partial.size - partial.received:
            return memoryview(bytearray(length))
        together = partial.memory.c_contiguous
        self._place = partial.memory[partial.received :] if together else memoryview(bytearray(length))
        return self._place

    def take(self, outcome: Response | StoreError) -> Response | StoreError:
        """Keep what came of a broken body; complete a whole one; say so where it can no longer be continued."""
        if isinstance(outcome, BrokenBody):
            self._keep(outcome.partial)
            return outcome
        if self._partial is None or isinstance(outcome, StoreError):
            return outcome
        return self._completed(self._partial, outcome)

    def _keep(self, partial: PartialBody) -> None:
        if self._partial is not None:
            if partial.memory is self._place and _is_rest_of(self._partial, partial.headers):
                self._partial.add(partial.memory[: partial.received], in_place=True)
        elif _is_worth_it(self._request, partial):
            self._partial = partial

    def _completed(self, partial: PartialBody, response: Response) -> Response | StoreError:
        if response.status == 206 and _is_rest_of(partial, response.headers):
            # One that came in chunks lies beside its place.
            partial.add(memoryview(response.body).cast("B"), in_place=response.body is self._place)
            self._partial = None  # whoever finds it damaged wants all of it anew
            return Response(200, partial.headers, partial.memory)
        if response.status == 206 or (response.status == 412 and "if-match" not in self._request.headers):
            self._partial = None
            return unexpected(self._request, response, "the object was replaced while it was being read")
        return response


def _is_worth_it(request: Request, partial: PartialBody) -> bool:
    # A Content-Range where none was asked for: nobody knows of what these bytes are.
    whole = not ("range" in request.headers or "content-range" in partial.headers) and bool(partial.headers.get("etag"))
    return whole and partial.size >= WORTHWHILE and 0 < partial.received < partial.size


def _is_rest_of(partial: PartialBody, headers: Mapping[str, str]) -> bool:
    """True where an answer is of the same object, from where it broke off to its end."""
    span = parse_content_range(headers.get("content-range", ""))
    return span == (partial.received, partial.size, partial.size) and headers.get("etag") == partial.headers["etag"]
