"""Benchmarks that compare this library with its peers in one run. `nox -s bench`, or `python -m benchmarks --help`."""
