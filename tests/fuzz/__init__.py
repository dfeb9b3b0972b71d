"""Fuzzers for all untrusted input: documents, shards, chunks, responses.

Each target is a function of bytes that raises where a promise is broken. `test_targets.py` replays the corpora and
mutates them; `python -m tests.fuzz TARGET` does the same guided by coverage, where atheris is installed. What ever
broke a promise lies in `corpus/TARGET/` and is replayed first.
"""
