"""What can go wrong with a recording. Each text says what was expected, what was found, and what to do."""

from __future__ import annotations


class RecordingError(Exception):
    """A recording or archive cannot be used: one line for people, exit code 2 of a command."""


class UnknownVersionError(RecordingError):
    """Every file of a recording is of a version that this release does not read."""
