"""Benchmarks: this library beside its peers, in one run. `nox -s bench`, or `python -m benchmarks --help`."""
