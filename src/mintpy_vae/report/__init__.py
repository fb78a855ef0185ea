"""The report: one HTML file that shows the removed atmosphere and the signal that is left."""

from ..results.result import REPORT
from .page import write_report

__all__ = ["REPORT", "write_report"]
