"""Who signs, and at what time: the SDK's chain of sources, static keys without it, and a function of the user's.

The standard chain is asked again, in a thread: that helps whatever the source is, also where botocore sees no reason
to refresh (files that another program renews, a clock that is wrong, a session that was revoked).

Both transports get their credentials here, so that errors of a source are mapped once.
"""

from __future__ import annotations

import os
from asyncio import Lock, run
from collections.abc import Awaitable, Callable
from functools import lru_cache
from inspect import isawaitable
from math import inf
from time import gmtime, monotonic, strftime, time
from typing import Any

from ...._concurrency.blocking import run_blocking
from ....config import Credentials, S3Config
from ....errors import ConfigError, CredentialsExpired, CredentialsNotFound, StoreError, ZarrS3Error
from ..plain import Keys, read_plain
from ..recovery import Clock
from .errors import credentials_error, source_error


def sdk_session(config: S3Config) -> Any:
    """An aiobotocore session that reads what the standard configuration says. Blocking: reads files."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    from .session import NoRetrySession

    session = AioSession(profile=config.profile)
    session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
    # For STS and SSO too, which the chain asks: the same region, and no redirect followed with a token in a header.
    session.set_config_variable("region", _region(config, session))
    session.set_default_client_config(AioConfig(http_session_cls=NoRetrySession))
    return session


@lru_cache(maxsize=4)
def _data_loader(data_path: str | None) -> Any:
    """One for the process: of the 148 ms that a client takes, 118 are botocore parsing its data files."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


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


async def find_source(config: S3Config) -> Any | None:
    """Where the credentials come from: something with an async `get_frozen_credentials`, or None for unsigned requests.

    Static keys are read without the SDK; its chain is asked in a thread.

    Raises:
        CredentialsNotFound, CredentialsExpired: A source is configured and gives none, or there is no source.
    """
    if config.anonymous:
        return None
    if config.credentials is not None:
        return Provided(config.credentials)
    if config.access_key_id is not None and config.secret_access_key is not None:
        return Fixed(Keys(config.access_key_id, config.secret_access_key, config.session_token))
    plain = await run_blocking(read_plain, config)
    if plain is not None and plain.keys is not None:
        return Fixed(plain.keys)
    return await run_blocking(_find_source, config)


def _find_source(config: S3Config) -> Any:
    from botocore.exceptions import BotoCoreError, NoCredentialsError

    try:
        source = find_credentials(config)
    except ZarrS3Error:
        raise
    except (BotoCoreError, ValueError) as error:
        wrong = ConfigError(f"no credentials for {config!r}: {error}")
        raise credentials_error(error) or wrong from error
    except OSError as error:
        raise StoreError(f"no credentials for {config!r}: {error}") from error
    if source is None:  # not kept: the next request asks again, as a source may come up late
        missing = NoCredentialsError()
        raise source_error(missing) from missing
    return source


class Fixed:
    """Keys that do not change."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get_frozen_credentials(self) -> Keys:
        """As aiobotocore's credentials objects have it."""
        return self._keys


class Provided:
    """Keys that a function of the user's gives, asked again before they end.

    Args:
        provide: `S3Config.credentials`.
        now: Seconds since the epoch.
    """

    __slots__ = ("_asking", "_keys", "_now", "_provide", "_refresh_at")

    def __init__(self, provide: Callable[[], Awaitable[Credentials]], now: Callable[[], float] = time) -> None:
        self._provide = provide
        self._now = now
        self._asking = Lock()
        self._keys: Keys | None = None
        self._refresh_at = inf

    async def get_frozen_credentials(self) -> Keys:
        """Those at hand, or new ones where they end soon."""
        keys = self._keys
        if keys is not None and self._now() < self._refresh_at:
            return keys
        async with self._asking:
            if self._keys is None or self._now() >= self._refresh_at:
                await self.ask()
        assert self._keys is not None  # noqa: S101  # `ask` sets it or raises
        return self._keys

    async def ask(self) -> None:
        """Call the function now.

        Raises:
            ConfigError: It returned no `Credentials`, or cannot be awaited.
            CredentialsExpired: What it returned has ended.
            CredentialsNotFound: It raised.
        """
        try:
            found = self._provide()
            if not isawaitable(found):
                raise ConfigError("S3Config.credentials must be an async function: it is awaited on the event loop")
            given = await found
        except StoreError:
            raise
        except ConfigError:
            raise
        except Exception as error:
            raise CredentialsNotFound(
                f"no credentials: S3Config.credentials raised {type(error).__name__}; check that function"
            ) from error
        if not isinstance(given, Credentials):
            raise ConfigError(f"S3Config.credentials must return zs.Credentials, not {type(given).__name__}")
        self._refresh_at = self._refresh_time(given)
        self._keys = Keys(given.access_key_id, given.secret_access_key, given.session_token)

    def _refresh_time(self, given: Credentials) -> float:
        if given.expires_at is None:
            return inf
        now, end = self._now(), given.expires_at.timestamp()
        if end <= now:
            raise CredentialsExpired("S3Config.credentials returned keys that have expired; it must return new ones")
        return end - min(_REFRESH_BEFORE, (end - now) / 2)


_REFRESH_BEFORE = 600.0
"""Seconds before their end at which keys are replaced; of short-lived ones, half of their time."""
_FRESH = 5.0
"""Seconds after new keys came in which a refusal is taken to be of the old ones, and causes no further renewal."""
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


class Identity:
    """Signs for one client: `before_sign` is its event handler; `credentials` serves who signs without it.

    Args:
        config: Says where credentials come from.
        source: An aiobotocore credentials object, or None for unsigned requests.
        clock: The endpoint's time.
    """

    __slots__ = ("_config", "_monotonic", "_renewals", "_renewed_at", "_renewing", "_source", "clock")

    def __init__(
        self, config: S3Config, source: Any | None, clock: Clock, monotonic: Callable[[], float] = monotonic
    ) -> None:
        self._config = config
        self._source = source
        self.clock: Clock = clock
        self._monotonic = monotonic
        self._renewals = 0
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
        asked_at = self._renewals
        async with self._renewing:
            if self._renewals == asked_at and not self._is_fresh():
                before = await self._frozen()
                await self._replace()
                self._renewals += 1
                # The same keys again: who replaces them in the meantime is not kept waiting.
                self._renewed_at = None if before == await self._frozen() else self._monotonic()
        return True

    def _is_fresh(self) -> bool:
        return self._renewed_at is not None and self._monotonic() - self._renewed_at <= _FRESH

    async def _frozen(self) -> tuple[str, str | None] | None:
        """What tells one set of keys from another; None where they cannot be had."""
        try:
            keys = await self._source.get_frozen_credentials() if self._source is not None else None
        except Exception:  # noqa: BLE001  # a source that fails is why new ones are fetched
            return None
        return None if keys is None else (keys.access_key, keys.token)

    async def _replace(self) -> None:
        if isinstance(self._source, Provided):
            await self._source.ask()
            return
        try:
            source = await run_blocking(find_credentials, self._config)
        except Exception as error:
            raise CredentialsExpired(
                f"the credentials expired, and their source gave no new ones ({type(error).__name__}); renew them"
            ) from error
        if source is None:
            raise CredentialsExpired("the credentials expired, and their source has gone; renew them")
        self._source = source

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
