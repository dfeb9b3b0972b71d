"""The one door to aiobotocore, botocore and aiohttp: credentials, endpoints, and the requests that the wire leaves."""
