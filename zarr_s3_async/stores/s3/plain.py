"""Read simple AWS configurations without the SDK.

Importing the SDK and creating a client take 0.4 s of CPU in a new process, and most programs need neither: they have
static keys, or none, and a region or an endpoint. The result equals that of the SDK: `tests/stores/s3/test_plain.py`
compares both for every combination of sources. If the environment or the profile contains any other setting, the result
is None, and the SDK is used.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ...config import S3Config, check_endpoint_url
from ...errors import ConfigError
from .sdk.endpoint import Endpoint, is_amazon

_HANDLED = frozenset(
    {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_ENDPOINT_URL",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
_CONCERN_OTHERS = (
    "AWS_ENDPOINT_URL_",  # of S3 it is handled
    "AWS_ROLE_",
    "AWS_WEB_IDENTITY_",
    "AWS_CONTAINER_",
    "AWS_EC2_METADATA_",
    "AWS_METADATA_",
    "AWS_LAMBDA_",
    "AWS_STS_",
    "AWS_EXECUTION_ENV",
    "AWS_PAGER",
    "AWS_DEFAULT_OUTPUT",
    "AWS_RETRY_MODE",
    "AWS_MAX_ATTEMPTS",
    "AWS_ACCOUNT_ID",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)
"""Prefixes of variables that do not affect the endpoint; those of credential sources are handled in `_keys`."""
_PROFILE_KEYS = frozenset({"region", "output", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
_CREDENTIAL_KEYS = frozenset(
    {
        "role_arn",
        "source_profile",
        "credential_source",
        "role_session_name",
        "external_id",
        "duration_seconds",
        "mfa_serial",
        "web_identity_token_file",
        "credential_process",
        "sso_session",
        "sso_account_id",
        "sso_role_name",
        "sso_region",
        "sso_start_url",
    }
)
_is_region = re.compile(r"(?:us|eu|ap|sa|ca|me|af|il|mx)-(?!gov-|iso|isob-)[a-z]+-[0-9]+").fullmatch
"""Of the partition `aws`, whose hosts end with amazonaws.com."""
_is_pseudo = re.compile(r"fips-.*|.*-fips|.*-global").fullmatch
"""Pseudo-regions that the SDK converts to another region."""
_is_bucket = re.compile(r"[a-z0-9](?:-?[a-z0-9])*").fullmatch
_is_host = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.IGNORECASE).fullmatch
_is_path = re.compile(r"[A-Za-z0-9/_-]*").fullmatch
_is_label = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch


class Keys(NamedTuple):
    """Keys to sign with, with the SDK's attribute names."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Keys(...)"


class Plain(NamedTuple):
    """The standard configuration for one set of options."""

    region: str
    endpoint_url: str | None
    """URL of a custom endpoint; None: Amazon's."""
    path_style: bool
    ca_bundle: str | None
    keys: Keys | None
    """Static keys; None if requests are unsigned, or the SDK's credential chain is needed."""

    def endpoint(self, bucket: str) -> Endpoint | None:
        """The endpoint of a bucket; None if the SDK's rules are needed."""
        if not _is_bucket(bucket) or not _is_label(self.region) or _is_pseudo(self.region):
            return None
        return self._at_amazon(bucket) if self.endpoint_url is None else self._elsewhere(self.endpoint_url, bucket)

    def root_url(self) -> str | None:
        """The URL of the server; None if the SDK's rules are needed."""
        if self.endpoint_url is None and _is_region(self.region):
            return f"https://s3.{self.region}.amazonaws.com"
        return self.endpoint_url

    def _at_amazon(self, bucket: str) -> Endpoint | None:
        if not _is_region(self.region):
            return None
        # For us-east-1 the SDK uses the global host.
        host = "s3.amazonaws.com" if self.region == "us-east-1" else f"s3.{self.region}.amazonaws.com"
        return Endpoint(
            scheme="https",
            host=host if self.path_style else f"{bucket}.{host}",
            port=443,
            path_prefix=f"/{bucket}" if self.path_style else "",
            region=self.region,
        )

    def _elsewhere(self, url: str, bucket: str) -> Endpoint | None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if not _is_host(host) or not _is_path(parts.path) or is_amazon(url):
            return None
        return Endpoint(
            scheme=parts.scheme,
            host=host,
            port=parts.port or {"http": 80, "https": 443}[parts.scheme],
            path_prefix=f"{parts.path.rstrip('/')}/{bucket}",
            region=self.region,
        )


