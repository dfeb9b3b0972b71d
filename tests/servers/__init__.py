"""Servers and proxies for tests and benchmarks only: they are not in the wheel.

All of them parse HTTP/1.1 with `http1`. The fault server and the stand-in keep their objects in `s3_objects`.
"""
