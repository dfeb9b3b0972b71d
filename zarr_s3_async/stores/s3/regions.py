"""The room where it is remembered in which region a bucket turned out to be.

Only the region's name is taken from an answer. The host follows from it by the endpoint rules of the SDK, so that no
server can send our credentials anywhere.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...config import S3Config

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
