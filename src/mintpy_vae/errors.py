"""Exceptions whose message tells the user in one sentence what is wrong and what to do."""

from __future__ import annotations


class InputError(Exception):
    """Bad input or an impossible request; the command line prints the message and exits with 1."""


class DamagedFile(InputError):
    """A file of which part is lost."""


class NotEnoughEvidence(Exception):
    """The data do not allow a correction; the stack is left uncorrected and the message gives the reason."""
