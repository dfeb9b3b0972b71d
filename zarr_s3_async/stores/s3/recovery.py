"""Recover from rejections after which another attempt can succeed: expired credentials, clock skew, another region.

Each action is tried once per request; its result is used for all later requests.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import time
from typing import Literal, TypeAlias

from ..._policy.backoff import parse_http_date
from ...config import S3Config
from .errors import is_wrong_region, region_of
from .request import Request, Response


class Clock:
    """A callable that returns the time of one endpoint in seconds since the epoch."""

    __slots__ = ("_now", "offset")

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self.offset: float = 0.0
        """Seconds by which the endpoint's clock is ahead."""

    def __call__(self) -> float:
        return self._now() + self.offset

    def __repr__(self) -> str:
        return f"<Clock {self.offset:+g} s>"

    def learn(self, date: str | None) -> bool:
        """Set the offset from a response's `Date` header; False if that is invalid."""
        server_time = parse_http_date(date)
        if server_time is None:
            return False
        self.offset = server_time - self._now()
        return True


_REGION = r"[a-z]{2,}(?:-[a-z0-9]+){1,4}"
_LONGEST = 32


class Regions:
    """Regions by bucket, for one S3Config."""

    __slots__ = ("_config", "_learnt")

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._learnt: dict[str, S3Config] = {}

    def __repr__(self) -> str:
        return f"<Regions { ({bucket: config.region for bucket, config in self._learnt.items()}) }>"

    def config_for(self, bucket: str) -> S3Config:
        """The options with the bucket's region, if it is known."""
        return self._learnt.get(bucket, self._config) if self._learnt else self._config

    def learn(self, bucket: str, region: str) -> bool:
        """Record the region of a bucket from a response; False if that is not a region's name."""
        if len(region) > _LONGEST or not re.fullmatch(_REGION, region):
            return False
        self._learnt[bucket] = replace(self._config, region=region)
        return True


RecoveryAction: TypeAlias = Literal["credentials", "clock", "region"]

_BY_CODE: dict[str, RecoveryAction] = {
    "ExpiredToken": "credentials",
    "ExpiredTokenException": "credentials",
    "TokenRefreshRequired": "credentials",
    "RequestTimeTooSkewed": "clock",
}


class Recovery:
    """Recovery for the requests of one S3Config.

    Args:
        renew: Fetches new credentials, once for concurrent callers; returns False if there is no source.
        clock: The clock that requests are signed with.
        regions: The regions of buckets.
    """

    __slots__ = ("_clock", "_regions", "_renew")

    def __init__(self, *, renew: Callable[[], Awaitable[bool]], clock: Clock, regions: Regions) -> None:
        self._renew = renew
        self._clock = clock
        self._regions = regions

    async def recover(self, request: Request, response: Response, tried: set[RecoveryAction]) -> bool:
        """Perform the action that may let the request succeed, and add it to `tried`; False if there is none."""
        code = response.error.code if response.error else ""
        action = _BY_CODE.get(code) or ("region" if is_wrong_region(response) else None)
        # Once per request: an action that did not help will not help the second time.
        if action is None or action in tried:
            return False
        tried.add(action)
        match action:
            case "credentials":
                return await self._renew()
            case "clock":
                return self._clock.learn(response.headers.get("date"))
            case "region":
                return self._regions.learn(request.bucket, region_of(response))
