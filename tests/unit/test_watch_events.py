"""Events as the terminal view has them: read, put into words, filtered, kept within bounds, told in detail."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.master.wire import Framer
from salt_exporter.watch import detail
from salt_exporter.watch.filters import Filter, only
from salt_exporter.watch.history import History
from salt_exporter.watch.passed import Notice, Passed, passed
from salt_exporter.watch.recent import HOUR, LastHour, Recent, better
from salt_exporter.watch.tape import Received, Tape

DATA = Path(__file__).parents[1] / "data"
JID = "20261122221138095125"
STAMP = "2026-11-22T22:11:38.500000"
STAMPED = 1795385498.5  # the same, Unix seconds
HOSTILE = "\x1b[2J\x1b]0;gone\x07\x9b31m\r\n\x00\u202e\u2028\ud800[bold]$(reboot)"


def body(tag: str, **data: Any) -> bytes:  # noqa: ANN401 - an event holds anything
    """Return the body of an event."""
    packed: bytes = msgpack.packb(data, unicode_errors="surrogatepass")
    return tag.encode("utf-8", "surrogatepass") + b"\n\n" + packed


def returned(minion: str = "web1", number: int = 0, /, **data: Any) -> Passed:  # noqa: ANN401 - as above
    """Return the return of a minion as a row."""
    known = {"jid": JID, "fun": "test.ping", "id": minion, "success": True, "retcode": 0}
    return passed(number, STAMPED, body(f"salt/job/{JID}/ret/{minion}", **{**known, **data}))


def said(event: Passed) -> tuple[str, str, str, str]:
    """Return what the columns behind the tag say."""
    return event.minion, event.function, event.jid, event.outcome


# --- rows ---


@pytest.mark.parametrize("line", ["3006", "3007", "3008"])
def test_recorded_master_is_put_into_words(line: str) -> None:
    """Jobs, returns, a failed one, a runner, and what a minion has forged stand in the right columns on every line."""
    bodies = Framer().feed((DATA / f"bus-{line}.bin").read_bytes())
    rows = [passed(number, 0.0, found) for number, found in enumerate(bodies)]

    by_tag = {(row.short_tag, *said(row)[:2], row.outcome) for row in rows}
    assert {
        ("salt/job/…/new", "", "test.ping", "→2"),
        ("salt/job/…/ret/…", "web1", "test.ping", "ok"),
        ("salt/job/…/ret/…", "web1", "cmd.run", "failed"),
        ("salt/run/…/ret", "", "runner.manage.not_present", "ok"),
        ("salt/job/20990101000000000000/ret/ghost", "web1", "", ""),  # the sender, not who it claims to be
        ("my/tag", "web1", "", ""),
    } <= by_tag
    assert {"cmd.run"} == {row.function for row in rows if row.bad}
    assert all(row.jid == row.tag for row in rows if row.tag.isdecimal())
    assert all(row.at > 1e9 for row in rows)  # the master's own time, not that of arrival


@pytest.mark.parametrize(
    ("tag", "data", "expected", "bad"),
    [
        (f"salt/job/{JID}/new", {"jid": JID, "fun": "f", "minions": []}, ("", "f", JID, "→?"), False),
        ("salt/auth", {"act": "accept", "id": "web1", "result": True}, ("web1", "", "", "accept"), False),
        ("salt/auth", {"act": "reject", "id": "web1", "result": False}, ("web1", "", "", "reject"), True),
        ("salt/run/1/ret", {"jid": "1", "fun": "runner.x", "success": False}, ("", "runner.x", "1", "failed"), True),
        ("salt/key", {"act": "denied", "id": "web1"}, ("web1", "", "", "denied"), True),
        ("x", {"cmd": "_minion_event", "id": "web1", "fun": "forged", "jid": "9"}, ("web1", "", "", ""), False),
        (
            f"salt/job/{JID}/start/web1",
            {"cmd": "_minion_event", "id": "web1"},
            ("web1", "", JID, "started"),
            False,
        ),
        ("x", {"fun": ["no", "text"], "jid": 7, "id": b"no", "success": "yes", "act": None}, ("", "", "", ""), False),
        ("x", {"fun": "much", "filling": "." * (1 << 16)}, ("", "", "", ""), False),  # too large to be one of Salt's
    ],
)
def test_each_kind_of_event_is_put_into_words(
    tag: str,
    data: dict[str, Any],
    expected: tuple[str, str, str, str],
    bad: bool,  # noqa: FBT001 - the case
) -> None:
    """Minion, function, job and outcome stand in their columns where an event has them; what is bad is marked."""
    event = passed(0, 0.0, body(tag, **data))

    assert expected == said(event)
    assert event.bad is bad


def test_time_is_the_masters_or_that_of_arrival() -> None:
    """An event without the master's time gets that at which it came."""
    assert (STAMPED, 5.0) == tuple(passed(0, 5.0, body("x", **data)).at for data in ({"_stamp": STAMP}, {}))


