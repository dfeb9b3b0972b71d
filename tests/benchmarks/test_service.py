"""A small load test of the viewer: no failures and no leaks, although a quarter of the clients disconnect."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import service

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("library", ["ours", "ours, nothing cached"])
async def test_fifty_clients_of_which_a_quarter_disconnects_leave_nothing_behind(
    library: str, seaweed: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SIZE", 1024)
    monkeypatch.setattr(service, "CHUNK", 128)
    monkeypatch.setattr(service, "TILES", 4)
    await service.store_plane(s3_url, seaweed)
    process, port = service.start(library, s3_url, seaweed)
    try:
        first = await service.load(port, 50, 300)
        again = await service.load(port, 50, 300)
    finally:
        service.stop(process)
    for result in (first, again):
        assert result.hung_up > 20
        assert result.answered + result.hung_up == 300
        assert set(result.statuses) == {200}
        assert result.broken == 0
        assert result.left["held"] == 0
    assert again.left["tasks"] <= first.left["tasks"] + 2  # those of connections that are just being closed
    assert again.left["sockets"] <= first.left["sockets"] + 64  # of the session's pool, which is bounded
