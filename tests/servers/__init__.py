"""Servers and proxies that the tests and the benchmarks need and no user does: they are not in the wheel.

All of them read HTTP/1.1 with `http1`. The fault server and the stand-in keep their objects in `s3_objects`.
"""
