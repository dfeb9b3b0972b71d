"""Sessions on a simulated network and simulated S3 servers, in virtual time, from a seed.

The client is real: engine, store, retries, wire, connection pool. Simulated are the event loop's clock, its
connections and threads (`network.py`), the servers (`server.py`) and the faults (`nemesis.py`). In `scenario.py`
sessions read and write an array, and the history is recorded; `checker.py` decides whether it is linearizable.
"""