def read_plain(config: S3Config, environ: Mapping[str, str] = os.environ) -> Plain | None:
    """Read the options, the environment and the shared files; None if the SDK is needed.

    Blocking: reads files.
    """
    if config.accelerate or config.dualstack or config.addressing_style not in ("auto", "path"):
        return None
    variables = [name for name in environ if name.startswith("AWS_")]
    # A variable that is not known here may change anything: the SDK decides.
    if any(name not in _HANDLED and not name.startswith(_CONCERN_OTHERS) for name in variables) or _has_proxy(environ):
        return None
    files = _files(config, environ)
    if files is None:
        return None
    # As in the SDK, the credentials file takes precedence where both have a key.
    profile = {**files.config, **files.credentials}
    if not profile.keys() <= _PROFILE_KEYS | _CREDENTIAL_KEYS or any(value[:1] == "\n" for value in profile.values()):
        return None
    endpoint_url = config.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
    if endpoint_url is not None and not _is_endpoint_url(endpoint_url):
        return None
    region = config.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or profile.get("region")
    return Plain(
        region=region or "us-east-1",
        endpoint_url=endpoint_url,
        path_style=endpoint_url is not None or config.addressing_style == "path",
        ca_bundle=config.ca_bundle or environ.get("AWS_CA_BUNDLE") or environ.get("REQUESTS_CA_BUNDLE") or None,
        keys=None if config.anonymous else _keys(config, environ, files),
    )


class _Files(NamedTuple):
    """One profile in the two shared files."""

    config: dict[str, str]
    credentials: dict[str, str]


def _has_proxy(environ: Mapping[str, str]) -> bool:
    if any(value and name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name, value in environ.items()):
        return True
    if sys.platform in ("darwin", "win32"):  # where the system has settings of its own
        from urllib.request import getproxies

        return bool(getproxies())
    return False


def _is_endpoint_url(url: str) -> bool:
    try:
        check_endpoint_url(url, "")
    except ConfigError:
        return False  # reported on the SDK's path
    return True


def _files(config: S3Config, environ: Mapping[str, str]) -> _Files | None:
    name = config.profile
    # In the SDK's order.
    for variable in ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"):
        name = environ.get(variable) if name is None else name
    of_config = _sections(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    of_credentials = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    if of_config is None or of_credentials is None:
        return None
    profiles = _profiles(of_config)
    if profiles is None:
        return None
    if name is None:
        return _Files(profiles.get("default", {}), of_credentials.get("default", {}))
    if name not in profiles and name not in of_credentials:
        return None  # the SDK reports the error
    return _Files(profiles.get(name, {}), of_credentials.get(name, {}))


def _profiles(sections: dict[str, dict[str, str]]) -> dict[str, dict[str, str]] | None:
    """Profiles by name: `[default]` and `[profile NAME]`; None for names in any other form."""
    found: dict[str, dict[str, str]] = {}
    for section, values in sections.items():
        words = section.split()
        if section != "default" and not section.startswith("profile"):
            continue
        # The SDK parses section names like a shell; these need its rules.
        if any(sign in section for sign in "\"'\\") or words[-1] in found:
            return None
        if section == "default" or len(words) == 2:  # `profile NAME`
            found[words[-1]] = values
    return found


def _sections(name: str) -> dict[str, dict[str, str]] | None:
    """Parse an INI file as the SDK does, without nested values; None if it cannot be read; empty if it is absent."""
    path = os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111  # in the SDK's order
    if not os.path.isfile(path):  # noqa: PTH113  # importing pathlib takes longer than this function
        return {}
    from configparser import Error, RawConfigParser  # takes 5 ms, only needed if there are files

    parser = RawConfigParser()
    try:
        parser.read([path])
    except (Error, UnicodeDecodeError, OSError):
        return None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _keys(config: S3Config, environ: Mapping[str, str], files: _Files) -> Keys | None:
    """Static keys from the first of the SDK's sources that has any; None if another source takes precedence."""
    if config.access_key_id is not None and config.secret_access_key is not None:
        return Keys(config.access_key_id, config.secret_access_key, config.session_token)
    if config.profile is None and environ.get("AWS_ACCESS_KEY_ID"):
        # Keys with an expiry are left to the SDK, which refreshes them.
        secret, expires = environ.get("AWS_SECRET_ACCESS_KEY"), environ.get("AWS_CREDENTIAL_EXPIRATION")
        token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
        return Keys(environ["AWS_ACCESS_KEY_ID"], secret, token) if secret and not expires else None
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in environ or "AWS_ROLE_ARN" in environ:
        return None
    # A role, SSO or a process may provide the keys: the SDK knows which one takes precedence.
    if not {**files.config, **files.credentials}.keys() <= _PROFILE_KEYS:
        return None
    for found in (files.credentials, files.config):
        if "aws_access_key_id" in found:
            access, secret = found["aws_access_key_id"], found.get("aws_secret_access_key")
            return Keys(access, secret, found.get("aws_session_token")) if access and secret else None
    return None
