"""S3Store passes the conformance suite, on a real S3 server and on moto, with either transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio

import zarr_s3_async as zs
from zarr_s3_async.testing import CHECKS, DEVIATIONS, check_name

# One session for all checks, so that state left by one check affects the next.
pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module", params=["seaweed", "moto_s3"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["sdk", "wire"])
async def session(request: pytest.FixtureRequest, server: Any) -> AsyncIterator[zs.Session]:
    async with zs.Session(s3=replace(server.s3_config(), transport=request.param)) as session:
        yield session


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
async def test_s3_store(check: Any, session: zs.Session, server: Any) -> None:
    if check_name(check) in DEVIATIONS[server.kind]:
        pytest.skip(f"{server.kind} is known to differ: see testing/conformance.py")
    await check(session.s3(server.bucket, f"conformance/{token_hex(6)}"))
