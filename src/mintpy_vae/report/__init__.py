"""The report: one HTML file that shows what was removed, and that the signal is still there."""

from .page import REPORT, write_report

__all__ = ["REPORT", "write_report"]
