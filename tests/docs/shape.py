"""Whether real output has the shape of the output that a document shows.

The same words in the same order, line by line. Numbers, times and blanks may differ, and so may what the document
leaves out: `…` stands for anything within a line, and for any lines where it stands alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_OMITTED: Final = "…"
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?(?:[kKMGT]?i?B?\b)?")
_AGE: Final = re.compile(r"(?:\d+ ?(?:ms|s|min|h|days?|weeks?) )+ago")
_DAY: Final = re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b")
_MONTH: Final = re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")
_NICE: Final = re.compile(r"\b([RSDT])N")  # the tests may run with a low priority: then all processes do
_BLANK: Final = re.compile(r"\s+")
_ALIKE: Final = ((_AGE, "ago"), (_DAY, "day"), (_MONTH, "month"), (_NUMBER, "0"), (_NICE, r"\1"), (_BLANK, ""))


def not_said(shown: Iterable[str], output: str) -> list[str]:
    """Return the lines that a document shows and of whose shape no line of the output is."""
    said = {_shape(line) for line in output.splitlines()}
    return [line for line in shown if not any(_pattern(line).fullmatch(candidate) for candidate in said)]


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(_shape(part)) for part in line.split(_OMITTED)))


def _shape(line: str) -> str:
    for pattern, replacement in _ALIKE:
        line = pattern.sub(replacement, line)
    return line
