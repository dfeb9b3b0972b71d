"""Describe the source of the credentials, without secrets."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ....config import S3Config
from .credentials import Fixed, find_source

_MASKED = 4
_LONG = 16

_METHODS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS configuration file",
    "custom-process": "credential_process of the profile",
    "assume-role": "a role that the profile assumes",
    "assume-role-with-web-identity": "a role, by web identity",
    "sso": "single sign-on",
    "container-role": "the container's role",
    "iam-role": "the machine's role",
}


class Credentials(NamedTuple):
    """Description of the credentials that sign requests."""

    source: str
    key: str
    """The access key id, masked; empty for unsigned requests."""


async def describe_credentials(config: S3Config) -> Credentials:
    """Find the credentials of these options, and describe their source.

    Raises:
        CredentialsNotFound, CredentialsExpired: The configured source provides no credentials, or there is no source.
    """
    if config.anonymous:
        return Credentials("none: requests are unsigned", "")
    source = await find_source(config)
    keys: Any = None if source is None else await source.get_frozen_credentials()
    return Credentials(_origin(config, source), masked(keys.access_key if keys else ""))


def _origin(config: S3Config, source: Any) -> str:
    if config.credentials is not None:
        return "the function given as credentials="
    if config.access_key_id is not None:
        return "the options access_key_id= and secret_access_key="
    if isinstance(source, Fixed):
        if config.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            return _METHODS["env"]
        profile = config.profile or os.environ.get("AWS_PROFILE") or "default"
        return f"the shared AWS files, profile {profile}"
    method = str(getattr(source, "method", "unknown"))
    return _METHODS.get(method, method)


def masked(key: str) -> str:
    """A masked key, such as `AKIA…WXYZ`, that can be told from others. Short ones are hidden completely."""
    return f"{key[:_MASKED]}…{key[-_MASKED:]}" if len(key) >= _LONG else "…" if key else ""
