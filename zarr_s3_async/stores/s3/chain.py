"""The room of AWS's standard configuration: the SDK's session for a set of options, and what it finds in its chain."""

from __future__ import annotations

import os
from typing import Any

from ...config import S3Config
from .sdk_errors import source_error


def sdk_session(config: S3Config) -> Any:
    """An aiobotocore session that reads what the standard configuration says. Blocking: reads files."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    from .one_shot import OneShotSession

    session = AioSession(profile=config.profile)
    # For STS and SSO too, which the chain asks: the same region, and no redirect followed with a token in a header.
    session.set_config_variable("region", _region(config, session))
    session.set_default_client_config(AioConfig(http_session_cls=OneShotSession))
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