@pytest.mark.parametrize("tag", ["salt/job/7/ret/web1", "7/web1/7", "7"])
def test_short_tag_leaves_out_what_has_a_column(tag: str) -> None:
    """A part of the tag that stands in another column is left out of a narrow one; the first is kept."""
    expected = {"salt/job/7/ret/web1": "salt/job/…/ret/…", "7/web1/7": "7/…/…", "7": "7"}[tag]

    assert expected == Passed(0, 0.0, tag, "web1", "", "7", "", bad=False, body=b"").short_tag


@pytest.mark.parametrize("nonsense", [b"", b"no end of a tag", b"x\n\n", b"x\n\n\xc1", b"x\n\n\x01", b"\xff" * 5000])
def test_what_is_no_event_is_a_row_too(nonsense: bytes) -> None:
    """Bytes that make no sense are shown as such, and in detail."""
    event = passed(0, STAMPED, nonsense)

    assert event.bad
    assert event.outcome.startswith("no event: ")
    assert detail.lines(event)[0].startswith("tag: ")


def test_hostile_text_is_escaped_in_every_column_and_in_detail() -> None:
    """No letter of a row or a detail is one that steers a terminal, and the text can still be recognised."""
    event = returned(
        HOSTILE, fun=HOSTILE, jid=HOSTILE, **{"return": {HOSTILE: [HOSTILE, HOSTILE.encode("utf-8", "ignore")]}}
    )
    lines = detail.lines(event)

    columns = (event.tag, *said(event), event.short_tag)
    assert all(text.isprintable() for text in (*columns, *lines))
    assert "\\x1b[2J\\x1b]0;gone\\x07\\x9b31m\\r\\n\\x00\\u202e\\u2028" in event.minion
    assert sum("\\x1b[2J" in line for line in lines) >= 4


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)


@given(st.text(max_size=40), ANYTHING | st.fixed_dictionaries({"fun": ANYTHING, "jid": ANYTHING, "id": ANYTHING}))
def test_any_event_can_be_shown(tag: str, data: Any) -> None:  # noqa: ANN401 - that is the point
    """Whatever an event holds, its row and its detail are printable texts."""
    event = passed(0, 0.0, tag.encode() + b"\n\n" + msgpack.packb(data))

    assert all(text.isprintable() for text in (event.tag, event.short_tag, *said(event), *detail.lines(event)))


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(bytes_: bytes) -> None:
    """The same of bytes that are no event at all."""
    event = passed(0, 0.0, bytes_)

    assert all(text.isprintable() for text in (event.tag, event.short_tag, *said(event), *detail.lines(event)))


# --- detail ---


def test_detail_is_laid_out_as_salt_does() -> None:
    """Maps and lists are indented, texts of several lines stay so, and nothing is quoted."""
    event = returned(**{"return": {"out": "one\ntwo", "codes": [1, {"a": None}], "empty": {}}})

    lines = detail.lines(event)

    assert [f"tag: salt/job/{JID}/ret/web1", f"size: {len(event.body)} bytes"] == [lines[0], lines[2]]
    assert lines[lines.index("return:") :] == [
        "return:",
        "  out: |",
        "    one",
        "    two",
        "  codes:",
        "    - 1",
        "    -",
        "      a: None",
        "  empty: {}",
    ]


