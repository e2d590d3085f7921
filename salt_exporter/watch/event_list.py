"""The list of events: draws the rows in sight and no other, so that it costs the same however many there are."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from salt_exporter.status.words import instant
from salt_exporter.watch.passed import Notice, Passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.binding import BindingType

    from salt_exporter.watch.history import History
    from salt_exporter.watch.passed import Row

_TIME, _JID = 8, 20  # cells
_number = attrgetter("number")


class Column(NamedTuple):
    """A column of the list: `least` cells wide, and so many shares of what is left."""

    heading: str
    least: int
    shares: int


COLUMNS: Final = (
    Column("time", _TIME, 0),
    Column("tag", len("salt/job/…/publish"), 1),
    Column("minion", 8, 2),
    Column("function", 9, 2),
    Column("jid", _JID, 0),
    Column("outcome", 7, 0),
)


class EventList(Widget, can_focus=True):
    """Shows the rows of a history, follows the newest until one is chosen, and says when one is to be opened."""

    DEFAULT_CSS = """
    EventList { height: 1fr; min-height: 3; }
    EventList > .heading { text-style: bold; color: $text-muted; }
    EventList > .chosen { background: $primary-muted; }
    EventList:focus > .chosen { background: $primary; color: $text; }
    EventList > .bad { color: $text-error; }
    EventList > .notice { color: $text-warning; text-style: italic; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"heading", "chosen", "bad", "notice"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "The event before", show=False),
        Binding("down", "move(1)", "The next event; behind the last one, follow what comes", show=False),
        Binding("pageup", "page(-1)", "A page back", show=False),
        Binding("pagedown", "page(1)", "A page on", show=False),
        Binding("home", "first", "The oldest event that is kept", show=False),
        Binding("end", "follow", "The newest event, and follow what comes", show=False),
        Binding("enter", "open", "Detail", tooltip="Everything that the chosen event holds"),
    ]

    class Opened(Message):
        """An event is to be shown in detail."""

        def __init__(self, event: Passed) -> None:
            super().__init__()
            self.event = event

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history
        self._chosen: int | None = None  # number of the chosen row; None: the newest, whichever that is
        self._top = 0  # number of the uppermost row
        self._index = 0  # of the chosen row
        self._visible: list[Row] = []
        self._line = 0  # of the chosen row, among the visible ones

    @property
    def following(self) -> bool:
        """Whether the newest row is the chosen one."""
        return self._chosen is None

    @property
    def event(self) -> Passed | None:
        """The chosen event, if there is one."""
        row = self._visible[self._line] if self._visible else None
        return row if isinstance(row, Passed) else None

    def renew(self) -> None:
        """Draw the rows that the history has now."""
        rows = self._history.shown
        height = max(1, self.size.height - 1)
        last_top = max(0, len(rows) - height)
        self._index = max(0, len(rows) - 1)
        top = last_top
        if self._chosen is not None:
            self._index = min(bisect_left(rows, self._chosen, key=_number), self._index)
            top = min(bisect_left(rows, self._top, key=_number), last_top, self._index)
            top = max(top, self._index - height + 1)
        self._visible = list(islice(rows, top, top + height))
        self._top = self._visible[0].number if self._visible else 0
        self._line = self._index - top
        self.refresh()

    def on_resize(self) -> None:
        """Find out anew what is in sight."""
        self.renew()

    def action_move(self, by: int) -> None:
        """Choose another row; beyond the last one follow what comes."""
        rows = self._history.shown
        index = max(0, self._index + by)
        self._chosen = rows[index].number if index < len(rows) else None
        self.renew()

    def action_page(self, by: int) -> None:
        """Choose a row that is a page away."""
        self.action_move(by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Choose the oldest row."""
        self.action_move(-len(self._history.shown))

    def action_follow(self) -> None:
        """Follow what comes."""
        self._chosen = None
        self.renew()

    def action_open(self) -> None:
        """Ask for the detail of the chosen event."""
        if self.event:
            self.post_message(self.Opened(self.event))

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        width = self.size.width
        if y == 0:
            text, name = _cells([column.heading for column in COLUMNS], width), "heading"
        elif y > len(self._visible):
            return Strip.blank(width, self.rich_style)
        else:
            text, name = _row(self._visible[y - 1], width)
        style = self.get_component_rich_style(name) if name else self.rich_style
        if y and y - 1 == self._line:
            style += self.get_component_rich_style("chosen")
        return Strip([Segment(text, style)], width)


def _row(row: Row, width: int) -> tuple[str, str]:
    """Return the text of a row, exactly so wide, and its component class."""
    clock = instant(row.at)[-_TIME:]
    if isinstance(row, Notice):
        return fit(f"{clock} {row.says}", width), "notice"
    tag = row.tag if cell_len(row.tag) <= _widths(width)[1] else row.short_tag
    return _cells([clock, tag, row.minion, row.function, row.jid, row.outcome], width), "bad" if row.bad else ""


def _cells(texts: Sequence[str], width: int) -> str:
    return fit(" ".join(map(fit, texts, _widths(width))), width)


def _widths(width: int) -> list[int]:
    """Return how wide the columns are on a screen."""
    left = max(0, width - sum(column.least for column in COLUMNS) - len(COLUMNS) + 1)
    shares = sum(column.shares for column in COLUMNS)
    return [column.least + left * column.shares // shares for column in COLUMNS]


def fit(text: str, width: int) -> str:
    """Return a text exactly so many cells wide; one that is cut ends in …."""
    return (
        text if cell_len(text) == width else set_cell_size(text, width) if cell_len(text) < width else _cut(text, width)
    )


def _cut(text: str, width: int) -> str:
    return f"{set_cell_size(text, width - 1)}…" if width > 0 else ""
