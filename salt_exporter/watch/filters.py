"""The filter line: `web* fun:state.* !tag:salt/auth`. Pure.

Words are separated by blanks, and an event must satisfy all of them. `tag:`, `minion:`, `fun:` and `jid:` compare a
whole column with a pattern of the shell; a word without them may stand anywhere in any column; `!` turns one around.
"""

from __future__ import annotations

import glob
import re
from fnmatch import translate
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from salt_exporter.watch.passed import Passed

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.watch.passed import Row

# prefix → column
COLUMNS: Final = {"tag": "tag", "minion": "minion", "fun": "function", "jid": "jid"}
_ANYWHERE: Final = attrgetter(*COLUMNS.values(), "outcome")


class Filter:
    """Tells whether a row is to be seen. Whatever is typed is a filter; notices pass every one."""

    def __init__(self, line: str = "") -> None:
        self._words = [word for word in map(_word, line.split()) if word]

    def __call__(self, row: Row) -> bool:
        """Tell whether a row passes."""
        return not isinstance(row, Passed) or all(word(row) for word in self._words)


def only(prefix: str, value: str) -> str:
    """Return the word that lets nothing pass but this value of a column."""
    pattern = re.sub(r"\s", "?", glob.escape(value))  # a blank would end the word
    return f"{prefix}:{pattern}"


def _word(text: str) -> Callable[[Passed], bool] | None:
    """Read one word; None for one that is only begun."""
    bare = text.removeprefix("!")
    wanted = bare == text
    prefix, colon, pattern = bare.partition(":")
    if not colon or prefix not in COLUMNS:
        return _anywhere(bare, wanted=wanted) if bare else None
    return _column(COLUMNS[prefix], pattern, wanted=wanted) if pattern else None


def _column(column: str, pattern: str, *, wanted: bool) -> Callable[[Passed], bool]:
    read, matches = attrgetter(column), re.compile(translate(pattern), re.IGNORECASE).match
    return lambda event: bool(matches(read(event))) is wanted


def _anywhere(part: str, *, wanted: bool) -> Callable[[Passed], bool]:
    matches = re.compile(translate(f"*{part}*"), re.IGNORECASE).match
    return lambda event: any(map(matches, _ANYWHERE(event))) is wanted