def test_detail_is_bounded() -> None:
    """Long texts, many lines and deep nests are cut, and the cut is said."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    event = returned(**{"return": {"long": "x" * 9_000, "deep": deep, "many": list(range(5_000))}})

    lines = detail.lines(event)

    assert len(lines) == detail.MOST_LINES + 1
    assert lines[-1] == "… and more"
    assert max(map(len, lines)) < detail.LONGEST + 100
    assert any(line.endswith("x … 7,000 more letters") for line in lines)
    assert any(line.endswith("- …") for line in lines)


# --- filter ---


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ["web1", "web2", "db1"]),
        ("  ", ["web1", "web2", "db1"]),
        ("web", ["web1", "web2"]),
        ("WEB1", ["web1"]),
        ("w*2", ["web2"]),
        ("failed", ["db1"]),
        ("minion:web*", ["web1", "web2"]),
        ("minion:web", []),
        ("minion:web[!1]", ["web2"]),
        ("fun:state.*", ["db1"]),
        (f"jid:{JID}", ["web1", "web2", "db1"]),
        ("jid:2027*", []),
        ("tag:salt/job/*/ret/db?", ["db1"]),
        ("!minion:web1", ["web2", "db1"]),
        ("!web", ["db1"]),
        ("web !minion:web1 fun:test.*", ["web2"]),
        ("minion:", ["web1", "web2", "db1"]),
        ("!", ["web1", "web2", "db1"]),
        ("state:apply", []),
        ("[", []),
    ],
)
def test_filter(line: str, expected: list[str]) -> None:
    """Words anywhere, patterns of the shell for a column, both turned round by `!`, and all of them must hold."""
    rows = [returned("web1"), returned("web2"), returned("db1", fun="state.apply", retcode=1)]
    passes = Filter(line)

    assert expected == [row.minion for row in rows if passes(row)]


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_filter(line: str) -> None:
    """No line is an error, and notices pass them all."""
    assert Filter(line)(returned()) in (True, False)
    assert Filter(line)(Notice(0, 0.0, "connected")) is True


@given(st.text(min_size=1, max_size=30))
def test_narrowing_finds_the_event_it_was_asked_for(minion: str) -> None:
    """The filter made from an event's own value lets that event pass, whatever letters are in it."""
    event = Passed(0, 0.0, "t", minion, "", "", "", bad=False, body=b"")

    assert Filter(only("minion", minion))(event)
    assert not Filter(only("minion", minion))(Passed(0, 0.0, "t", f"x{minion}", "", "", "", bad=False, body=b""))


# --- history ---


def test_history_keeps_the_newest_within_both_bounds() -> None:
    """Beyond so many rows, or so many bytes, the oldest go; all are counted."""
    size = len(returned().body)
    for history in (History(most=3), History(most_bytes=3 * size)):
        for number in range(10):
            history.add(returned("web1", number))
        assert [7, 8, 9] == [row.number for row in history.shown]
        assert history.events == 10


def test_event_larger_than_the_bound_empties_the_history() -> None:
    """One event cannot take more than all of them may."""
    history = History(most_bytes=1000)
    history.add(returned())
    history.add(returned("web1", 1, filling="." * 1000))

    assert [] == list(history.shown)
    assert history.events == 2


def test_filter_applies_to_what_has_passed_already() -> None:
    """A new filter chooses among all rows that are kept, and among those that come."""
    history = History()
    for number, minion in enumerate(["web1", "db1", "web1"]):
        history.add(returned(minion, number))
    history.filter_by(Filter("minion:web1"))
    history.add(returned("db1", 3))
    history.add(returned("web1", 4))
    chosen = [row.number for row in history.shown]
    history.filter_by(Filter())

    assert [0, 2, 4] == chosen
    assert [0, 1, 2, 3, 4] == [row.number for row in history.shown]


