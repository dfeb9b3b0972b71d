"""Every credentials source of the standard chain, each set up with a small fake of its service."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from . import fakes
from .verifying import Issuer, Keys, VerifyingServer

LONG_TERM = Keys("AKIALONGTERM", "secret/long+term")
OTHER = Keys("AKIAOTHER", "secret/other")
START_URL = "https://example.awsapps.com/start"


@dataclass
class CredentialSetup:
    """The environment that credentials come from: files below `home`, variables, AWS services."""

    home: Path
    patch: pytest.MonkeyPatch
    server: VerifyingServer
    issuer: Issuer
    stack: ExitStack
    roles: list[tuple[str, str]] = field(default_factory=list)
    """(role, access key that requested it) of every request to STS."""
    issues: Callable[[], int] = lambda: 0
    """Number of requests for keys to the source."""

    def __post_init__(self) -> None:
        self.issues = lambda: len(self.issuer.issued)

    def set(self, **variables: str) -> None:
        """Set environment variables, named without `AWS_`."""
        for name, value in variables.items():
            self.patch.setenv(f"AWS_{name}", value)

    def write(self, variable: str, text: str) -> None:
        """Write a shared file, and set this variable (without `AWS_`) to its path."""
        path = self.home / variable.lower()
        path.write_text(text)
        self.set(**{variable: str(path)})

    def start(self, fake: fakes.Fake, *variables: str) -> fakes.Fake:
        """Start a service, and set the variables (without `AWS_`) to its URL."""
        self.stack.enter_context(fake)
        self.set(**dict.fromkeys(variables, fake.url))
        return fake


Options = dict[str, Any]
Source = Callable[[CredentialSetup], Options]


def arguments(env_setup: CredentialSetup) -> Options:
    keys = env_setup.issuer.issue()
    env_setup.set(ACCESS_KEY_ID=OTHER.access_key, SECRET_ACCESS_KEY=OTHER.secret_key)
    return {"access_key_id": keys.access_key, "secret_access_key": keys.secret_key, "session_token": keys.token}


def environment(env_setup: CredentialSetup) -> Options:
    keys = env_setup.issuer.issue()
    env_setup.set(ACCESS_KEY_ID=keys.access_key, SECRET_ACCESS_KEY=keys.secret_key, SESSION_TOKEN=keys.token or "")
    return {}


def credentials_file(env_setup: CredentialSetup) -> Options:
    env_setup.write("SHARED_CREDENTIALS_FILE", f"[default]\n{_key_lines(LONG_TERM)}[other]\n{_key_lines(OTHER)}")
    return {}


def config_file(env_setup: CredentialSetup) -> Options:
    env_setup.write("CONFIG_FILE", f"[default]\n{_key_lines(LONG_TERM)}")
    return {}


def profile_by_argument(env_setup: CredentialSetup) -> Options:
    env_setup.write("SHARED_CREDENTIALS_FILE", f"[default]\n{_key_lines(OTHER)}[reader]\n{_key_lines(LONG_TERM)}")
    env_setup.set(
        ACCESS_KEY_ID=OTHER.access_key, SECRET_ACCESS_KEY=OTHER.secret_key
    )  # a named profile takes precedence
    return {"profile": "reader"}


def profile_by_variable(env_setup: CredentialSetup) -> Options:
    env_setup.write("CONFIG_FILE", f"[default]\n{_key_lines(OTHER)}[profile reader]\n{_key_lines(LONG_TERM)}")
    env_setup.set(PROFILE="reader")
    return {}


def chained_roles(env_setup: CredentialSetup) -> Options:
    env_setup.start(fakes.sts(env_setup.issuer, env_setup.server, env_setup.roles), "ENDPOINT_URL_STS")
    env_setup.write(
        "CONFIG_FILE",
        f"[profile base]\n{_key_lines(LONG_TERM)}"
        f"[profile intermediate]\nrole_arn = {fakes.ROLE}intermediate\nsource_profile = base\n"
        f"[profile reader]\nrole_arn = {fakes.ROLE}reader\nsource_profile = intermediate\nrole_session_name = test\n",
    )
    return {"profile": "reader"}


def role(env_setup: CredentialSetup) -> Options:
    env_setup.start(fakes.sts(env_setup.issuer, env_setup.server, env_setup.roles), "ENDPOINT_URL_STS")
    env_setup.write(
        "CONFIG_FILE",
        f"[profile base]\n{_key_lines(LONG_TERM)}[default]\nrole_arn = {fakes.ROLE}reader\nsource_profile = base\n",
    )
    return {}


def process(env_setup: CredentialSetup) -> Options:
    for number in range(8):
        keys = env_setup.issuer.issue()
        message = {
            "Version": 1,
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "SessionToken": keys.token,
            "Expiration": keys.expiration,
        }
        (env_setup.home / f"{number}.json").write_text(json.dumps(message))
    count = env_setup.home / "count"
    count.touch()
    script = env_setup.home / "credentials.sh"
    script.write_text(f'cd "{env_setup.home}" && n=$(($(wc -c < count))) && printf x >> count && cat $n.json\n')
    env_setup.write("CONFIG_FILE", f'[default]\ncredential_process = /bin/sh "{script}"\n')
    env_setup.issues = lambda: count.stat().st_size
    return {}


def sso_by_profile(env_setup: CredentialSetup) -> Options:
    env_setup.start(fakes.sso(env_setup.issuer, fakes.SSO_TOKEN), "ENDPOINT_URL_SSO")
    _cached_sso_token(env_setup, START_URL, accessToken=fakes.SSO_TOKEN, expiresAt=_in(8))
    env_setup.write("CONFIG_FILE", f"[default]\n{_sso_role()}sso_start_url = {START_URL}\nsso_region = us-east-1\n")
    return {}


def sso_session(env_setup: CredentialSetup) -> Options:
    """The SSO token has expired; the refresh token gives a new one."""
    env_setup.start(fakes.sso(env_setup.issuer, fakes.NEW_SSO_TOKEN), "ENDPOINT_URL_SSO")
    env_setup.start(fakes.oidc(), "ENDPOINT_URL_SSO_OIDC")
    _cached_sso_token(
        env_setup,
        "company",
        accessToken=fakes.SSO_TOKEN,
        expiresAt=_in(-1),
        refreshToken=fakes.REFRESH_TOKEN,
        clientId="client",
        clientSecret="client-secret",
        registrationExpiresAt=_in(1000),
    )
    session = f"[sso-session company]\nsso_start_url = {START_URL}\nsso_region = us-east-1\n"
    env_setup.write("CONFIG_FILE", f"[default]\n{_sso_role()}sso_session = company\n{session}")
    return {}


def web_identity(env_setup: CredentialSetup) -> Options:
    env_setup.start(fakes.sts(env_setup.issuer, env_setup.server, env_setup.roles), "ENDPOINT_URL_STS")
    token = env_setup.home / "token"
    token.write_text("a-web-identity")
    env_setup.set(WEB_IDENTITY_TOKEN_FILE=str(token), ROLE_ARN=f"{fakes.ROLE}reader", ROLE_SESSION_NAME="test")
    return {}


def container(env_setup: CredentialSetup) -> Options:
    env_setup.start(fakes.container(env_setup.issuer), "CONTAINER_CREDENTIALS_FULL_URI")
    env_setup.set(CONTAINER_AUTHORIZATION_TOKEN=fakes.AGENT_TOKEN)
    return {}


def instance(env_setup: CredentialSetup) -> Options:
    env_setup.set(EC2_METADATA_DISABLED="false")
    env_setup.start(fakes.instance(env_setup.issuer), "EC2_METADATA_SERVICE_ENDPOINT")
    return {}


def _key_lines(keys: Keys) -> str:
    return f"aws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"


def _sso_role() -> str:
    return "sso_account_id = 123456789012\nsso_role_name = Reader\n"


def _in(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cached_sso_token(env_setup: CredentialSetup, name: str, **token: str) -> None:
    """Write the token file that `aws sso login` creates."""
    cache = env_setup.home / "sso"
    cache.mkdir()
    (cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(token))
    for module, provider in (("credentials", "SSOProvider"), ("tokens", "SSOTokenProvider")):
        __import__(f"botocore.{module}")
        env_setup.patch.setattr(
            getattr(sys.modules[f"botocore.{module}"], provider), "_SSO_TOKEN_CACHE_DIR", str(cache)
        )


STATIC: tuple[Source, ...] = (
    arguments,
    environment,
    credentials_file,
    config_file,
    profile_by_argument,
    profile_by_variable,
)
REFRESHED: tuple[Source, ...] = (
    role,
    chained_roles,
    process,
    sso_by_profile,
    sso_session,
    web_identity,
    container,
    instance,
)
