"""zarr-python's `StoreTests` over `ZarrStore`, and over zarr-python's own store on obstore for comparison."""

from __future__ import annotations

from typing import Any

import pytest
import zarr
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

import zarr_s3_async as zs
from zarr_s3_async.adapters.zarr import ZarrStore


class _Ours(StoreTests[ZarrStore, cpu.Buffer]):
    store_cls = ZarrStore
    buffer_cls = cpu.Buffer

    async def set(self, store: ZarrStore, key: str, value: Any) -> None:
        await self.bare(store).put(key, value.to_bytes())

    async def get(self, store: ZarrStore, key: str) -> Any:
        blob = await self.bare(store).get(key)
        assert blob is not None
        return self.buffer_cls.from_bytes(blob.data)

    @staticmethod
    def bare(store: ZarrStore) -> zs.Store:
        """Our store below the adapter."""
        return store._place.store()

    def test_store_repr(self, store: ZarrStore) -> None:
        assert repr(store) == f"ZarrStore({store.url!r})"

    def test_store_supports_writes(self, store: ZarrStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: ZarrStore) -> None:
        assert store.supports_listing


class TestS3(_Ours):
    """On SeaweedFS."""

    @pytest.fixture
    def store_kwargs(self, seaweed: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        config = seaweed.s3_config()
        # The process that unpickles a store has its own keys.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", config.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", config.secret_access_key)
        return {"where": s3_url, "endpoint_url": config.endpoint_url, "region": config.region}


class TestLocal(_Ours):
    """In a folder."""

    @pytest.fixture
    def store_kwargs(self, tmp_path: Any) -> dict[str, Any]:
        return {"where": tmp_path.as_uri()}


class TestObstoreOfZarrPython(StoreTests[Any, cpu.Buffer]):
    """`zarr.storage.ObjectStore` on the same server."""

    store_cls = zarr.storage.ObjectStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self, seaweed: Any, s3_url: str) -> dict[str, Any]:
        from obstore.store import S3Store

        config = seaweed.s3_config()
        bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
        store = S3Store(
            bucket,
            prefix=prefix,
            endpoint=config.endpoint_url,
            region="us-east-1",
            access_key_id=config.access_key_id,
            secret_access_key=config.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        return {"store": store, "read_only": False}

    async def set(self, store: Any, key: str, value: Any) -> None:
        import obstore

        await obstore.put_async(store.store, key, value.to_bytes())

    async def get(self, store: Any, key: str) -> Any:
        import obstore

        found = await obstore.get_async(store.store, key)
        return default_buffer_prototype().buffer.from_bytes(bytes(await found.bytes_async()))

    def test_store_repr(self, store: Any) -> None:
        assert repr(store).startswith("ObjectStore(object_store://")

    def test_store_supports_writes(self, store: Any) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: Any) -> None:
        assert store.supports_listing
