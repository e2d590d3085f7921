"""The view itself: the path above, the events below, and what the keys do."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import App
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Footer, Input, Static

from salt_exporter.commands.losses import shown
from salt_exporter.watch import detail
from salt_exporter.watch.event_list import EventList
from salt_exporter.watch.filters import COLUMNS, Filter, only
from salt_exporter.watch.history import History
from salt_exporter.watch.passed import Notice, Passed, passed, tag_of
from salt_exporter.watch.path_view import PathView
from salt_exporter.watch.screens import Leaf, keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from salt_exporter.watch.passed import Row
    from salt_exporter.watch.source import Path, Source
    from salt_exporter.watch.tape import Received

_TICK: Final = 0.2  # seconds between looks at what has come
# Seconds of a tick for reading events; those that it does not suffice for wait, and are shed at last.
_BUSY: Final = 0.05
_TAKEN: Final = 100  # events read between two looks at the clock
_REFRESH: Final = 2.0  # seconds from one answer about the path to the next question
_LONGEST_FILTER: Final = 256

_log = logging.getLogger(__name__)


class WatchApp(App[None]):
    """Shows what a source has to say, until it is told to end."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = "EventList"
    CSS = """
    #head { height: 1; text-wrap: nowrap; text-overflow: ellipsis; background: $panel; }
    #problems { height: auto; max-height: 5; color: $text-warning; }
    #line { height: 1; background: $panel; }
    #line Input { width: 1fr; background: $panel; }
    #counts { width: auto; padding: 0 0 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "Filter",
            key_display="/",
            tooltip="Filter: words, tag: minion: fun: jid: with * ?, and ! for not",
        ),
        Binding("escape", "clear", "All", tooltip="See everything again"),
        Binding("t", "narrow('tag')", "Only the tag of the chosen event", show=False),
        Binding("m", "narrow('minion')", "Only its minion", show=False),
        Binding("f", "narrow('fun')", "Only its function", show=False),
        Binding("j", "narrow('jid')", "Only its job", show=False),
        Binding("space", "freeze", "Freeze", tooltip="Freeze the list, or let it go on; events are counted and kept"),
        Binding("p", "path", "Path", tooltip="Hide the path, or show it again"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="These keys"),
        Binding("q", "quit", "Quit", tooltip="End"),
        Binding("ctrl+c", "quit", "End, whatever is open", show=False, priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.animation_level = "none"  # over ssh each step of one is seen
        self.history = History()
        self._source = source
        self._numbers = count()
        self._problem = source.problem  # of the bus, as it was last said
        self._was_connected = False
        self._path: Path | None = None
        self._head = Static(id="head")
        self._problems = Static(id="problems")
        self._hops = PathView()
        self._filter = Input(
            placeholder="/ filters: words, tag: minion: fun: jid:", compact=True, max_length=_LONGEST_FILTER
        )
        self._counts = Static(id="counts")
        self._list = EventList(self.history)

    def compose(self) -> ComposeResult:
        """Put the parts one below the other."""
        yield self._head
        yield self._problems
        yield self._hops
        with Horizontal(id="line"):
            yield self._filter
            yield self._counts
        yield self._list
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look, and end in order when the terminal goes away or somebody ends us."""
        if not self.is_headless:
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)
        self._show_state()
        self.set_interval(_TICK, self._tick)
        self.run_worker(self._look_forever())

    # --- what comes ---

    async def _look_forever(self) -> None:
        while True:
            try:
                self._path = await self._source.path()
                self._hops.show(self._path)
            except Exception:  # noqa: BLE001 - whatever it is, the next look may go well
                _log.exception("cannot show the path")
            await asyncio.sleep(_REFRESH)

    def _tick(self) -> None:
        try:
            rows = list(self._rows())
            for row in rows:
                self.history.add(row)
            if rows:
                self._list.renew()
            self._show_state()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("cannot show what has come")

    def _rows(self) -> Iterator[Row]:
        """Read what has come, as much as a tick has time for, and what the bus has to say."""
        until = time.monotonic() + _BUSY
        while time.monotonic() < until and (taken := self._source.take(_TAKEN)):
            yield from map(self._row, taken)
        yield from self._bus_notices()

    def _bus_notices(self) -> Iterator[Notice]:
        """Say when the connection to the bus has ended, why there is none, and when there is one again."""
        problem, before = self._source.problem, self._problem
        if problem and problem != before:
            yield self._notice(f"not connected any more: {shown(problem)}" if not before else shown(problem))
        elif before and not problem and self._was_connected:
            yield self._notice("connected to the event bus again")
        self._problem = problem
        self._was_connected |= not problem

    def _row(self, received: Received) -> Row:
        number, (arrived, body) = next(self._numbers), received
        if body is None:
            return Notice(number, arrived, "events are missing here: the event bus was not read all the time")
        try:
            return passed(number, arrived, body)
        except Exception:  # noqa: BLE001 - it comes from the network, and the next one may be read
            _log.exception("cannot read an event")
            return Passed(number, arrived, shown(tag_of(body)), "", "", "", "unread", bad=True, body=body)

    def _notice(self, says: str) -> Notice:
        return Notice(next(self._numbers), time.time(), says)

    # --- what is said ---

    def _show_state(self) -> None:
        view = self._path.view if self._path else None
        master = view.master if view and view.master else "looking for the master"
        state = ("NOT CONNECTED", "$text-error") if self._source.problem else ("connected", "$text-success")
        _say(self._head, Content.assemble(("salt-exporter watch", "bold"), f"  {master}  ", state))
        problems = [shown(self._source.problem)] if self._source.problem else []
        problems += [said for said in view.problems if not problems or problems[0] not in said] if view else []
        _say(self._problems, Content("\n".join(problems)))
        self._problems.display = bool(problems)
        _say(self._counts, Content(" · ").join(self._counted()))

    def _counted(self) -> Iterator[Content]:
        yield Content(f"{self.history.events:,} events")
        if self._filter.value.strip():
            yield Content(f"{sum(isinstance(row, Passed) for row in self.history.shown):,} match")
        if self.history.frozen:
            yield Content.styled(f"FROZEN, {self.history.meanwhile:,} since", "$text-warning")
        elif not self._list.following:
            yield Content("End follows")
        if self._source.shed:
            yield Content.styled(f"{self._source.shed:,} not shown", "$text-error")

    # --- what is asked for ---

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter by what has been typed so far."""
        self.history.filter_by(Filter(event.value))
        self._list.renew()
        self._show_state()

    def on_input_submitted(self) -> None:
        """Go back to the list."""
        self._list.focus()

    def on_event_list_opened(self, message: EventList.Opened) -> None:
        """Show everything that an event holds."""
        try:
            lines = detail.lines(message.event)
        except Exception:  # noqa: BLE001 - it comes from the network
            _log.exception("cannot show an event")
            lines = ["This event cannot be shown."]
        self.push_screen(Leaf("event", lines))

    def action_filter(self) -> None:
        """Type a filter."""
        self._filter.focus()

    def action_clear(self) -> None:
        """Filter no more."""
        self._filter.value = ""
        self._list.focus()

    def action_narrow(self, prefix: str) -> None:
        """See only what has the value of the chosen event in a column, beside what is filtered already."""
        value = getattr(self._list.event, COLUMNS[prefix], "")
        word = only(prefix, value)
        if value and word not in self._filter.value.split():
            self._filter.value = f"{self._filter.value} {word}".strip()

    def action_freeze(self) -> None:
        """Let the list stay as it is, or go on."""
        if self.history.frozen:
            self.history.thaw()
        else:
            self.history.freeze()
        self._list.renew()
        self._show_state()

    def action_path(self) -> None:
        """Leave the whole screen to the events, or give the path its place again."""
        self._hops.display = not self._hops.display

    def action_help(self) -> None:
        """Tell what the keys do."""
        self.push_screen(keys("keys", list(help_rows())))


def _say(widget: Static, text: Content) -> None:
    """Show a text; one that is there already costs nothing."""
    if widget.content != text:
        widget.update(text)


def help_rows() -> Iterator[tuple[str, str]]:
    """Yield each key and what it does."""
    for binding in (*EventList.BINDINGS, *WatchApp.BINDINGS):
        if isinstance(binding, Binding):  # not one of the short forms, which say nothing
            yield binding.key_display or binding.key, binding.tooltip or binding.description