def test_frozen_rows_stay_while_events_are_counted() -> None:
    """What is frozen can be seen and filtered even when it is kept no more; afterwards the newest rows are seen."""
    history = History(most=3)
    for number in range(3):
        history.add(returned(f"web{number}", number))
    history.freeze()
    for number in range(3, 10):
        history.add(returned(f"web{number}", number))
    history.add(Notice(10, 0.0, "no event"))
    frozen = [row.number for row in history.shown]
    history.filter_by(Filter("web1"))
    filtered = [row.number for row in history.shown]
    history.filter_by(Filter())

    assert ([0, 1, 2], [1]) == (frozen, filtered)
    assert (history.frozen, history.meanwhile, history.events) == (True, 7, 10)
    history.thaw()
    assert (history.frozen, [8, 9, 10]) == (False, [row.number for row in history.shown])


# --- from the bus to the screen ---


def test_tape_hands_on_in_order() -> None:
    """What is put is taken in the same order, as many at a time as are asked for."""
    tape = Tape()
    tape.put([b"1", b"2"])
    tape.put([b"3"])

    assert [[b"1", b"2"], [b"3"], []] == [[item.body for item in tape.take(2)] for _ in range(3)]
    assert tape.shed == 0


@pytest.mark.parametrize("bounds", [{"most": 3}, {"most_bytes": 30}])
def test_tape_sheds_the_oldest(bounds: dict[str, int]) -> None:
    """Beyond its bounds the oldest events are thrown away and counted: who reads the bus never waits."""
    tape = Tape(**bounds)
    tape.put([b"%010d" % number for number in range(5)])
    tape.put([b"%010d" % 5])

    assert [b"%010d" % number for number in (3, 4, 5)] == [item.body for item in tape.take(10)]
    assert tape.shed == 3
    tape.put([b"6"])
    assert [b"6"] == [item.body for item in tape.take(10)]


def test_tape_marks_where_events_are_missing() -> None:
    """An empty batch is a mark between what was before and what comes; one that is thrown away is no event lost."""
    tape = Tape(most=3)
    for batch in ([b"1"], [], [b"2"]):
        tape.put(batch)
    found = [item.body for item in tape.take(10)]
    for batch in ([], [b"3", b"4", b"5"]):
        tape.put(batch)

    assert [b"1", None, b"2"] == found
    assert ([b"3", b"4", b"5"], 0) == ([item.body for item in tape.take(10)], tape.shed)


def test_tape_loses_nothing_between_threads() -> None:
    """Two threads, one putting and one taking, see every event once and in order."""
    tape = Tape()
    found: list[Received] = []
    putting = threading.Thread(target=lambda: [tape.put([b"%d" % number]) for number in range(5_000)])  # type: ignore[func-returns-value]
    putting.start()
    while putting.is_alive() or len(found) < 5_000:
        found += tape.take(100)
    putting.join()

    assert [b"%d" % number for number in range(5_000)] == [item.body for item in found]


# --- losses of the last hour ---


def test_last_hour_forgets_what_is_older() -> None:
    """Losses count from the beginning, and from an hour ago once that is longer ago."""
    hour = LastHour(1000.0)
    minutes = {number: hour.grown({"x": number}, 1000.0 + 60 * number) for number in range(121)}

    assert Recent(1000.0, {"x": 30}) == minutes[30]
    assert Recent(1000.0 + HOUR, {"x": 60}) == minutes[120]
    assert Recent(1000.0, {}) == minutes[0]


@pytest.mark.parametrize(
    ("own", "journal", "believed"),
    [({"x": 1}, {"x": 3}, "journal"), ({"x": 4}, {"x": 3}, "own"), ({}, {}, "journal"), ({"x": 1}, None, "own")],
)
def test_who_has_seen_more_is_believed(own: dict[str, int], journal: dict[str, int] | None, believed: str) -> None:
    """A daemon's journal knows what was before this view; one that is not written any more does not."""
    told = {"own": Recent(1.0, own), "journal": None if journal is None else Recent(0.0, journal)}

    assert told[believed] == better(Recent(1.0, own), told["journal"])
