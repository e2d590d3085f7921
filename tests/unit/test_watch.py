"""The terminal view: what it shows on a small screen, what every key does, and that nothing from the bus hurts it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import pytest
from textual.binding import Binding
from textual.geometry import Size

from salt_exporter.collectors import connections, presence, probe, publish
from salt_exporter.status.gather import Situation
from salt_exporter.status.query import Query
from salt_exporter.status.view import view
from salt_exporter.watch import app as app_module
from salt_exporter.watch import detail
from salt_exporter.watch.app import WatchApp
from salt_exporter.watch.event_list import EventList, fit
from salt_exporter.watch.path_view import bar
from salt_exporter.watch.source import Path
from salt_exporter.watch.tape import Received
from tests.unit.test_status import NOW, scraped
from tests.unit.test_watch_events import HOSTILE, JID, STAMP, body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

SMALL = (80, 24)
PATIENCE = 60.0  # seconds; nobody waits longer than needed


@dataclass
class Fake:
    """A master that does as it is told."""

    problem: str = ""
    shed: int = 0
    situation: Situation = field(default_factory=lambda: Situation(NOW, scrape=scraped(), recent={}))
    since: float | None = NOW - 3600
    waiting: list[Received] = field(default_factory=list)

    def pass_(self, *bodies: bytes | None) -> None:
        """Let events pass; None stands for those that are missing."""
        self.waiting += [Received(time.time(), found) for found in bodies]

    def take(self, most: int) -> list[Received]:
        """Return what has passed."""
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    async def path(self) -> Path:
        """Return the path."""
        return Path(view(self.situation, Query()), self.since, self.situation.taken)


def returned(minion: str, function: str = "test.ping", jid: str = JID, /, **data: Any) -> bytes:  # noqa: ANN401 - an event holds anything
    """Return the body of a minion's return."""
    data = {"jid": jid, "fun": function, "id": minion, "success": True, "retcode": 0, "_stamp": STAMP, **data}
    return body(f"salt/job/{jid}/ret/{minion}", **data)


