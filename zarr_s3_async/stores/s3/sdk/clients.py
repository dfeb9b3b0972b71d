"""One aiobotocore client per (endpoint, region, credentials, profile, …) of a session, created once, off the loop.

Creating the first client imports aiobotocore and parses megabytes of JSON: 0.3 seconds that would block the loop. So it
is done in a thread with its own event loop; aiobotocore binds its connections to a loop at the first request, which is
sent on ours. Most sessions need no client: credentials and endpoints are known without one, often without the SDK
(`plain.py`).
"""

from __future__ import annotations

import os
from asyncio import Lock, run
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import md5
from typing import Any, NamedTuple

from ...._concurrency.blocking import run_blocking
from ...._concurrency.interruptible import Interruptible
from ....config import S3Config, check_endpoint_url
from ....errors import ConfigError, StoreError, ZarrS3Error, session_closed
from ..plain import read_plain
from ..recovery import Clock
from .credentials import Identity, find_source, sdk_session
from .endpoint import Endpoint, is_amazon, resolve_endpoint
from .errors import credentials_error

MAX_IDLE_CLIENTS = 8
"""Maximum number of clients that are kept while no request uses them."""
_KEEPALIVE_SECONDS = 15.0
"""Shorter than the idle timeout of S3 and S3-compatible servers, so that stale connections are rare."""


class Client(NamedTuple):
    """A client of the SDK, and the identity that signs its requests."""

    sdk: Any
    """An aiobotocore S3 client."""
    identity: Identity
    ca_bundle: str | None = None
    """Path of the authorities to trust instead of the system's, from the option, AWS_CA_BUNDLE or the profile."""


class Way(NamedTuple):
    """What the wire needs to reach one bucket."""

    endpoint: Endpoint
    identity: Identity
    ca_bundle: str | None


class ClientPool:
    """The clients and identities of one session. A client is created when the SDK is first needed."""

    __slots__ = ("_clients", "_clocks", "_connections", "_identities", "_making", "_uses", "running")

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._clients: dict[S3Config, Client] = {}
        self._identities: dict[S3Config, Identity] = {}
        self._clocks: dict[str | None, Clock] = {}
        self._making = Lock()
        self._uses: Counter[S3Config] = Counter()
        """Attempts in flight, by client."""
        self.running: Interruptible = Interruptible()
        """Attempts and the waits between them; they are interrupted when the pool is closed."""

    def __repr__(self) -> str:
        return f"<ClientPool of {len(self._clients)} clients>"

    async def client(self, config: S3Config) -> Any:
        """The SDK's client for these options, for a call that sends no request; see `lease`."""
        return (await self.pooled(config)).sdk

    @asynccontextmanager
    async def lease(self, config: S3Config) -> AsyncIterator[Any]:
        """The SDK's client for these options, for sending requests: only `aclose` closes it meanwhile.

        A client takes 10 MiB. Of more than a few, unused ones are closed, the least recently used first.

        Raises:
            SessionClosed: The pool was closed, before or meanwhile.
        """
        key = _client_key(config)
        # Counted before the client is made, so that it is not evicted while this call waits for it.
        self._uses[key] += 1
        try:
            client = await self.pooled(config)
            self._clients[key] = self._clients.pop(key, client)  # the last one is the most recently used
            async with self.running.interruptible():
                yield client.sdk
        finally:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]
            await self._evict()

    async def _evict(self) -> None:
        idle = [key for key in self._clients if key not in self._uses]
        for key in idle[: max(0, len(self._clients) - MAX_IDLE_CLIENTS)]:
            await self._clients.pop(key).sdk.__aexit__(None, None, None)

    async def pooled(self, config: S3Config) -> Client:
        """The client and its identity, created by the first caller, or by the next if that one is cancelled.

        Raises:
            SessionClosed: After `aclose`.
        """
        key = _client_key(config)
        client = self._clients.get(key)
        if client is None:
            async with self._making:
                self._refuse_closed()
                client = self._clients.get(key)
                if client is None:
                    identity = await self._identity(config)
                    keys = await identity.credentials()
                    client = await run_blocking(_create, config, self._connections, identity, keys)
                    self._clients[key] = client
                    await self._evict()
        return client

    async def identity(self, config: S3Config) -> Identity:
        """The identity for these options; creates no client."""
        async with self._making:
            self._refuse_closed()
            return await self._identity(config)

    async def way(self, config: S3Config, bucket: str) -> Way:
        """The endpoint of a bucket and the identity; without the SDK if the configuration is simple.

        Raises:
            BotoCoreError: The SDK's rules reject the bucket.
        """
        plain = await run_blocking(read_plain, config)
        endpoint = None if plain is None else plain.endpoint(bucket)
        if plain is not None and endpoint is not None:
            return Way(endpoint, await self.identity(config), plain.ca_bundle)
        client = await self.pooled(config)
        return Way(await resolve_endpoint(client.sdk, bucket), client.identity, client.ca_bundle)

    async def endpoint_url(self, config: S3Config) -> str:
        """The URL of the server that requests are sent to, without a bucket."""
        plain = await run_blocking(read_plain, config)
        url = None if plain is None else plain.root_url()
        return url or str((await self.client(config)).meta.endpoint_url)

    async def renew(self, config: S3Config) -> bool:
        """Fetch new credentials for these options, for all regions; see `Identity.renew`."""
        # The same keys serve all regions, so they expire in all of them.
        wanted = _client_key(replace(config, region=None))
        of_all_regions = [identity for key, identity in self._identities.items() if replace(key, region=None) == wanted]
        return all([await identity.renew() for identity in of_all_regions]) and bool(of_all_regions)

    def _refuse_closed(self) -> None:
        if self.running.closed:
            raise session_closed()

    async def _identity(self, config: S3Config) -> Identity:
        """The identity for these options; called while holding the lock."""
        key = _client_key(config)
        found = self._identities.get(key)
        if found is None:
            found = self._identities[key] = Identity(config, await find_source(config), self.clock(config))
        return found

    def clock(self, config: S3Config) -> Clock:
        """The clock of the endpoint of these options."""
        return self._clocks.setdefault(config.endpoint_url, Clock())

    async def aclose(self) -> None:
        """Interrupt running requests, and close every client and its connections. Idempotent."""
        await self.running.aclose()
        async with self._making:  # waits for a client that is being created, to close it too
            while self._clients:
                _, client = self._clients.popitem()
                await client.sdk.__aexit__(None, None, None)


