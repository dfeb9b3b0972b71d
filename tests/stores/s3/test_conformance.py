"""S3Store keeps every promise of a store, on a real S3 server and on moto, with either transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import CHECKS, DEVIATIONS, check_name

pytestmark = pytest.mark.integration


@pytest.fixture(params=["seaweed", "moto_s3"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sdk", "wire"])
async def store(request: pytest.FixtureRequest, server: Any) -> AsyncIterator[zs.Store]:
    config = replace(server.s3_config(), transport=request.param)
    async with zs.Session(s3=config) as session:
        yield session.s3(server.bucket, f"conformance/{token_hex(6)}")


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
async def test_s3_store(check: Any, store: zs.Store, server: Any) -> None:
    if check_name(check) in DEVIATIONS[server.kind]:
        pytest.skip(f"{server.kind} is known to differ: see testing/conformance.py")
    await check(store)
