"""Recover from refusals that one more attempt can succeed after: expired credentials, a wrong clock, another region.

Each action is tried once per request; what was learned serves all later requests.
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
    """Seconds since the epoch as one endpoint counts them. Call it."""

    __slots__ = ("_now", "offset")

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self.offset: float = 0.0
        """Seconds that the endpoint's clock is ahead."""

    def __call__(self) -> float:
        return self._now() + self.offset

    def __repr__(self) -> str:
        return f"<Clock {self.offset:+g} s>"

    def learn(self, date: str | None) -> bool:
        """Correct it by an answer's `Date`; False where that is not one."""
        told = parse_http_date(date)
        if told is None:
            return False
        self.offset = told - self._now()
        return True


_is_region = re.compile(r"[a-z]{2,}(?:-[a-z0-9]+){1,4}").fullmatch
_LONGEST = 32


class Regions:
    """By bucket, for one S3Config."""

    __slots__ = ("_config", "_learnt")

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._learnt: dict[str, S3Config] = {}

    def __repr__(self) -> str:
        return f"<Regions { ({bucket: config.region for bucket, config in self._learnt.items()}) }>"

    def config_for(self, bucket: str) -> S3Config:
        """The options, with the region where the bucket is as far as is known."""
        return self._learnt.get(bucket, self._config) if self._learnt else self._config

    def learn(self, bucket: str, region: str) -> bool:
        """An answer said that the bucket is there; False where that is no name of a region."""
        if len(region) > _LONGEST or not _is_region(region):
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

    async def recover(self, request: Request, response: Response, tried: set[RecoveryAction]) -> bool:
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


def _remedy_for(response: Response) -> RecoveryAction | None:
    code = response.error.code if response.error else ""
    return _BY_CODE.get(code) or ("region" if is_wrong_region(response) else None)
