"""Credentials that expire during a read: they are refreshed once for all requests, and the read continues."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import CredentialsExpired, CredentialsNotFound
from zarr_s3_async.stores.s3.service import S3Service

from .....servers import faults
from . import sources
from .conftest import BUCKET
from .sources import LONG_TERM, REFRESHED, CredentialSetup, Source
from .test_sources import EXPECTED, TRANSPORTS, read
from .verifying import VerifyingServer

# botocore refreshes keys that have less than ten minutes left; a role lasts fifteen at least.
SHORT, LONG = 300.0, 3600.0
# botocore uses keys of instance metadata past their expiry if the service gives no newer ones.
BY_TIME = [source for source in REFRESHED if source is not sources.instance]


def cases(of: Sequence[Source]) -> Any:
    """Every source over the wire, and two over the SDK, where they share all code but the request."""
    over_sdk = (sources.role, sources.process)
    pairs = [(source, "wire") for source in of] + [(source, "sdk") for source in over_sdk]
    ids = [f"{source.__name__}-{transport}" for source, transport in pairs]
    return pytest.mark.parametrize(("source", "transport"), pairs, ids=ids)


async def first_keys(session: zs.Session) -> None:
    """Make the session fetch its credentials without a request to S3."""
    session.s3(BUCKET)
    (service,) = (shared for shared in session._context.shared.values() if isinstance(shared, S3Service))
    await service._pool.identity(session._config)


@cases(BY_TIME)
async def test_keys_near_their_expiry_are_refreshed_once_for_all_reads(
    source: Source,
    transport: Literal["wire", "sdk"],
    env_setup: CredentialSetup,
    config: zs.S3Config,
    server: VerifyingServer,
) -> None:
    # The first keys of a chain belong to the middle role.
    env_setup.issuer.lifetimes = [SHORT, SHORT, LONG] if source is sources.chained_roles else [SHORT, LONG]
    config = replace(config, transport=transport, **source(env_setup))
    async with zs.Session(s3=config) as session:
        store = session.s3(BUCKET, "a")
        await first_keys(session)
        before = env_setup.issues()
        blobs = await asyncio.gather(*(store.get(f"c/{row}/0") for row in range(16)))
        assert [bytes(blob.data)[0] for blob in blobs if blob] == list(range(16))
        once = 2 if source is sources.chained_roles else 1
        assert env_setup.issues() - before == once
        assert set(server.signers) == {env_setup.issuer.issued[env_setup.issues() - 1].access_key}


@cases(REFRESHED)
async def test_keys_that_s3_reports_expired_are_replaced_during_a_read(
    source: Source,
    transport: Literal["wire", "sdk"],
    env_setup: CredentialSetup,
    config: zs.S3Config,
    server: VerifyingServer,
) -> None:
    config = replace(config, transport=transport, **source(env_setup))
    async with zs.Session(s3=config) as session:
        array = await session.open_array(session.s3(BUCKET, "a"))
        before, first = env_setup.issues(), server.signers[0]
        server.cue("GetObject", _revoking(server, first), nth=5)
        np.testing.assert_array_equal(await array.get_slice((0, 0), (16, 4)), EXPECTED)
        once = 2 if source is sources.chained_roles else 1
        assert env_setup.issues() - before == once, "one request serves all readers"
        last = env_setup.issuer.issued[env_setup.issues() - 1].access_key
        assert set(server.signers) == {first, last}
        server.signers.clear()
        await read(session, config, transport)
        assert set(server.signers) == {last}


def _revoking(server: VerifyingServer, key: str) -> faults.Fault:
    """A fault that revokes the key from this request on."""

    def revoke(exchange: object) -> None:
        server.revoked.add(key)
        faults.expired_token(exchange)  # type: ignore[arg-type]  # an Exchange

    return revoke


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_credentials_file_renewed_by_another_program_is_read_again(
    transport: Literal["wire", "sdk"], env_setup: CredentialSetup, config: zs.S3Config, server: VerifyingServer
) -> None:
    sources.credentials_file(env_setup)
    async with zs.Session(s3=replace(config, transport=transport)) as session:
        await read(session, session._config, transport)
        server.revoked.add(LONG_TERM.access_key)
        new = env_setup.issuer.issue()
        lines = f"{sources._key_lines(new)}aws_session_token = {new.token}\n"
        env_setup.write("SHARED_CREDENTIALS_FILE", f"[default]\n{lines}")
        np.testing.assert_array_equal(await read(session, session._config, transport), EXPECTED)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_source_that_fails_during_a_read_raises_one_of_our_errors(
    transport: Literal["wire", "sdk"], env_setup: CredentialSetup, config: zs.S3Config, server: VerifyingServer
) -> None:
    sources.process(env_setup)
    async with zs.Session(s3=replace(config, transport=transport)) as session:
        array = await session.open_array(session.s3(BUCKET, "a"))
        env_setup.write("CONFIG_FILE", "[default]\ncredential_process = /bin/false\n")
        server.cue("GetObject", _revoking(server, server.signers[0]), nth=5)
        with pytest.raises((CredentialsExpired, CredentialsNotFound)):
            await array.get_slice((0, 0), (16, 4))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_source_that_fails_near_the_expiry_raises_one_of_our_errors(
    transport: Literal["wire", "sdk"], env_setup: CredentialSetup, config: zs.S3Config
) -> None:
    env_setup.issuer.lifetimes = [SHORT]
    sources.web_identity(env_setup)
    async with zs.Session(s3=replace(config, transport=transport)) as session:
        await first_keys(session)
        (env_setup.home / "token").unlink()
        with pytest.raises(CredentialsNotFound, match="No such file"):
            await read(session, session._config, transport)


@pytest.mark.parametrize("source", [sources.role, sources.process, sources.container], ids=lambda s: s.__name__)
def test_keys_are_refreshed_on_uvloop_too(source: Source, env_setup: CredentialSetup, config: zs.S3Config) -> None:
    """The first keys are fetched in a thread with its own loop; later ones on the session's loop."""
    uvloop = pytest.importorskip("uvloop")
    env_setup.issuer.lifetimes = [SHORT, LONG]

    async def main() -> None:
        async with zs.Session(s3=replace(config, **source(env_setup))) as session:
            await first_keys(session)
            np.testing.assert_array_equal(await read(session, session._config, "wire"), EXPECTED)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert env_setup.issues() == 2


async def test_a_cancelled_request_does_not_cancel_the_refresh(env_setup: CredentialSetup, config: zs.S3Config) -> None:
    env_setup.issuer.lifetimes = [SHORT, LONG]
    sources.web_identity(env_setup)
    async with zs.Session(s3=config) as session:
        store = session.s3(BUCKET, "a")
        await first_keys(session)
        first = asyncio.ensure_future(store.get("c/0/0"))
        others = [asyncio.ensure_future(store.get(f"c/{row}/0")) for row in range(1, 9)]
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        blobs = await asyncio.gather(*others)
        assert [bytes(blob.data)[0] for blob in blobs if blob] == list(range(1, 9))
