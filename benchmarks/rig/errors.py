"""Why a section has no figures."""

from __future__ import annotations


class SkippedError(Exception):
    """Something optional is absent here; the message is what the person reads."""


class FailedError(Exception):
    """Something that should work did not; the run ends with status 1."""
