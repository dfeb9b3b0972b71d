"""One aiobotocore client per (endpoint, region, credentials, profile, …) of a session, made once, off the loop.

Creating a client imports botocore, parses megabytes of JSON and may ask a credential source: 0.3 to 2.4 seconds
that would stall the loop. So it happens in a thread, in a loop of that thread's own; aiobotocore binds its
connections to a loop at the first request, which is made on ours.
"""

from __future__ import annotations

import os
from asyncio import Lock, run
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...config import S3Config
from ...errors import ConfigError, CredentialsNotFound, StoreError
from ..threads import run_blocking

_KEEPALIVE_SECONDS = 15.0
"""Below the idle time after which S3 and its imitators hang up, so that a stale connection is rare."""


class ClientPool:
    """The clients of one session."""

    __slots__ = ("_clients", "_connections", "_making")

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._clients: dict[S3Config, Any] = {}
        self._making = Lock()

    def __repr__(self) -> str:
        return f"<ClientPool of {len(self._clients)} clients>"

    async def client(self, config: S3Config) -> Any:
        """The client for these options; made by the first who asks, and by the next if that one is cancelled."""
        key = _client_key(config)
        client = self._clients.get(key)
        if client is None:
            async with self._making:
                client = self._clients.get(key)
                if client is None:
                    client = self._clients[key] = await run_blocking(_create, config, self._connections)
        return client

    async def aclose(self) -> None:
        """Close every client and its connections. Again is fine."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.__aexit__(None, None, None)


def _client_key(config: S3Config) -> S3Config:
    # What rides on single requests does not ask for a client of its own.
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


def _create(config: S3Config, connections: int) -> Any:
    """A client, entered. Blocking: runs in a thread."""
    from aiobotocore.session import AioSession
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    async def enter() -> Any:
        session = AioSession(profile=config.profile)
        region = config.region or resolve_region(session.get_config_variable("region"), os.environ)
        creator = session.create_client("s3", region_name=region, **_client_options(config, connections))
        return await creator.__aenter__()

    try:
        return run(enter())
    except ProfileNotFound as error:
        raise CredentialsNotFound(f"{error}; check the profile name and AWS_CONFIG_FILE") from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"no S3 client for {config!r}: {error}") from error
    except OSError as error:
        raise StoreError(f"no S3 client for {config!r}: {error}") from error


def resolve_region(configured: str | None, environment: Mapping[str, str]) -> str:
    """AWS_REGION, then what botocore found (AWS_DEFAULT_REGION, then the profile), then us-east-1."""
    return environment.get("AWS_REGION") or configured or "us-east-1"


def _client_options(config: S3Config, connections: int) -> dict[str, Any]:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    from .one_shot import OneShotSession

    s3: dict[str, Any] = {"addressing_style": config.addressing_style}
    if config.accelerate:
        s3["use_accelerate_endpoint"] = True
    if config.dualstack:
        s3["use_dualstack_endpoint"] = True
    options: dict[str, Any] = {
        "max_pool_connections": connections,
        "connect_timeout": config.connect_timeout,
        "read_timeout": None,  # Steady times the whole attempt
        "retries": {"total_max_attempts": 1},  # Steady is the one retry layer
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": s3,
        "connector_args": {"keepalive_timeout": _KEEPALIVE_SECONDS},
        "http_session_cls": OneShotSession,
    }
    if config.anonymous:
        options["signature_version"] = UNSIGNED
    return {
        "endpoint_url": config.endpoint_url,
        "aws_access_key_id": config.access_key_id,
        "aws_secret_access_key": config.secret_access_key,
        "aws_session_token": config.session_token,
        "verify": config.ca_bundle,
        "config": AioConfig(**options),
    }
