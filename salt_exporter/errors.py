"""The one error that rooms pass on to operators."""

from __future__ import annotations


class SourceError(Exception):
    """A source could not be asked; the message is one sentence that says what is wrong and what to do."""
