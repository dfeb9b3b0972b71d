"""Verification: read and decode every object of an array or a group, and compare the result with the metadata.

`walk` follows one listing, `nodes` determines what its folders are, `objects` reads and decodes, `folders` keeps the
state of the walk, `report` is the result.
"""

from .report import Finding, NodeReport, OnProgress, VerifyProgress, VerifyReport
from .walk import verify

__all__ = ["Finding", "NodeReport", "OnProgress", "VerifyProgress", "VerifyReport", "verify"]
