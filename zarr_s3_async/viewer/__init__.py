"""The viewer: an application that shows planes of any array in a browser (extra `view`); `zarr-s3 view URL` runs it.

    app = zs.viewer.create_app("s3://my-bucket/experiments")        # for uvicorn, or to be mounted in another one

It is made of what every application can use: a session, and the kit of `zarr_s3_async.fastapi`. docs/view.md describes
its pages and its HTTP interface.
"""

from .app import create_app

__all__ = ["create_app"]
