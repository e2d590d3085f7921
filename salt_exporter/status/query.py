"""What a viewer has asked for, in the query of the address."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from salt_exporter.analysis.causes import CAUSES
from salt_exporter.analysis.presence import STATES
from salt_exporter.api import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROWS: Final = 50  # of a table on one page
_LONGEST: Final = 256  # letters of a text that is searched for
_MOST_PAGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """The filters and pages; "" is any."""

    search: str = ""  # part of a minion's id
    state: str = ""  # one of STATES; "": those not present and those uncertain
    page: int = 1  # of the minions
    minion: str = ""  # whose missing responses
    jid: str = ""
    cause: str = ""
    losses: int = 1  # page of the missing responses
    refresh: str = ""  # or "off"

    def link(self, place: str = "", **changes: Any) -> str:  # noqa: ANN401 - the fields
        """Return the address of the page with another query, at a section of it."""
        given = urlencode(replace(self, **changes).given(), errors="replace")
        return f"/?{given}#{place}" if place else f"/?{given}"

    def given(self, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return what differs from an empty query, some fields left out."""
        defaults = asdict(Query())
        return {name: value for name, value in asdict(self).items() if value != defaults[name] and name not in without}


def _text(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(f"expected at most {_LONGEST} letters")
    if not text.isprintable():
        raise ValueError("expected letters that can be printed")
    return text


def _page(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= _MOST_PAGES:
        raise ValueError(f"expected a whole number from 1 to {_MOST_PAGES}")
    return int(text)


_PARSERS: Final[Mapping[str, Callable[[str], str | int]]] = {
    "search": _text,
    "state": one_of(*STATES),
    "page": _page,
    "minion": _text,
    "jid": _text,
    "cause": one_of(*(cause.value for cause in CAUSES)),
    "losses": _page,
    "refresh": one_of("off"),
}


def parse(arguments: Mapping[str, Sequence[bytes]]) -> Query:
    """Read a query; fields that a form left empty are not given. Raises ValueError that names what makes no sense."""
    given: dict[str, Any] = {}
    for name, values in arguments.items():
        if name not in _PARSERS:
            raise ValueError(f"there is no parameter {name!r}; there are: {', '.join(_PARSERS)}")
        if len(values) != 1:
            raise ValueError(f"{name} is given more than once")
        try:
            text = values[0].decode().strip()
            if text:
                given[name] = _PARSERS[name](text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return Query(**given)
