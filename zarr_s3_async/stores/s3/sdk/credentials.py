"""The room of AWS's standard configuration: the SDK's session for a set of options, and what it finds in its chain.

The room of who signs, and at what time: the credentials of one client, renewed when S3 says that they expired.

The standard chain is asked anew, in a thread: that helps whatever the source is, also where botocore sees no reason
to refresh (files that another program renews, a clock that is wrong, a session that was revoked).

Both transports get their credentials here, so that what a source does wrong is told in our words once.
"""

from __future__ import annotations

import os
from asyncio import Lock, run
from collections.abc import Callable
from time import gmtime, monotonic, strftime
from typing import Any

from ...._concurrency.blocking import run_blocking
from ....config import S3Config
from ....errors import CredentialsExpired, StoreError
from ..recovery import Clock
from .errors import source_error


def sdk_session(config: S3Config) -> Any:
    """An aiobotocore session that reads what the standard configuration says. Blocking: reads files."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    from .session import NoRetrySession

    session = AioSession(profile=config.profile)
    # For STS and SSO too, which the chain asks: the same region, and no redirect followed with a token in a header.
    session.set_config_variable("region", _region(config, session))
    session.set_default_client_config(AioConfig(http_session_cls=NoRetrySession))
    return session


def _region(config: S3Config, session: Any) -> str:
    of_profile = session.get_scoped_config().get("region")  # which an empty AWS_DEFAULT_REGION would hide
    found = config.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or of_profile
    return found or "us-east-1"


async def credentials_of(config: S3Config, session: Any) -> Any | None:
    """The credentials to sign with, fetched; None: unsigned requests were asked for, or there is no source.

    Those that botocore would fetch when they are first needed are fetched here: that makes a client of STS or SSO,
    which would stall the loop that needs them.

    Raises:
        CredentialsNotFound, CredentialsExpired: A source is configured and gives none.
    """
    from aiobotocore.credentials import AioCredentials, AioDeferredRefreshableCredentials

    if config.anonymous:
        return None
    if config.access_key_id is not None:
        return AioCredentials(config.access_key_id, config.secret_access_key, config.session_token)
    try:
        found = await session.get_credentials()
        if isinstance(found, AioDeferredRefreshableCredentials):
            await found.get_frozen_credentials()
    except Exception as error:
        raise source_error(error) from error
    return found


_FRESH = 5.0
"""Seconds after a renewal in which nobody renews again: whoever asks was refused for the old ones."""
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


class Identity:
    """Signs for one client: `before_sign` is its event handler; `credentials` serves who signs without it.

    Args:
        config: Says where credentials come from.
        source: An aiobotocore credentials object, or None for unsigned requests.
        clock: The endpoint's time.
    """

    __slots__ = ("_config", "_monotonic", "_renewed_at", "_renewing", "_source", "clock")

    def __init__(
        self, config: S3Config, source: Any | None, clock: Clock, monotonic: Callable[[], float] = monotonic
    ) -> None:
        self._config = config
        self._source = source
        self.clock = clock
        self._monotonic = monotonic
        self._renewed_at: float | None = None
        self._renewing = Lock()

    def __repr__(self) -> str:
        return f"<Identity {'anonymous' if self._source is None else 'with credentials'}, {self.clock!r}>"

    async def credentials(self) -> Any | None:
        """Frozen ones to sign with now: `access_key`, `secret_key`, `token`. None: do not sign.

        Raises:
            CredentialsNotFound, CredentialsExpired: They had to be refreshed, and their source gave none.
        """
        if self._source is None:
            return None
        try:
            return await self._source.get_frozen_credentials()
        except StoreError:
            raise
        except Exception as error:
            raise source_error(error) from error

    async def renew(self) -> bool:
        """Get new ones, once for all who ask at the same time; False where there is no source to ask.

        Raises:
            CredentialsExpired: The source has none either.
        """
        if self._source is None or self._config.access_key_id is not None:
            return False
        async with self._renewing:
            if self._renewed_at is None or self._monotonic() - self._renewed_at > _FRESH:
                self._source = await self._found()
                self._renewed_at = self._monotonic()
        return True

    async def _found(self) -> Any:
        try:
            source = await run_blocking(find_credentials, self._config)
        except Exception as error:
            raise CredentialsExpired(
                f"the credentials expired, and their source gave no new ones ({type(error).__name__}); renew them"
            ) from error
        if source is None:
            raise CredentialsExpired("the credentials expired, and their source has gone; renew them")
        return source

    async def before_sign(self, request: Any, request_signer: Any, **_: Any) -> None:
        """Handler of botocore's `before-sign.s3`."""
        if self._source is not None:
            signing = request.context.setdefault("signing", {})
            if signing.get("identity_cache") is None:  # S3 Express has credentials of its own
                await self.credentials()  # refreshed, or refused in our words
                signing["request_credentials"] = self._source
        if self.clock.offset and not hasattr(request_signer, "zarr_s3_async_clock"):
            request_signer.zarr_s3_async_clock = self.clock
            _sign_by(request_signer, self.clock)


def find_credentials(config: S3Config) -> Any | None:
    """What the standard chain has now, fetched. Blocking: runs in a thread."""

    async def find() -> Any | None:
        return await credentials_of(config, sdk_session(config))

    return run(find())


def _sign_by(request_signer: Any, clock: Clock) -> None:
    """Let the client sign by `clock`. botocore reads the time itself and has no switch for it."""
    make_auth = request_signer.get_auth_instance

    async def make_corrected(*args: Any, **kwargs: Any) -> Any:
        auth = await make_auth(*args, **kwargs)
        if hasattr(auth, "_modify_request_before_signing"):
            modify = auth._modify_request_before_signing  # noqa: SLF001  # its one step after the time is read

            def modify_corrected(request: Any) -> None:
                request.context["timestamp"] = _timestamp(clock())
                modify(request)

            auth._modify_request_before_signing = modify_corrected  # noqa: SLF001
        return auth

    request_signer.get_auth_instance = make_corrected


def _timestamp(seconds: float) -> str:
    return strftime(_TIMESTAMP, gmtime(seconds))