class Screen:
    """The view of a fake master, and who looks at it."""

    def __init__(self, master: Fake, app: WatchApp, pilot: Pilot[None]) -> None:
        self.master = master
        self.app = app
        self.pilot = pilot
        self.list = app.query_one(EventList)

    def lines(self) -> list[str]:
        """Return what is on the screen."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    def text(self) -> str:
        """Return the same as one text."""
        return "\n".join(self.lines())

    def rows(self) -> list[str]:
        """Return the rows of the list that are on the screen."""
        lines = self.lines()
        head = next(number for number, line in enumerate(lines) if line.startswith("time     tag"))
        return [line for line in lines[head + 1 : -1] if line]

    async def see(self, *parts: str) -> str:
        """Wait until all this is on the screen, and return the screen."""
        deadline = time.monotonic() + PATIENCE
        while not all(part in self.text() for part in parts):
            assert time.monotonic() < deadline, f"not on the screen: {parts}\n{self.text()}"
            await self.pilot.pause(0.02)
        return self.text()

    async def press(self, *keys: str) -> str:
        """Press keys and return the screen."""
        await self.pilot.press(*keys)
        await self.pilot.pause()
        return self.text()

    async def pass_(self, *bodies: bytes) -> None:
        """Let events pass, and wait until they have been read."""
        expected = self.app.history.events + len(bodies)
        self.master.pass_(*bodies)
        await self.see(f"{expected:,} events")
        await self.pilot.pause()


def look(
    scenario: Callable[[Screen], Awaitable[None]], master: Fake | None = None, size: tuple[int, int] = SMALL
) -> WatchApp:
    """Run a scenario before a view of its own; return the view when it has ended."""
    master = master or Fake()
    app = WatchApp(master)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await scenario(Screen(master, app, pilot))

    asyncio.run(run())
    return app


# --- the path ---


BUSY = scraped(
    connections.CONNECTIONS(7, channel="publish", state="established"),
    connections.LISTEN_QUEUE(900, channel="request"),
    connections.LISTEN_QUEUE_LIMIT(1000, channel="request"),
    presence.MINIONS(3, state="present"),
    presence.MINIONS(1, state="not_present"),
    presence.MINIONS(0, state="uncertain"),
    probe.SUCCESS(0, probe="request"),
    publish.HWM_RATIO(0.25),
    publish.QUEUED_MAX(250),
    eventbus="no connection to the event bus",
)


def test_small_terminal_shows_path_and_events() -> None:
    """On 80 by 24 each hop has a line with its queue against its limit and its losses, and events have the rest."""

    async def scenario(screen: Screen) -> None:
        await screen.see("Port 4505", "Quit")
        await screen.pass_(*(returned(f"web{number}") for number in range(30)))
        lines = screen.lines()

        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert lines[1] == "Could not ask for the collector “eventbus”: no connection to the event bus"
        assert lines[2] == "12 responses missing in the last hour: 12 at Port 4505"
        assert lines[3:12] == [
            "● Client                nothing lost",
            "▲ Port 4506       ████▌ Accept queue 900 of 1,000",
            "▲ Workers               Harmless request NOT ANSWERED",
            "● Publisher       █▎░░░ Longest queue 250 messages, 25% of pub_hwm",
            "✖ Port 4505             lost 12 not_connected · Connections 7",
            "▲ Minions         ███▊░ Not present 1 · Present 3 of 4 · Uncertain 0",
            "● Port 4506, back       nothing lost",
            "? Event bus             no connection to the event bus",
            "? Job cache             not looked at",
        ]
        assert lines[12].endswith("30 events")
        assert lines[13] == "time     tag                 minion     function    jid                  outcome"
        assert lines[14].endswith(f"salt/job/…/ret/…    web21      test.ping   {JID} ok")
        assert lines[22].endswith(f"salt/job/…/ret/…    web29      test.ping   {JID} ok")
        assert all(word in lines[23] for word in ("Detail", "Filter", "Freeze", "Path", "Help", "Quit"))

    look(scenario, Fake(situation=Situation(NOW, scrape=BUSY, recent={"not_connected": 12})))


def test_wide_terminal_shows_whole_tags() -> None:
    """Where there is room for it the tag is not shortened."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(returned("web1"))

        assert f"salt/job/{JID}/ret/web1" in screen.text()

    look(scenario, size=(180, 50))


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (40, 12)])
def test_no_terminal_is_too_small(size: tuple[int, int]) -> None:
    """However small it is, the view lives, and keys work."""

    async def scenario(screen: Screen) -> None:
        screen.master.pass_(*(returned(f"web{number}") for number in range(30)))
        while screen.app.history.events < 30:
            await screen.pilot.pause(0.02)
        await screen.press("up", "enter", "escape", "question_mark", "escape", "p", "slash", "x", "escape")

    look(scenario, size=size)


@pytest.mark.parametrize(("recent", "shown"), [({}, False), ({"unknown": 1}, True)])
def test_losses_without_place_have_a_line_only_if_there_are_some(recent: dict[str, int], shown: bool) -> None:  # noqa: FBT001 - the case
    """What nobody knows the place of stands below the path."""

    async def scenario(screen: Screen) -> None:
        await screen.see("Job cache")
        assert ("✖ Somewhere             lost 1 unknown" in screen.text()) is shown

    look(scenario, Fake(situation=Situation(NOW, scrape=scraped(), recent=recent)))


@pytest.mark.parametrize(
    ("recent", "since", "says"),
    [
        ({}, NOW - 3600, "No response missing in the last hour"),
        ({"unknown": 1}, NOW - 60, "1 response missing since "),
        ({}, NOW - 60, "No response missing since "),
        (None, None, "Whether responses are missing cannot be said"),
    ],
)
def test_it_is_said_since_when_losses_are_known(recent: dict[str, int] | None, since: float | None, says: str) -> None:
    """A view that has just begun does not claim to know the last hour."""

    async def scenario(screen: Screen) -> None:
        await screen.see(says)

    look(scenario, Fake(situation=Situation(NOW, scrape=scraped(), recent=recent), since=since))


@pytest.mark.parametrize(
    ("fill", "drawn"),
    [(0.0, "░░░░░"), (0.0001, "▏░░░░"), (0.5, "██▌░░"), (0.99, "█████"), (1.0, "█████")],
)
def test_bar_shows_a_share(fill: float, drawn: str) -> None:
    """More than nothing can be seen, and what is full is full."""
    assert drawn == bar(fill)


