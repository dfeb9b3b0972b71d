"""For whoever tests against this library: local S3 servers, the store conformance suite, faults on cue.

Needs no pytest. `strategies` (hypothesis) is a module of its own, to import by name.
"""

from .conformance import CHECKS, DEVIATIONS, Check, Report, check_name, run_conformance
from .faulty_hop import FaultyHop
from .faulty_store import Call, Fault, FaultyStore
from .local_s3 import JuiceS3, LocalS3, MotoS3
from .proxy import Exchange, LatencyProxy

__all__ = [
    "CHECKS",
    "DEVIATIONS",
    "Call",
    "Check",
    "Exchange",
    "Fault",
    "FaultyHop",
    "FaultyStore",
    "JuiceS3",
    "LatencyProxy",
    "LocalS3",
    "MotoS3",
    "Report",
    "check_name",
    "run_conformance",
]
