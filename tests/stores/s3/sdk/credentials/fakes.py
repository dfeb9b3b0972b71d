"""Small fakes of the services that issue credentials: STS, SSO, OIDC, a container's agent, instance metadata."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from .verifying import Issuer, Keys, VerifyingServer

ROLE = "arn:aws:iam::123456789012:role/"
AGENT_TOKEN = "agent-token"
SSO_TOKEN, NEW_SSO_TOKEN, REFRESH_TOKEN = "sso-token", "sso-token-2", "refresh-token"
METADATA_TOKEN = "metadata-token"
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


class Call(NamedTuple):
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Lower-case names."""
    body: str

    @property
    def signer(self) -> str:
        """The access key that signed it, or an empty string."""
        found = _CREDENTIAL.search(self.headers.get("authorization", ""))
        return found[1] if found else ""


Answer = tuple[int, str]
"""Status and body."""


class Fake:
    """A local HTTP server; `answer` returns its response to a call."""

    def __init__(self, answer: Callable[[Call], Answer], **headers: str) -> None:
        self.calls: list[Call] = []
        self._answer = answer
        self._headers = headers

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, url.path, dict(parse_qsl(url.query)), headers, body)
                fake.calls.append(call)
                status, expected_message = fake._answer(call)
                self.send_response(status)
                for name, value in fake._headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(expected_message)))
                self.end_headers()
                self.wfile.write(expected_message.encode())

            do_PUT = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Write nothing to the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """URL at which it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"


def sts(issuer: Issuer, server: VerifyingServer, roles: list[tuple[str, str]]) -> Fake:
    """STS: issues keys of a role for requests that are signed with known keys or have a web identity.

    Args:
        issuer: Issues the keys.
        server: Knows the keys that may sign requests.
        roles: Receives (role, the key or the web identity that requested it) of every request.
    """

    def answer(call: Call) -> Answer:
        form = dict(parse_qsl(call.body))
        action, role = form["Action"], form["RoleArn"].removeprefix(ROLE)
        asker = form.get("WebIdentityToken") or call.signer
        roles.append((role, asker))
        if action == "AssumeRole" and _unknown(call, server):
            expected_message = (
                "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>m</Message></Error></ErrorResponse>"
            )
            return 403, expected_message
        return 200, _assumed(action, issuer.issue())

    return Fake(answer, content_type="text/xml")


def _unknown(call: Call, server: VerifyingServer) -> bool:
    keys = server.known.get(call.signer)
    return keys is None or call.headers.get("x-amz-security-token") != keys.token


def _assumed(action: str, keys: Keys) -> str:
    fields = {
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "SessionToken": keys.token,
        "Expiration": keys.expiration,
    }
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    user = "<Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>r</AssumedRoleId>"
    result = (
        f"<{action}Result><Credentials>{inner}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser></{action}Result>"
    )
    return f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{action}Response>'


def sso(issuer: Issuer, *tokens: str) -> Fake:
    """The SSO portal; accepts these tokens."""

    def answer(call: Call) -> Answer:
        if call.headers.get("x-amz-sso_bearer_token") not in tokens:
            return 401, '{"message": "Session token not found or invalid"}'
        assert call.path == "/federation/credentials"
        assert (call.query["role_name"], call.query["account_id"]) == ("Reader", "123456789012")
        keys = issuer.issue()
        assert keys.expires is not None
        expected_message = {
            "accessKeyId": keys.access_key,
            "secretAccessKey": keys.secret_key,
            "sessionToken": keys.token,
            "expiration": int(keys.expires.timestamp() * 1000),
        }
        return 200, json.dumps({"roleCredentials": expected_message})

    return Fake(answer, content_type="application/json")


def oidc() -> Fake:
    """Issues a new SSO token for a refresh token."""

    def answer(call: Call) -> Answer:
        expected_message = json.loads(call.body)
        assert (expected_message["grantType"], expected_message["refreshToken"]) == ("refresh_token", REFRESH_TOKEN)
        return 200, json.dumps({"accessToken": NEW_SSO_TOKEN, "expiresIn": 28800, "tokenType": "Bearer"})

    return Fake(answer, content_type="application/json")


def described(keys: Keys) -> str:
    """The credentials document of a container's agent and of instance metadata."""
    return json.dumps(
        {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "Token": keys.token,
            "Expiration": keys.expiration,
            "LastUpdated": "2026-01-01T00:00:00Z",
        }
    )


def container(issuer: Issuer) -> Fake:
    """The agent of a container; requires its token."""

    def answer(call: Call) -> Answer:
        if call.headers.get("authorization") != AGENT_TOKEN:
            return 401, "{}"
        return 200, described(issuer.issue())

    return Fake(answer, content_type="application/json")


def instance(issuer: Issuer) -> Fake:
    """Instance metadata, version 2: a token first, then the role's name, then its credentials."""

    def answer(call: Call) -> Answer:
        if call.path == "/latest/api/token":
            return (200, METADATA_TOKEN) if call.method == "PUT" else (405, "")
        if call.headers.get("x-aws-ec2-metadata-token") != METADATA_TOKEN:
            return 401, ""
        if call.path == "/latest/meta-data/iam/security-credentials/":
            return 200, "reader"
        assert call.path == "/latest/meta-data/iam/security-credentials/reader"
        return 200, described(issuer.issue())

    return Fake(answer, content_type="text/plain")