# --- the bus ---


def test_restart_of_the_master_is_told() -> None:
    """A connection that ends is said above and in the list, and so is the next one, in their place among the events."""
    closed = "the event bus /run/x was closed by the master; is the salt-master restarting?"

    async def scenario(screen: Screen) -> None:
        await screen.pass_(returned("before"))
        screen.master.problem = closed
        text = await screen.see("NOT CONNECTED", closed)
        assert text.count("the event bus /run/x was closed by the master") == 2
        screen.master.problem = ""
        await screen.see("connected to the event bus again")
        screen.master.pass_(None)
        await screen.pass_(returned("after"))

        assert [
            "salt/job/…/ret/…    before",
            "not connected any more: th",
            "connected to the event bus",
            "events are missing here: t",
            "salt/job/…/ret/…    after ",
        ] == [row[9:35] for row in screen.rows()]
        assert "NOT CONNECTED" not in screen.text()

    look(scenario)


def test_events_shed_are_shown() -> None:
    """How many events there was no time for stands beside the number of those that were read."""

    async def scenario(screen: Screen) -> None:
        screen.master.shed = 1234
        await screen.see("1,234 not shown")

    look(scenario)


def test_burst_does_not_hold_up_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more events than there is time for, a key still has its effect, and all are read in the end."""
    monkeypatch.setattr(app_module, "_BUSY", 0.001)

    async def scenario(screen: Screen) -> None:
        screen.master.pass_(*(returned(f"web{number}") for number in range(3_000)))
        await screen.press("question_mark")
        await screen.see("╭─ keys")
        unread = len(screen.master.waiting)
        await screen.press("escape")
        assert unread
        await screen.see("3,000 events")

    look(scenario)


def test_failures_do_not_end_the_view(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A path, an event, its detail and a tick that fail are logged, and the view goes on."""

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    async def scenario(screen: Screen) -> None:
        await screen.see("0 events")
        with monkeypatch.context() as broken:
            broken.setattr(screen.master, "take", fail)
            await screen.pilot.pause(0.5)
        with monkeypatch.context() as broken:
            broken.setattr(app_module, "passed", fail)
            await screen.pass_(returned("web1"))
            assert " unread" in screen.rows()[-1]
        with monkeypatch.context() as broken:
            broken.setattr(detail, "lines", fail)
            await screen.press("enter")
            await screen.see("This event cannot be shown.")
        await screen.press("escape")
        await screen.pass_(returned("web2"))
        assert "web2" in screen.rows()[-1]

    class Broken(Fake):
        async def path(self) -> Path:
            raise RuntimeError("a bug")

    look(scenario, Broken())
    assert {"cannot show the path", "cannot show what has come", "cannot read an event", "cannot show an event"} == {
        record.message for record in caplog.records
    }


# --- hostile content ---


def test_hostile_event_cannot_steer_the_terminal() -> None:
    """Control characters and markup in tag, minion, function, jid and data are shown as text, in list and detail."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(
            body(HOSTILE, **{"[@click=app.quit]x[/]": "[bold red]y"}), returned(HOSTILE, HOSTILE, HOSTILE)
        )
        listed = screen.lines()
        await screen.press("enter")
        opened = screen.lines()
        await screen.press("escape", "up", "enter")
        await screen.see("[@click=app.quit]x[/]: [bold red]y")

        assert all(line.isprintable() for line in (*listed, *opened, *screen.lines()))
        assert any("\\x1b[2J" in line for line in listed)
        assert any("\\x1b[2J\\x1b]0;gone\\x07" in line for line in opened)

    look(scenario)


def test_hostile_problem_and_master_cannot_steer_the_terminal() -> None:
    """The same of what sources say, and of the names of queues."""
    scrape = scraped(publish=f"cannot: {HOSTILE}")

    async def scenario(screen: Screen) -> None:
        await screen.see("NOT CONNECTED", "cannot: \\x1b[2J")
        assert all(line.isprintable() for line in screen.lines())

    look(scenario, Fake(problem=HOSTILE, situation=Situation(NOW, scrape=scrape, recent={HOSTILE: 1})))


@pytest.mark.parametrize("text", ["", "abc", "abcdefghij", "漢字漢字漢字漢字", "e\u0301" * 20, "a\u200bb"])
@pytest.mark.parametrize("width", [0, 1, 2, 5, 8])
def test_texts_take_exactly_the_room_they_have(text: str, width: int) -> None:
    """Wide letters and those that take no room do not shift the columns behind them."""
    from rich.cells import cell_len

    assert cell_len(fit(text, width)) == width


# --- keys ---


MINIONS = [f"web{number:02}" for number in range(40)]


async def chosen(screen: Screen) -> str:
    """Return the minion of the chosen event."""
    await screen.pilot.pause()
    assert screen.list.event
    return screen.list.event.minion


def test_list_follows_until_an_event_is_chosen() -> None:
    """The newest event is the chosen one; once another is, that stays where it is while events come."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, MINIONS))
        assert await chosen(screen) == "web39"
        await screen.pass_(returned("next"))
        assert await chosen(screen) == "next"

        await screen.press("up", "up")
        before = screen.rows()
        await screen.pass_(*map(returned, MINIONS))
        assert (await chosen(screen), before) == ("web38", screen.rows())
        assert "End follows" in screen.text()

        await screen.press("down", "down")
        assert await chosen(screen) == "next"
        await screen.press("end")
        await screen.pass_(returned("last"))
        assert await chosen(screen) == "last"
        assert "End follows" not in screen.text()

    look(scenario)


