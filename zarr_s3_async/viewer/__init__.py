"""The viewer: an application that shows planes of any array in a browser (extra `view`); `zarr-s3 view URL` runs it.

    app = zs.viewer.create_app("s3://my-bucket/experiments")        # for uvicorn, or to mount in another application

It uses only a session and `zarr_s3_async.fastapi`, which any application can use. docs/view.md describes its pages and
its HTTP interface.
"""

try:
    from .app import create_app
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
    raise ImportError("zarr_s3_async.viewer needs FastAPI and Pillow: pip install 'zarr-s3-async[view]'") from _error

__all__ = ["create_app"]