def _client_key(config: S3Config) -> S3Config:
    # Options that only affect single requests do not need a client of their own.
    return replace(
        config,
        requester_pays=False,
        sse=None,
        sse_kms_key_id=None,
        storage_class=None,
        attempt_timeout=1.0,
        transport="auto",
        checksums="auto",
        conditional_writes="auto",
        missing_on_403=False,
        accept_bare_404=False,
    )


def _create(config: S3Config, connections: int, identity: Identity, keys: Any | None) -> Client:
    """Create and enter a client. Blocking: runs in a thread."""
    from botocore.exceptions import BotoCoreError

    try:
        return run(_created(config, connections, identity, keys))
    except ZarrS3Error:
        raise
    except (BotoCoreError, ValueError) as error:
        wrong = ConfigError(f"the S3 options are not valid: {error}")  # it names the value
        raise credentials_error(error) or wrong from error
    except OSError as error:
        raise StoreError(f"no S3 client for {config!r}: {error}") from error


async def _created(config: S3Config, connections: int, identity: Identity, keys: Any | None) -> Client:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    from .session import S3Session

    session = sdk_session(config)
    if keys is not None:  # otherwise the SDK would search its chain again; `identity` signs with the current keys
        session.set_credentials(keys.access_key, keys.secret_key, keys.token)
    s3: dict[str, Any] = {}  # only options that were set: the profile's `s3` section may set others
    if config.addressing_style != "auto":
        s3["addressing_style"] = config.addressing_style
    if config.accelerate:
        s3["use_accelerate_endpoint"] = True
    if config.dualstack:
        s3["use_dualstack_endpoint"] = True
    options: dict[str, Any] = {
        "max_pool_connections": connections,
        "connect_timeout": config.connect_timeout,
        "read_timeout": None,  # the transport times the whole attempt
        "retries": {"total_max_attempts": 1},  # RetryingTransport is the one retry layer
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": s3,
        "connector_args": {"keepalive_timeout": _KEEPALIVE_SECONDS},
        "http_session_cls": S3Session,
    }
    if config.anonymous:
        options["signature_version"] = UNSIGNED
    region = session.get_config_variable("region")
    creator = session.create_client(
        "s3", region_name=region, endpoint_url=config.endpoint_url, verify=config.ca_bundle, config=AioConfig(**options)
    )
    client = await creator.__aenter__()
    try:
        check_endpoint_url(client.meta.endpoint_url, "the endpoint URL of the environment or the profile")
    except ConfigError:
        await client.__aexit__(None, None, None)
        raise
    client.meta.events.register("before-sign.s3", identity.before_sign)
    client.meta.events.register("before-parameter-build.s3", _disable_redirects)
    client.meta.events.register("before-sign.s3.DeleteObjects", _replace_checksum_by_md5)
    # The same order as in botocore, which does not expose its result.
    ca_bundle = config.ca_bundle or session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return Client(client, identity, ca_bundle or None)


def _disable_redirects(context: dict[str, Any], **_: Any) -> None:
    # botocore would follow a bucket to another region by itself, with requests that are not counted or limited.
    context.setdefault("s3_redirect", {})["redirected"] = True


def _replace_checksum_by_md5(request: Any, **_: Any) -> None:
    # botocore sends one of the newer checksums with a bulk delete, whatever the options. S3-compatible servers need the
    # old one, and some (Backblaze) reject the newer ones.
    if not is_amazon(request.url):
        for name in [name for name in request.headers if name.lower().startswith(_CHECKSUM_HEADERS)]:
            del request.headers[name]
        digest = md5(request.data, usedforsecurity=False).digest()
        request.headers["Content-MD5"] = b64encode(digest).decode()


_CHECKSUM_HEADERS = ("x-amz-checksum-", "x-amz-sdk-checksum-")