def test_moving_beyond_the_last_event_follows() -> None:
    """Down from the newest event is as good as End."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, MINIONS))
        await screen.press("up", "down", "down")
        await screen.pass_(returned("next"))
        assert await chosen(screen) == "next"

    look(scenario)


def test_pages_and_ends() -> None:
    """Home, End and the page keys go where they say, and not beyond."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, MINIONS))
        page = screen.list.size.height - 2
        await screen.press("pageup")
        assert await chosen(screen) == f"web{39 - page:02}"
        await screen.press("home")
        assert await chosen(screen) == "web00"
        assert "web00" in screen.rows()[0]
        await screen.press("up", "pageup")
        assert await chosen(screen) == "web00"
        await screen.press("pagedown")
        assert await chosen(screen) == f"web{page:02}"

    look(scenario)


def test_chosen_event_that_is_kept_no_more_gives_way_to_the_oldest() -> None:
    """The choice moves to the oldest event that is still there."""

    async def scenario(screen: Screen) -> None:
        screen.app.history._most = 40
        await screen.pass_(*map(returned, MINIONS))
        await screen.press("home")
        await screen.pass_(*map(returned, ("a", "b", "c")))
        assert await chosen(screen) == "web03"

    look(scenario)


def test_keys_in_an_empty_list_do_nothing() -> None:
    """Before anything has passed there is nothing to choose, and no key fails."""

    async def scenario(screen: Screen) -> None:
        await screen.press("up", "down", "pageup", "pagedown", "home", "end", "enter", "t", "m", "f", "j", "escape")
        assert screen.list.event is None
        assert screen.app.screen.is_modal is False

    look(scenario)


@pytest.mark.parametrize(
    ("key", "word", "expected"),
    [
        ("m", "minion:web1", ["a.b", "c.d"]),
        ("f", "fun:a.b", ["a.b", "a.b"]),
        ("j", "jid:7", ["a.b", "a.b"]),
        ("t", "tag:salt/job/7/ret/web1", ["a.b"]),
    ],
)
def test_list_is_narrowed_to_the_chosen_event(key: str, word: str, expected: list[str]) -> None:
    """A key lets nothing pass but what shares a column with the chosen event; Escape shows everything again."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(returned("web1", "a.b", "7"), returned("web2", "a.b", "7"), returned("web1", "c.d", "8"))
        await screen.press("home", key, key)  # twice is as good as once
        await screen.see(word, f"3 events · {len(expected)} match")
        assert expected == [row.split()[3] for row in screen.rows()]
        await screen.press("escape")
        assert len(screen.rows()) == 3

    look(scenario)


def test_filter_line() -> None:
    """`/` leads to the filter, every letter filters at once, Enter leads back, Escape ends it."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, ("web1", "web2", "db1")))
        await screen.press("slash", *"web")
        assert len(screen.rows()) == 2
        await screen.press(*"1 q")
        assert [] == screen.rows()
        await screen.see("web1 q", "0 match")
        await screen.press("backspace", "backspace", "enter")
        assert screen.app.focused is screen.list
        await screen.pass_(returned("web1"), returned("web2"))
        assert ["web1", "web1"] == [row.split()[2] for row in screen.rows()]
        await screen.press("slash", "escape")
        assert screen.app.focused is screen.list
        assert len(screen.rows()) == 5

    look(scenario)


