"""The only users of aiobotocore, botocore and aiohttp: credentials, endpoints, and requests outside the wire."""
