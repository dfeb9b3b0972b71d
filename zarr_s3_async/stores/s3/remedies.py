"""The room of refusals that one more try mends: expired credentials, a wrong clock, another region.

Each is tried once per request; what was learnt stays for all that follow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from .clock import Clock
from .errors import is_wrong_region, region_of
from .regions import Regions
from .request import Request, Response

Remedy: TypeAlias = Literal["credentials", "clock", "region"]

_BY_CODE: dict[str, Remedy] = {
    "ExpiredToken": "credentials",
    "ExpiredTokenException": "credentials",
    "TokenRefreshRequired": "credentials",
    "RequestTimeTooSkewed": "clock",
}


class Remedies:
    """For the requests of one S3Config.

    Args:
        renew: Forces new credentials, once for all who ask at the same time; False where there are none to have.
        clock: What requests are signed with.
        regions: Where buckets are.
    """

    __slots__ = ("_clock", "_regions", "_renew")

    def __init__(self, *, renew: Callable[[], Awaitable[bool]], clock: Clock, regions: Regions) -> None:
        self._renew = renew
        self._clock = clock
        self._regions = regions

    async def mend(self, request: Request, response: Response, tried: set[Remedy]) -> bool:
        """Do what may let the same request succeed, and note it in `tried`; False where there is nothing to do."""
        remedy = _remedy_for(response)
        if remedy is None or remedy in tried:
            return False
        tried.add(remedy)
        match remedy:
            case "credentials":
                return await self._renew()
            case "clock":
                return self._clock.learn(response.headers.get("date"))
            case "region":
                return self._regions.learn(request.bucket, region_of(response))


def _remedy_for(response: Response) -> Remedy | None:
    code = response.error.code if response.error else ""
    return _BY_CODE.get(code) or ("region" if is_wrong_region(response) else None)
