"""Resume truncated bodies: request the rest by `Range`, and the same version by `If-Match`.

The bytes received so far stay in place, in the sink's memory or in the transport's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..._http.head import parse_content_range
from ..._http.partial import PartialBody
from ..._types import Version
from ...errors import DeadlineExceeded, NetworkError, StoreError
from .errors import unexpected
from .request import Request, Response
from .write_ids import if_match

WORTHWHILE = 4 * 2**20
"""Minimum bytes of an object to be resumed: requesting a shorter one again is as fast."""


class BrokenBody(NetworkError):
    """Raised by a transport for a truncated or slow body, with the bytes received. Internal to stores/s3.

    Attributes:
        partial: The bytes received.
        late: The attempt timed out, or the body was below the minimum rate.
    """

    partial: PartialBody
    late: bool = False

    @classmethod
    def of(cls, error: NetworkError | DeadlineExceeded, partial: PartialBody) -> BrokenBody:
        """An error with the message of `error`, to be raised instead of it."""
        broken = cls(*error.args, bucket=error.bucket, key=error.key, code=error.code)
        broken.partial, broken.late = partial, isinstance(error, DeadlineExceeded)
        return broken

    def plain(self) -> StoreError:
        """The public error, without the body."""
        plain = DeadlineExceeded if self.late else NetworkError
        error = plain(*self.args, bucket=self.bucket, key=self.key, code=self.code, attempts=self.attempts)
        error.__cause__ = self.__cause__
        return error


class Resumption:
    """The state of one request that may be resumed."""

    __slots__ = ("_partial", "_place", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._partial: PartialBody | None = None
        self._place: memoryview | None = None
        """Memory for the rest; handed out at most once per attempt."""

    def request(self) -> Request:
        """The next request to send: the original one, or one for the rest."""
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
        # Another length is another range: received into other memory, and rejected by the response checks.
        if length != partial.size - partial.received:
            return memoryview(bytearray(length))
        # The rest can be received in place only where the body is one piece of memory; a strided one gets it copied.
        together = partial.memory.c_contiguous
        self._place = partial.memory[partial.received :] if together else memoryview(bytearray(length))
        return self._place

    def take(self, outcome: Response | StoreError) -> Response | StoreError:
        """Keep the bytes of a truncated body; complete the response with the rest; fail if it cannot be resumed."""
        if isinstance(outcome, BrokenBody):
            self._keep(outcome.partial)
            return outcome
        if self._partial is None or isinstance(outcome, StoreError):
            return outcome
        return self._completed(self._partial, outcome)

    def _keep(self, partial: PartialBody) -> None:
        if self._partial is not None:
            # Bytes in other memory are not part of this body: the attempt received another range, or another version.
            if partial.memory is self._place and _is_rest_of(self._partial, partial.headers):
                self._partial.add(partial.memory[: partial.received], in_place=True)
        elif _is_worth_it(self._request, partial):
            self._partial = partial

    def _completed(self, partial: PartialBody, response: Response) -> Response | StoreError:
        if response.status == 206 and _is_rest_of(partial, response.headers):
            # A body in chunked coding was not received in place.
            partial.add(memoryview(response.body).cast("B"), in_place=response.body is self._place)
            self._partial = None  # if its checksum is wrong, the whole body must be requested again
            # As if the first attempt had succeeded: with its headers, because those of the second one describe a range.
            return Response(200, partial.headers, partial.memory)
        # Our own `If-Match` failed: the object was replaced. The next attempt requests the new version from its start.
        if response.status == 206 or (response.status == 412 and "if-match" not in self._request.headers):
            self._partial = None
            return unexpected(self._request, response, "the object was replaced while it was being read")
        return response


def _is_worth_it(request: Request, partial: PartialBody) -> bool:
    # A Content-Range although none was requested: it is unknown which bytes these are.
    whole = not ("range" in request.headers or "content-range" in partial.headers) and bool(partial.headers.get("etag"))
    return whole and partial.size >= WORTHWHILE and 0 < partial.received < partial.size


def _is_rest_of(partial: PartialBody, headers: Mapping[str, str]) -> bool:
    """True if the response is the rest of the same version of the object."""
    span = parse_content_range(headers.get("content-range", ""))
    return span == (partial.received, partial.size, partial.size) and headers.get("etag") == partial.headers["etag"]
