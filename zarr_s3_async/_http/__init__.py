"""A small HTTP/1.1 client over asyncio for large bodies. It knows nothing of S3: callers decide where bodies go."""
