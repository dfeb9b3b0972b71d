"""Credentials and signing time: the SDK's chain of sources, static keys without it, or a function of the user.

After a rejection, the standard chain is searched again, in a thread. This helps with every source, also where botocore
sees no reason to refresh (files that another program renews, a wrong clock, a revoked session).

Both transports get their credentials here, so that errors of a source are mapped in one place.
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
    """An aiobotocore session with the standard configuration. Blocking: reads files."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    from .session import NoRetrySession

    session = AioSession(profile=config.profile)
    session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
    # The chain's requests to STS and SSO use the same region, and follow no redirects, which would disclose the token.
    of_profile = session.get_scoped_config().get("region")  # an empty AWS_DEFAULT_REGION would hide it from the SDK
    found = config.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or of_profile
    session.set_config_variable("region", found or "us-east-1")
    session.set_default_client_config(AioConfig(http_session_cls=NoRetrySession))
    return session


@lru_cache(maxsize=4)
def _data_loader(data_path: str | None) -> Any:
    """One loader for the process: of the 148 ms to create a client, botocore takes 118 to parse its data files."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


async def credentials_of(config: S3Config, session: Any) -> Any | None:
    """Fetch the credentials to sign with; None: requests are unsigned by option, or there is no source.

    Credentials that botocore would fetch at their first use are fetched here: this creates a client of STS or SSO,
    which would block the event loop.

    Raises:
        CredentialsNotFound, CredentialsExpired: The configured source provides no credentials.
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
    """The source of the credentials: an object with an async `get_frozen_credentials`; None for unsigned requests.

    Static keys are read without the SDK; its chain is searched in a thread.

    Raises:
        CredentialsNotFound, CredentialsExpired: The configured source provides no credentials, or there is no source.
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
    if source is None:  # not cached: the next request searches again, since a source may become available later
        missing = NoCredentialsError()
        raise source_error(missing) from missing
    return source


class Fixed:
    """Keys that do not change."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get_frozen_credentials(self) -> Keys:
        """The keys; the same method as that of aiobotocore's credentials objects."""
        return self._keys


class Provided:
    """Keys from a function of the user, which is called again before they expire.

    Args:
        provide: `S3Config.credentials`.
        now: Returns the time in seconds since the epoch.
    """

    __slots__ = ("_fetching", "_keys", "_now", "_provide", "_refresh_at")

    def __init__(self, provide: Callable[[], Awaitable[Credentials]], now: Callable[[], float] = time) -> None:
        self._provide = provide
        self._now = now
        self._fetching = Lock()
        self._keys: Keys | None = None
        self._refresh_at = inf

    async def get_frozen_credentials(self) -> Keys:
        """The current keys, or new ones if they expire soon."""
        keys = self._keys
        if keys is not None and self._now() < self._refresh_at:
            return keys
        async with self._fetching:
            if self._keys is None or self._now() >= self._refresh_at:
                await self.fetch()
        assert self._keys is not None  # noqa: S101  # `fetch` sets it or raises
        return self._keys

    async def fetch(self) -> None:
        """Call the function now.

        Raises:
            ConfigError: It did not return `Credentials`, or is not an async function.
            CredentialsExpired: It returned expired credentials.
            CredentialsNotFound: It raised an exception.
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
"""Seconds before their expiry at which keys are replaced; at most half of their lifetime."""
_FRESH = 5.0
"""Seconds after a renewal during which a rejection counts as one of the old keys, and causes no further renewal."""
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


class Identity:
    """The identity of one client: `before_sign` is its event handler; the wire signs with `credentials`.

    Args:
        config: The options, for finding the source again.
        source: The source of credentials; None for unsigned requests.
        clock: The endpoint's clock.
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
        """Frozen credentials to sign with now: `access_key`, `secret_key`, `token`. None: do not sign.

        Raises:
            CredentialsNotFound, CredentialsExpired: A refresh was due, and the source provided none.
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
        """Fetch new credentials, once for concurrent callers; False if there is no source.

        Raises:
            CredentialsExpired: The source has no new ones.
        """
        if self._source is None or self._config.access_key_id is not None:
            return False
        # Compared under the lock: a caller that waited for another one's renewal needs none of its own.
        known_renewals = self._renewals
        async with self._renewing:
            is_fresh = self._renewed_at is not None and self._monotonic() - self._renewed_at <= _FRESH
            if self._renewals == known_renewals and not is_fresh:
                before = await self._frozen()
                await self._replace()
                self._renewals += 1
                # If the source returned the same keys, the next rejection may search again at once.
                self._renewed_at = None if before == await self._frozen() else self._monotonic()
        return True

    async def _frozen(self) -> tuple[str, str | None] | None:
        """Access key and token, to compare sets of keys; None if there are none."""
        try:
            keys = await self._source.get_frozen_credentials() if self._source is not None else None
        except Exception:  # noqa: BLE001  # a failing source is the reason for the renewal
            return None
        return None if keys is None else (keys.access_key, keys.token)

    async def _replace(self) -> None:
        if isinstance(self._source, Provided):
            await self._source.fetch()
            return
        try:
            source = await run_blocking(find_credentials, self._config)
        except Exception as error:
            raise CredentialsExpired(
                f"the credentials expired, and their source gave no new ones ({type(error).__name__}); renew them"
            ) from error
        if source is None:
            raise CredentialsExpired("the credentials expired, and their source is no longer available; renew them")
        self._source = source

    async def before_sign(self, request: Any, request_signer: Any, **_: Any) -> None:
        """Handler of botocore's `before-sign.s3`."""
        if self._source is not None:
            signing = request.context.setdefault("signing", {})
            if signing.get("identity_cache") is None:  # S3 Express uses session credentials of its own
                await self.credentials()  # refreshes them, and maps errors to ours
                signing["request_credentials"] = self._source
        if self.clock.offset and not hasattr(request_signer, "zarr_s3_async_clock"):
            request_signer.zarr_s3_async_clock = self.clock
            _sign_by(request_signer, self.clock)


def find_credentials(config: S3Config) -> Any | None:
    """Search the standard chain and fetch its credentials. Blocking: runs in a thread."""

    async def find() -> Any | None:
        return await credentials_of(config, sdk_session(config))

    return run(find())


def _sign_by(request_signer: Any, clock: Clock) -> None:
    """Make the client sign with the time of `clock`. botocore reads the time itself, without an option for it."""
    make_auth = request_signer.get_auth_instance

    async def make_corrected(*args: Any, **kwargs: Any) -> Any:
        auth = await make_auth(*args, **kwargs)
        if hasattr(auth, "_modify_request_before_signing"):
            modify = auth._modify_request_before_signing  # noqa: SLF001  # its one step after the time is read

            def modify_corrected(request: Any) -> None:
                request.context["timestamp"] = strftime(_TIMESTAMP, gmtime(clock()))
                modify(request)

            auth._modify_request_before_signing = modify_corrected  # noqa: SLF001
        return auth

    request_signer.get_auth_instance = make_corrected
