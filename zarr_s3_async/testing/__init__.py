"""Tools for tests of code that uses this library: local S3 servers, a store conformance suite, a fault-injecting store.

pytest is not required. The module `strategies` (hypothesis) must be imported by name.
"""

from .conformance import CHECKS, DEVIATIONS, Check, Report, check_name, run_conformance
from .faulty_store import Call, Fault, FaultyStore
from .local_s3 import JuiceS3, LocalS3, MotoS3

__all__ = [
    "CHECKS",
    "DEVIATIONS",
    "Call",
    "Check",
    "Fault",
    "FaultyStore",
    "JuiceS3",
    "LocalS3",
    "MotoS3",
    "Report",
    "check_name",
    "run_conformance",
]
