"""A small HTTP/1.1 client over asyncio, made for large bodies. It knows no S3: callers say what to do with a head."""
