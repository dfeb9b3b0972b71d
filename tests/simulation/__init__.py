"""Sessions on a simulated network and simulated S3 servers, in virtual time, from a seed.

The client is all real: engine, store, retries, wire, connection pool. Simulated are the event loop's clock, its
connections and threads (`network.py`), the servers (`server.py`) and what goes wrong (`nemesis.py`). `scenario.py` lets
sessions read and write an array and records the history; `checker.py` says whether some order explains it.
"""