def test_freeze() -> None:
    """Space lets the list stay as it is, counts what comes meanwhile, and lets it go on."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, ("a", "b")))
        await screen.press("space")
        before = screen.rows()
        await screen.pass_(*map(returned, ("c", "d", "e")))
        await screen.see("FROZEN, 3 since")
        assert before == screen.rows()
        await screen.press("space")
        assert "FROZEN" not in screen.text()
        assert ["a", "b", "c", "d", "e"] == [row.split()[2] for row in screen.rows()]

    look(scenario)


@pytest.mark.parametrize("key", ["escape", "q", "enter", "question_mark"])
def test_detail_of_the_chosen_event(key: str) -> None:
    """Enter shows everything the chosen event holds; several keys lead back, and none of them ends the view."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(returned("web1", **{"return": {"comment": "done"}}), returned("web2"))
        await screen.press("up", "enter")
        await screen.see(f"tag: salt/job/{JID}/ret/web1", "  comment: done")
        await screen.press(key)
        assert "time     tag" in screen.text()

    look(scenario)


def test_detail_can_be_scrolled() -> None:
    """The last line of a long event is in reach."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(returned("web1", **{"return": list(range(100, 300))}))
        await screen.press("enter")
        assert "- 299" not in screen.text()
        await screen.press("end")
        await screen.see("- 299")
        await screen.press("home", "pagedown", "up", "down", "pageup")
        await screen.see("tag: ")

    look(scenario)


def test_path_can_be_hidden() -> None:
    """`p` gives the whole screen to the events, and the path its place again."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, MINIONS))
        await screen.see("Publisher")
        few = len(screen.rows())
        text = await screen.press("p")
        assert "Publisher" not in text
        assert len(screen.rows()) == 24 - 4
        text = await screen.press("p")
        assert "Publisher" in text
        assert len(screen.rows()) == few

    look(scenario)


def test_help_names_every_key() -> None:
    """`?` shows all keys with what they do, on one page of a small terminal."""

    async def scenario(screen: Screen) -> None:
        await screen.press("question_mark")
        text = await screen.see("╭─ keys")
        assert [] == [row for row in app_module.help_rows() if f"{row[0]} " not in text or row[1] not in text]

    look(scenario)


@pytest.mark.parametrize("open_", [(), ("question_mark",), ("slash", "x")])
def test_control_c_ends_it_whatever_is_open(open_: tuple[str, ...]) -> None:
    """Ctrl-C quits from the list, from a screen above it and from the filter."""

    async def scenario(screen: Screen) -> None:
        await screen.press(*open_, "ctrl+c")
        assert not screen.app.is_running or screen.app._exit

    assert look(scenario).return_code == 0


def test_q_ends_it() -> None:
    """`q` quits, with exit status 0."""

    async def scenario(screen: Screen) -> None:
        await screen.press("q")
        assert screen.app._exit

    assert look(scenario).return_code == 0


def test_every_key_is_documented() -> None:
    """docs/watch.md has a row for each key, with the words of the help."""
    page = (File(__file__).parents[2] / "docs/watch.md").read_text(encoding="utf-8")
    bindings = [*EventList.BINDINGS, *WatchApp.BINDINGS]

    assert all(isinstance(binding, Binding) for binding in bindings)
    assert [] == [row for row in app_module.help_rows() if f"| `{row[0]}` | {row[1]} |" not in page]


def test_resize_redraws() -> None:
    """A terminal that becomes larger shows more events."""

    async def scenario(screen: Screen) -> None:
        await screen.pass_(*map(returned, MINIONS))
        before = len(screen.rows())
        await screen.pilot.resize_terminal(100, 40)
        await screen.pilot.pause()
        assert Size(100, 40) == screen.app.size
        assert len(screen.rows()) == before + 16

    look(scenario)
