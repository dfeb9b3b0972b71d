"""tensorstore, its `zarr3` and `zarr` drivers over its `s3` key-value store."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorstore

from ..workload import Region
from .base import Library


class TensorStore(Library):
    """Credentials come from the environment, which the child sets; no cache, which is its default."""

    async def open(self) -> None:
        place, in_flight = self.task.place, self.task.in_flight
        if place.ca_bundle is not None:
            os.environ["TENSORSTORE_CA_BUNDLE"] = place.ca_bundle
        context = {} if in_flight is None else {"s3_request_concurrency": {"limit": in_flight}}
        self._array = await tensorstore.open(
            {
                "driver": "zarr3" if self.task.dataset.zarr_format == 3 else "zarr",
                "kvstore": {
                    "driver": "s3",
                    "bucket": place.bucket,
                    "path": self.task.path + "/",
                    "endpoint": place.endpoint_url,
                    "aws_region": place.region,
                    "aws_credentials": {"type": "environment"},
                },
                "context": context,
            },
            open=True,
        )

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        data: np.ndarray[Any, Any] = await self._array[region].read()  # Any where tensorstore is not installed
        return data

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        await self._array[region].write(data)
