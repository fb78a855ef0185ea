"""Errors that a user can mend: a sentence that says what is wrong and what to do."""

from __future__ import annotations


class InputError(Exception):
    """Bad input or an impossible request; the command line prints the message and exits with 1."""


class NotEnoughEvidence(Exception):
    """The data do not allow a correction; the stack is then written uncorrected, with this reason."""
