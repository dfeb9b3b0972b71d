"""The benchmark of loaders: every installed contender returns each sample once."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest

from benchmarks import loaders
from benchmarks.libraries.base import Place
from benchmarks.loaders import CONTENDERS, Setting, cannot
from tests.servers.stand_in import StandIn

NEEDS = {"DataLoader": "torch", "zarr + obstore": "obstore", "xbatcher": "xbatcher", "tensorstore": "tensorstore"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "bare read"])  # it has nothing to close
def test_an_epoch_has_each_sample_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [library for word, library in NEEDS.items() if word in name and find_spec(library) is None]
    if missing:
        pytest.skip(f"{missing[0]} is missing")
    monkeypatch.setattr(loaders, "SAMPLES", 512)
    with StandIn() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
        place = Place(
            endpoint_url=server.endpoint_url,
            bucket=server.bucket,
            region=server.region,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        asyncio.run(loaders.store(place))
        for shuffle in (False, True):
            for window in (False, True):
                setting = Setting(name, shuffle, window)
                if not cannot(name, setting):
                    samples = 512 - 7 * window
                    whole = samples // loaders.BATCH * loaders.BATCH  # xbatcher returns only whole batches
                    check(CONTENDERS[name](setting, place), whole if name == "xbatcher" else samples)


def check(epoch: Any, samples: int) -> None:
    assert [sum(epoch(number)) for number in range(2)] == [samples, samples]
