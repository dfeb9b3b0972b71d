"""For tests against this library: local S3 servers, the store conformance suite, a store that injects faults.

Needs no pytest. `strategies` (hypothesis) is a module of its own, to import by name.
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
