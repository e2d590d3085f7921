"""How long a job may take before it is closed with what has returned, by its function."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Deadlines:
    """The first pattern that matches decides; a job of several functions (with commas) may take as long as the longest.

    Patterns are those of the shell, such as `state.*`, as Salt's own targets and ACLs have them.
    """

    def __init__(self, default: float, patterns: Sequence[tuple[str, float]] = ()) -> None:
        """Take the seconds for functions that no pattern matches, and (pattern, seconds)."""
        self._default = default
        self._patterns = tuple(patterns)

    def of(self, function: str) -> float:
        """Return the seconds that jobs of this function may take."""
        return max(map(self._of_one, function.split(",")))

    def _of_one(self, function: str) -> float:
        return next((seconds for pattern, seconds in self._patterns if fnmatchcase(function, pattern)), self._default)
