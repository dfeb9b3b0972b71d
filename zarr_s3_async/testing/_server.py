"""An S3 server on this machine, started and stopped by its owner."""

from __future__ import annotations

import logging
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
_MIN_BUCKET = 3
_MAX_PORT = 65_535
_OK, _NO_CONTENT, _CONFLICT = 200, 204, 409


class LocalServer:
    """A server with keys of its own; `with` and `async with` start and stop it.

    Args:
        bucket: Name of a bucket to make.
        keep: A folder that keeps the data for the next start; without it a temporary folder holds it, and
            goes.
        tls: Serve https under a certificate authority of its own, `ca_bundle`.
        port: Where S3 listens on 127.0.0.1; None: a free port.
        access_key_id, secret_access_key: Keys that it knows; None: made up.

    Raises:
        ConfigError: A name of a bucket, a port or a key that cannot be.
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
        if len(bucket) < _MIN_BUCKET:
            raise ConfigError(f"a bucket name has at least {_MIN_BUCKET} characters, unlike {bucket!r}")
        if port is not None and not 1 <= port <= _MAX_PORT:
            raise ConfigError(f"port={port} is none: those are 1 to {_MAX_PORT}")
        if "" in {access_key_id, secret_access_key}:
            raise ConfigError("access_key_id and secret_access_key are at least one character each")
        self.bucket = bucket
        self.access_key_id: str = access_key_id or "local" + secrets.token_hex(6)
        self.secret_access_key: str = secret_access_key or secrets.token_hex(20)
        self.endpoint_url: str = ""
        """Empty until the server runs."""
        self.ca_bundle: Path | None = None
        self.kind: ServerKind | None = None
        """Which server it is, once it runs."""
        self._keep = None if keep is None else Path(keep).absolute()
        self._tls = tls
        self._port = port
        self._process: ServerProcess | None = None
        self._folder: Path | None = None

    def __repr__(self) -> str:
        state = f"{self.kind} {self.endpoint_url}" if self.endpoint_url else "stopped"
        return f"<{type(self).__name__} {state} bucket={self.bucket}>"

    def start(self) -> None:
        """Start the server and return when it has stored an object and given it back.

        Raises:
            ConfigError: No server is installed.
            StoreError: None of those installed starts; the message ends with what the last one printed.
        """
        if self._process is not None:
            raise ConfigError(f"{self!r} runs already")
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
                logger.warning("%s; falling back to %s", error, launches[number + 1].kind)
            else:
                return

    def stop(self) -> None:
        """Stop the server, if it runs, and remove its folder unless it is to be kept."""
        process, folder = self._process, self._folder
        self._process = self._folder = self.kind = self.ca_bundle = None
        self.endpoint_url = ""
        if process is not None:
            process.stop()
        if folder is not None and self._keep is None:
            shutil.rmtree(folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The variables under which any S3 client uses this server."""
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }
        return variables | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def s3_config(self, **overrides: Any) -> S3Config:
        """The options under which a session uses this server."""
        options: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
            "ca_bundle": str(self.ca_bundle) if self.ca_bundle else None,
        }
        return S3Config(**options | overrides)

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one of ours that is there already is fine."""
        self._ask("PUT", name, _OK, _CONFLICT)

    def delete_bucket(self, name: str) -> None:
        """Remove a bucket. SeaweedFS takes what is in it too, moto refuses then."""
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
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await run_blocking(self.stop)

    def _launches(self) -> list[Launch]:
        """The kinds of server to try, the best first."""
        raise NotImplementedError

    def _start(self, launch: Launch) -> None:
        folder = self._folder = self._make_folder()
        certificate = self._make_certificate(folder)
        if self._keep is not None and not launch.keeps_data:
            logger.warning("%s keeps nothing in %s: its data ends with it", launch.kind, folder)
        log = ""
        for _ in range(_TRIES):
            if self._port is not None and not is_free(self._port):
                raise StoreError(f"port {self._port} on 127.0.0.1 is taken; name another one, or none")
            process = self._process = self._spawn(launch, launch.command(folder, certificate, self._port), folder)
            if self._answers(process):
                self.kind = launch.kind
                return
            # It died: a port was taken in between, or this release does not know a flag.
            log = process.log()
            process.stop()
            launch.adapted(log)
        raise StoreError(f"{launch.kind} does not start: {log or 'it printed nothing'}")

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
            # What is not kept need not be written out, which takes a server a second or two.
            grace=0.0 if self._keep is None else _GRACE_SECONDS,
            leaves=command.leaves,
            is_temporary=self._keep is None,
        )

    def _answers(self, process: ServerProcess) -> bool:
        """Wait until an object can be stored and read. False where the server dies before."""
        deadline = time.monotonic() + _START_SECONDS
        last = ""
        while process.alive:
            try:
                last = self._try_out()
            except (OSError, HTTPException) as error:
                last = str(error)
            if not last and process.alive:
                return True
            if time.monotonic() > deadline:
                raise StoreError(f"{process.log()}\nthe server does not answer: {last}")
            time.sleep(_POLL_SECONDS)
        return False

    def _try_out(self) -> str:
        """Store and read an object; what the server said instead of doing so."""
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
