"""An empty environment, and a server that checks signatures with an array on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import zarr_s3_async as zs

from .sources import LONG_TERM, CredentialSetup
from .verifying import Issuer, VerifyingServer

BUCKET = "data"
DOCUMENT = b"""{"zarr_format": 3, "node_type": "array", "shape": [16, 4], "data_type": "uint8", "fill_value": 0,
"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 4]}},
"chunk_key_encoding": {"name": "default"}, "codecs": [{"name": "bytes"}]}"""
CHUNKS = 16


@pytest.fixture(scope="module")
def shared_server() -> Iterator[VerifyingServer]:
    with VerifyingServer(buckets=(BUCKET,)) as server:
        server.put(BUCKET, "a/zarr.json", DOCUMENT)
        for row in range(CHUNKS):
            server.put(BUCKET, f"a/c/{row}/0", bytes([row] * 4))
        yield server


@pytest.fixture
def server(shared_server: VerifyingServer) -> VerifyingServer:
    shared_server.forget()
    shared_server.signers.clear()
    shared_server.revoked.clear()
    shared_server.known = {LONG_TERM.access_key: LONG_TERM}
    return shared_server


@pytest.fixture
def env_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: VerifyingServer) -> Iterator[CredentialSetup]:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    with ExitStack() as stack:
        yield CredentialSetup(tmp_path, monkeypatch, server, Issuer(server), stack)


@pytest.fixture
def config(server: VerifyingServer) -> zs.S3Config:
    """Options to reach the server, without keys."""
    return zs.S3Config(endpoint_url=server.endpoint_url, region="eu-west-3")
