"""An empty prefix on a real server for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

import zarr_s3_async as zs


@dataclass(frozen=True)
class Place:
    """An empty prefix of a bucket, and the options to reach it."""

    bucket: str
    prefix: str
    config: zs.S3Config

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@pytest.fixture
def place(seaweed: Any) -> Place:
    return Place(seaweed.bucket, f"t-{uuid4().hex[:12]}", seaweed.s3_config())


@pytest.fixture
async def session(place: Place) -> AsyncIterator[zs.Session]:
    async with zs.Session(s3=place.config) as opened:
        yield opened
