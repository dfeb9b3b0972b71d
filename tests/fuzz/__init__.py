"""Fuzzers for all untrusted input: documents, shards, chunks, responses.

Each target is a function of bytes that raises if a promise is broken. `test_targets.py` replays the corpora and
mutates them; `python -m tests.fuzz TARGET` does the same guided by coverage if atheris is installed. Every input that
has broken a promise is in `corpus/TARGET/` and is replayed first.
"""
