"""Every source of credentials signs the reads and the writes of an array, over either transport."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import AccessDenied, CredentialsExpired, CredentialsNotFound

from . import fakes, sources
from .conftest import BUCKET
from .sources import LONG_TERM, REFRESHED, STATIC, CredentialSetup, Source
from .verifying import VerifyingServer

TRANSPORTS: tuple[Literal["wire", "sdk"], ...] = ("wire", "sdk")
EXPECTED = np.repeat(np.arange(16, dtype="uint8")[:, None], 4, axis=1)


async def read(session: zs.Session, config: zs.S3Config, transport: Literal["wire", "sdk"]) -> np.ndarray[Any, Any]:
    array = await session.open_array(session.s3(BUCKET, "a", config=replace(config, transport=transport)))
    return await array.get_slice((0, 0), (16, 4))


@pytest.mark.parametrize("source", [*STATIC, *REFRESHED], ids=lambda source: source.__name__)
async def test_every_source_signs_reads_and_writes(
    source: Source, env_setup: CredentialSetup, config: zs.S3Config, server: VerifyingServer
) -> None:
    config = replace(config, **source(env_setup))
    async with zs.Session(s3=config) as session:
        for transport in TRANSPORTS:
            server.signers.clear()
            np.testing.assert_array_equal(await read(session, config, transport), EXPECTED)
            assert len(server.signers) == 17
            if source in REFRESHED or source in (sources.arguments, sources.environment):
                assert set(server.signers) == {env_setup.issuer.issued[env_setup.issues() - 1].access_key}
            else:
                assert set(server.signers) == {LONG_TERM.access_key}
        await session.s3(BUCKET, "w", config=config).put("k", b"1")
        assert server.get(BUCKET, "w/k") == b"1"
    requests_before = 2 if source is sources.chained_roles else 1
    if source in REFRESHED:
        assert env_setup.issues() == requests_before, "keys are cached for the whole session"


async def test_each_role_of_a_chain_is_requested_with_the_keys_of_the_one_before(
    env_setup: CredentialSetup, config: zs.S3Config
) -> None:
    async with zs.Session(s3=replace(config, **sources.chained_roles(env_setup))) as session:
        await read(session, session._config, "wire")
    assert env_setup.roles == [
        ("intermediate", LONG_TERM.access_key),
        ("reader", env_setup.issuer.issued[0].access_key),
    ]


async def test_a_web_identity_is_sent_without_a_signature(env_setup: CredentialSetup, config: zs.S3Config) -> None:
    async with zs.Session(s3=replace(config, **sources.web_identity(env_setup))) as session:
        await read(session, session._config, "wire")
    assert env_setup.roles == [("reader", "a-web-identity")]


async def test_an_anonymous_session_uses_no_source_of_credentials(
    env_setup: CredentialSetup, config: zs.S3Config, server: VerifyingServer
) -> None:
    sources.process(env_setup)
    for transport in TRANSPORTS:
        async with zs.Session(s3=replace(config, anonymous=True, transport=transport)) as session:
            with pytest.raises(AccessDenied):
                await session.s3(BUCKET).get("a/zarr.json")
    assert env_setup.issues() == 0
    assert server.signers == ["", ""]


async def test_missing_credentials_are_an_error_with_advice_and_are_not_cached(
    env_setup: CredentialSetup, config: zs.S3Config
) -> None:
    async with zs.Session(s3=config) as session:
        for transport in TRANSPORTS:
            with pytest.raises(CredentialsNotFound, match="AWS_ACCESS_KEY_ID"):
                await read(session, config, transport)
        sources.environment(env_setup)
        np.testing.assert_array_equal(await read(session, config, "wire"), EXPECTED)


# Broken sources: each raises one of our errors, over either transport, and nothing is sent to S3


def broken_process(env_setup: CredentialSetup) -> None:
    env_setup.write("CONFIG_FILE", "[default]\ncredential_process = /bin/sh -c 'echo cannot >&2; exit 3'\n")


def process_of_garbage(env_setup: CredentialSetup) -> None:
    env_setup.write("CONFIG_FILE", "[default]\ncredential_process = /bin/echo secret-in-garbage\n")


def refusing_sts(env_setup: CredentialSetup) -> None:
    sources.role(env_setup)
    del env_setup.server.known[LONG_TERM.access_key]


def expired_sso(env_setup: CredentialSetup) -> None:
    sources.sso_by_profile(env_setup)
    cached = next((env_setup.home / "sso").iterdir())
    cached.write_text(cached.read_text().replace('"expiresAt": "2', '"expiresAt": "1'))


def logged_out_of_sso(env_setup: CredentialSetup) -> None:
    sources.sso_by_profile(env_setup)
    next((env_setup.home / "sso").iterdir()).unlink()


def agent_that_refuses(env_setup: CredentialSetup) -> None:
    sources.container(env_setup)
    env_setup.set(CONTAINER_AUTHORIZATION_TOKEN="another-token")


def unreadable_web_identity(env_setup: CredentialSetup) -> None:
    sources.web_identity(env_setup)
    (env_setup.home / "token").unlink()


BROKEN = {
    broken_process: (CredentialsNotFound, "cannot"),
    process_of_garbage: (CredentialsNotFound, "JSONDecodeError"),
    refusing_sts: (CredentialsNotFound, "AssumeRole answered InvalidClientTokenId"),
    expired_sso: (CredentialsExpired, "log in again"),
    logged_out_of_sso: (CredentialsExpired, "log in again"),
    agent_that_refuses: (CredentialsNotFound, "check the source"),
    unreadable_web_identity: (CredentialsNotFound, "No such file"),
}


@pytest.mark.parametrize("breakage", BROKEN, ids=lambda breakage: breakage.__name__)
async def test_a_broken_source_raises_one_of_our_errors(
    breakage: Any,
    env_setup: CredentialSetup,
    config: zs.S3Config,
    server: VerifyingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiobotocore.utils.AioContainerMetadataFetcher.SLEEP_TIME", 0)
    breakage(env_setup)
    kind, message = BROKEN[breakage]
    async with zs.Session(s3=config) as session:
        for transport in TRANSPORTS:
            with pytest.raises(kind, match=message) as caught:
                await read(session, config, transport)
            assert "secret-in-garbage" not in str(caught.value)
    assert server.seen == []


async def test_only_the_agent_hosts_that_botocore_allows_are_requested(
    env_setup: CredentialSetup, config: zs.S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[Any] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *where, **_: connected.append(where) or [])
    env_setup.set(CONTAINER_CREDENTIALS_FULL_URI="http://evil.example/keys", CONTAINER_AUTHORIZATION_TOKEN="t")
    async with zs.Session(s3=config) as session:
        with pytest.raises(CredentialsNotFound, match=r"evil\.example"):
            await read(session, config, "wire")
    assert connected == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_sends_a_signed_sts_request_to_another_host(
    status: int, env_setup: CredentialSetup, config: zs.S3Config
) -> None:
    elsewhere = env_setup.start(fakes.Fake(lambda _: (200, "")))
    there = fakes.Fake(lambda _: (status, ""), location=elsewhere.url)
    sources.role(env_setup)
    env_setup.start(there, "ENDPOINT_URL_STS")
    async with zs.Session(s3=config) as session:
        with pytest.raises(CredentialsNotFound):
            await read(session, config, "wire")
    assert elsewhere.calls == []
    assert len(there.calls) >= 1
