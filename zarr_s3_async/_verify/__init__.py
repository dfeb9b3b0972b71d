"""Verifying: every object of an array or a group is read anew, decoded, and held against its metadata.

`walk` follows one listing, `nodes` finds out what its folders are, `objects` reads and decodes, `places` and `seen`
remember, `report` tells.
"""

from .report import Finding, NodeReport, OnProgress, VerifyProgress, VerifyReport
from .walk import verify

__all__ = ["Finding", "NodeReport", "OnProgress", "VerifyProgress", "VerifyReport", "verify"]
