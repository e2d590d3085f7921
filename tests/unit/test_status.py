"""The status page: what it says of a situation, what it is asked, and what hostile ids and broken sources do to it."""

from __future__ import annotations

import gzip
import re
import threading
import time
from base64 import b64encode
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter import api
from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.causes import CAUSES, Cause
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.analysis.presence import Evidence, Presence, Verdict
from salt_exporter.collectors import connections, eventbus, presence, probe, publish, request, settings
from salt_exporter.commands.check import Report
from salt_exporter.commands.path import Finding
from salt_exporter.errors import SourceError
from salt_exporter.journal import Journal, Loss, plain
from salt_exporter.master.events import JobNew
from salt_exporter.scrape import Outcome, Scrape
from salt_exporter.status import status_page
from salt_exporter.status.gather import Situation
from salt_exporter.status.hops import HOPS
from salt_exporter.status.page import REFRESH, render
from salt_exporter.status.query import ROWS, Query, parse
from salt_exporter.status.view import view
from salt_exporter.status.words import ago, instant, machine_instant, several, size
from salt_exporter.web_config.live import Active
from salt_exporter.web_config.users import Users
from tests.unit.daemons import eventually
from tests.unit.test_web import SECURITY, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from salt_exporter.metric import Metric, Sample
    from salt_exporter.world import World
    from tests.unit.conftest import Serve, Site

NOW = 1_800_000_000.0
JID = "20270115080000000000"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</style><style>*{display:none}",
    "&lt;b&gt;",
    "{{ 1/0 }}{% raw x %}",
    "line\nbreak\x00\x1b[2J\u202e\ud800",
    "javascript:alert(1)",
    "a&state=present#x",
)
VOID = {"meta", "input", "br", "link", "img", "hr"}
# What the page is made of, whatever is shown on it.
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "h1", "h2", "h3"),
    *("p", "a", "span", "strong", "em", "time", "ul", "ol", "li", "dl", "dt", "dd", "div", "meter", "details"),
    *("summary", "form", "label", "input", "select", "option", "button", "table", "thead", "tbody", "tr", "th", "td"),
}


class Page(HTMLParser):
    """A page, read strictly: what is opened is closed, in order, and no id is there twice."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""  # of all elements, but style
        self.style = ""
        self._open: list[str] = []
        self.feed(body.decode())
        self.close()
        assert self._open == []
        ids = [given["id"] for _tag, given in self.tags if "id" in given]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        assert len(attrs) == len(dict(attrs))
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a kind, those that have these attributes."""
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    def links(self) -> list[str]:
        """Return where all links lead."""
        return [link["href"] for link in self.all("a")]


def page(situation: Situation, query: Query | None = None) -> Page:
    """Return the page as a browser sees it."""
    return Page(render(situation, query or Query(), "/metrics"))


def scraped(*samples: Sample, **problems: str) -> Scrape:
    """Return a scrape of a collector "test" with these samples, and of others that have failed."""
    metrics: tuple[Metric, ...] = tuple(sample.metric for sample in samples)
    failed = (Outcome(name, (), None, 0.1, problem) for name, problem in problems.items())
    return Scrape((Outcome("test", metrics, list(samples), 0.1), *failed))


def absent(*minions: str, last_seen: float | None = None) -> Presence:
    """Return the presence of a fleet where these are away, and "here" is there."""
    verdicts = {minion: Verdict("not_present", Evidence.NO_CONNECTION, b"", last_seen) for minion in minions}
    return Presence({**verdicts, "here": Verdict("present", Evidence.CONNECTED, b"\x0a\0\0\1", NOW)}, 0, 0)


def loss(jid: str = JID, minion: str = "web1", cause: str = "not_connected", **others: Any) -> dict[str, Any]:  # noqa: ANN401 - fields
    """Return a missing response as the API has it."""
    found = Loss(jid, minion, "test.ping", cause, "no connection", NOW - 70, NOW - 60)
    return plain(replace(found, **others))


def lost(*losses: dict[str, Any], total: int = 0) -> dict[str, Any]:
    """Return what the API says of losses, `total` if they are only the newest."""
    counts = {found["cause"]: total or len(losses) for found in losses}
    return {"counts": counts, "losses": list(losses), "omitted": 0}


def job(jid: str = JID, function: str = "test.ping", **causes: int) -> dict[str, Any]:
    """Return a job as the API has it."""
    missing = sum(causes.values())
    return {
        "jid": jid,
        "function": function,
        "published": NOW - 60,
        "expected": 9,
        "missing": missing,
        "causes": causes,
    }


def test_every_cause_belongs_to_one_hop() -> None:
    """No cause is drawn nowhere, and none twice."""
    placed = [cause for hop in HOPS for cause in hop.causes]

    assert sorted(CAUSES) == sorted(placed)


@pytest.mark.parametrize("cause", CAUSES)
def test_losses_are_drawn_at_the_hop_of_their_cause(cause: Cause) -> None:
    """The hop says how many were lost there and why, the headline names it, and all other hops have lost nothing."""
    drawn = view(Situation(NOW, recent={cause.value: 3}), Query())

    (stop,) = [stop for stop in drawn.stops if stop.lost]
    assert (stop.state, stop.says) == ("lost", "3 lost in the last hour")
    assert [("3", f"/?cause={cause.value}#losses")] == [
        (share.number, share.link) for share in stop.shares if share.cause == cause.value
    ]
    assert drawn.headline == f"3 responses went missing in the last hour: all at {stop.title}."
    body = render(Situation(NOW, recent={cause.value: 3}), Query(), "/metrics").decode()
    (drawn_stop,) = re.findall(rf'<li class="stop lost" id="hop-{stop.key}">.*?</ul>', body, re.DOTALL)
    assert re.search(rf"<strong>3</strong> {cause.value}</a>", drawn_stop)


def test_headline_counts_by_hop() -> None:
    """Of several hops the one that has lost most comes first, and what the foremost cause means stands beside it."""
    drawn = view(Situation(NOW, recent={"publisher_drop": 1500, "not_connected": 2, "disconnected": 3}), Query())

    assert drawn.headline == ("1,505 responses went missing in the last hour: 1,500 at Publisher, 5 at Port 4505.")
    assert drawn.foremost is not None
    assert drawn.foremost.cause == "publisher_drop"


def test_path_is_drawn_in_the_order_in_which_messages_pass() -> None:
    """The hops are those of the way out and back, with the ports of this master."""
    master = cast("Any", SimpleNamespace(id="m", version="3008.3", request_port=4516, publish_port=4515))
    titles = [stop.title for stop in view(Situation(NOW, master=master), Query()).stops]

    assert titles == [
        *("Client", "Port 4516", "Workers", "Publisher", "Port 4515", "Minions"),
        *("Port 4516, back", "Event bus", "Job cache", "Somewhere"),
    ]


def test_queues_stand_at_their_hops_against_their_limits() -> None:
    """Each hop shows its own queue, how full it is, and whether that is alarming."""
    stops = {
        stop.key: stop
        for stop in view(
            Situation(
                NOW,
                scrape=scraped(
                    connections.LISTEN_QUEUE(900, channel="request"),
                    connections.LISTEN_QUEUE_LIMIT(1000, channel="request"),
                    connections.LISTEN_QUEUE(1, channel="publish"),
                    connections.LISTEN_QUEUE_LIMIT(1000, channel="publish"),
                    probe.SUCCESS(False, probe="request"),  # noqa: FBT003 - a value
                    publish.HWM_RATIO(0.5),
                    publish.QUEUED_MAX(500),
                    publish.STALLED(2),
                    presence.MINIONS(8, state="present"),
                    presence.MINIONS(1, state="not_present"),
                    presence.MINIONS(1, state="uncertain"),
                    request.UNANSWERED(0),
                    request.OLDEST_UNANSWERED(3),
                    eventbus.CONSUMER_QUEUE(0, process="quick"),
                    eventbus.CONSUMER_QUEUE(60_000, process="<b>slow"),
                ),
            ),
            Query(),
        ).stops
    }
    found = {
        (key, queue.name): (queue.value, queue.fill, queue.alarming)
        for key, stop in stops.items()
        for queue in stop.queues
    }

    assert found == {
        ("request", "Accept queue"): ("900 of 1,000", 0.9, True),
        ("workers", "Harmless request"): ("NOT ANSWERED", None, True),
        ("publisher", "Longest queue"): ("500 messages, 50% of pub_hwm", 0.5, False),
        ("publish", "Accept queue"): ("1 of 1,000", 0.001, False),
        ("publish", "Stalled"): ("2", None, True),
        ("minions", "Present"): ("8 of 10", 0.8, False),
        ("minions", "Not present"): ("1", None, True),
        ("minions", "Uncertain"): ("1", None, True),
        ("return", "Requests unanswered"): ("0", None, False),
        ("return", "Oldest has waited"): ("3 s", None, True),
        ("bus", "Unread by <b>slow"): ("60.0 kB", None, True),
    }
    assert {key: (stop.state, stop.says) for key, stop in stops.items() if stop.state != "alarm"} == {
        "client": ("blind", "not looked at"),
        "publisher": ("fine", "all well"),
        "cache": ("blind", "not looked at"),
        "unplaced": ("blind", "not looked at"),
    }
    assert stops["request"].says == "Accept queue: 900 of 1,000"


def test_hop_that_cannot_be_seen_says_why() -> None:
    """A collector that fails leaves its hops without figures and with the reason; it is not said that all is well."""
    drawn = view(Situation(NOW, scrape=scraped(eventbus="the bus is <gone>")), Query())

    (blind,) = [stop for stop in drawn.stops if stop.blind]
    assert {"cannot be seen", "not looked at"} == {stop.says for stop in drawn.stops}
    assert ("bus", "blind", "cannot be seen", ["the bus is <gone>"]) == (
        blind.key,
        blind.state,
        blind.says,
        blind.blind,
    )
    assert drawn.problems == ["Could not ask for the collector “eventbus”: the bus is <gone>"]


def test_nothing_lost_is_said_only_when_it_is_known() -> None:
    """An hour without losses is told as such; that nobody knows is told as such."""
    assert view(Situation(NOW, recent={}), Query()).headline == "No response went missing in the last hour."
    unknown = view(Situation(NOW, problems={"recent": "the disk is broken"}), Query())
    assert unknown.headline == "Whether responses went missing in the last hour cannot be said."
    assert "nothing lost" not in {stop.says for stop in unknown.stops}
    assert unknown.problems == ["Could not ask for the losses of the last hour: the disk is broken"]


def test_page_without_any_answer_is_a_page() -> None:
    """When no source answers the page says so for each of its parts."""
    problems = {
        name: f"{name} is broken" for name in ("master", "scrape", "report", "presence", "recent", "jobs", "losses")
    }
    found = page(Situation(NOW, problems=problems))

    for why in problems.values():
        assert why in found.text
    for part in ("minions", "jobs", "missing responses", "settings"):
        assert f"The {part} could not be asked for: see above." in found.text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_comes_from_the_network_is_text(hostile: str) -> None:
    """Ids, jids, functions, evidence and reasons add no element and no attribute, and leave no control character."""
    situation = Situation(
        NOW,
        master=cast("Any", SimpleNamespace(id=hostile, version=hostile, request_port=4506, publish_port=4505)),
        scrape=scraped(
            eventbus.CONSUMER_QUEUE(1, process=hostile.encode("utf-8", "replace").decode()), publish=hostile
        ),
        report=Report({}, [Finding("path", hostile)], {}),
        presence=absent(hostile),
        recent={hostile: 1, "unknown": 2},
        jobs={"jobs": [job(hostile, hostile, unknown=1)]},
        losses=lost(loss(hostile, hostile, hostile, function=hostile, evidence=hostile)),
        problems={"jobs": hostile},
    )
    harmless = "".join(letter for letter in hostile if letter.isprintable())

    body = render(situation, Query(search=harmless, minion=harmless, jid=harmless), "/metrics")
    found = Page(body)

    assert {tag for tag, _attributes in found.tags} <= TAGS
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", body.decode())
    attributes = {name for _tag, given in found.tags for name in given}
    assert not {name for name in attributes if name.startswith("on") or name in ("style", "src")}
    assert {True} == {link.startswith(("/", "#", "https://github.com/salt-exporter/")) for link in found.links()}
    if hostile == harmless:
        assert found.text.count(hostile) >= 8
        assert found.all("input", name="jid", value=hostile)


@given(st.text(st.characters(codec=None), max_size=30))
def test_any_id_makes_a_page(text: str) -> None:
    """There is no text, unpaired surrogates included, that the page cannot show."""
    found = page(
        Situation(
            NOW,
            presence=absent(text),
            jobs={"jobs": [job(text, text, unknown=1)]},
            losses=lost(loss(text, text, function=text, evidence=text)),
        )
    )

    assert {tag for tag, _attributes in found.tags} <= TAGS


def test_links_lead_to_the_losses_of_a_job_and_of_a_minion() -> None:
    """A jid and an id are put into links whole, whatever they are made of."""
    odd = "a&b=c#d e/é"
    situation = Situation(NOW, presence=absent(odd), jobs={"jobs": [job(odd, unknown=1)]}, losses=lost(loss(odd, odd)))

    links = page(situation).links()

    encoded = "a%26b%3Dc%23d+e%2F%C3%A9"
    assert links.count(f"/?minion={encoded}#losses") == links.count(f"/?jid={encoded}#losses") == 2


MANY = absent(*(f"web{number:05}" for number in range(20_000)))


def test_twenty_thousand_absent_minions_come_in_pages() -> None:
    """A page has fifty rows and is small; the first and the last lead only where there is something."""
    bodies = {
        number: render(Situation(NOW, presence=MANY), Query(page=number), "/metrics") for number in (1, 7, 400, 900)
    }

    rows = {number: re.findall(r">(web\d{5})</a>", body.decode()) for number, body in bodies.items()}
    assert [len(found) for found in rows.values()] == [ROWS, ROWS, ROWS, 0]
    assert (rows[1][0], rows[7][0], rows[400][-1]) == ("web00000", "web00300", "web19999")
    assert max(map(len, bodies.values())) < 50_000
    steps = {
        number: [link for link in Page(body).links() if re.search(r"page=\d+#", link)]
        for number, body in bodies.items()
    }
    assert steps == {
        1: ["/?page=2#minions"],
        7: ["/?page=6#minions", "/?page=8#minions"],
        400: ["/?page=399#minions"],
        900: ["/?page=400#minions"],
    }
    assert "Minions: 301 to 350 of 20,000" in Page(bodies[7]).text


def test_minions_are_searched_by_part_of_their_id_and_by_state() -> None:
    """The search takes any case; without a state it is for those who may be away, with one for any of them."""

    def found(query: Query) -> list[str]:
        return [row.minion for row in view(Situation(NOW, presence=MANY), query).minions or ()]

    assert found(Query(search="WEB0123")) == [f"web0123{digit}" for digit in range(10)]
    assert found(Query(search="here")) == []
    assert found(Query(search="her", state="present")) == ["here"]
    assert found(Query(state="uncertain")) == []


def test_minion_is_shown_with_evidence_and_last_sign_of_life() -> None:
    """When it was last seen, if ever, and what the verdict rests on."""
    (row,) = view(Situation(NOW, presence=absent("a", last_seen=NOW - 7200)), Query()).minions or []
    (never,) = view(Situation(NOW, presence=absent("a")), Query()).minions or []

    assert row.seen is not None
    assert ("not present", "2 h ago", "no connection from any of its addresses") == (
        row.state,
        row.seen.ago,
        row.evidence,
    )
    assert never.seen is None


def test_forms_keep_what_the_other_form_asked() -> None:
    """Searching minions does not forget which losses are shown, nor the other way round; both begin at page 1."""
    query = Query(search="w", page=3, jid=JID, losses=2, refresh="off")
    found = page(Situation(NOW, presence=MANY, losses=lost(loss(), total=500)), query)

    hidden = [(given["name"], given["value"]) for given in found.all("input", type="hidden")]
    assert hidden == [
        ("jid", JID),
        ("losses", "2"),
        ("refresh", "off"),
        ("search", "w"),
        ("page", "3"),
        ("refresh", "off"),
    ]
    assert {"get"} == {form["method"] for form in found.all("form")}


def test_jobs_that_are_incomplete_are_listed_with_causes() -> None:
    """Complete jobs are left out; the newest of the others come first, no more than a screen of them."""
    jobs = [job("1"), job("2", not_connected=2, unknown=1), *(job(str(number), unknown=1) for number in range(3, 90))]
    rows = view(Situation(NOW, jobs={"jobs": jobs}), Query()).jobs or []

    assert (rows[0].jid, rows[0].missing, rows[0].expected) == ("2", "3", "9")
    assert [("2", "not_connected"), ("1", "unknown")] == [(share.number, share.cause) for share in rows[0].shares]
    assert len(rows) == 25


def test_losses_say_what_has_come_after_all_and_come_in_pages() -> None:
    """A late response is marked; older losses are a link away."""
    newest = [loss(str(number), recovered=NOW - 30) for number in range(2 * ROWS)]
    drawn = view(Situation(NOW, losses=lost(*newest, total=450)), Query(losses=2, cause="not_connected"))

    assert drawn.losses is not None
    assert ([str(number) for number in range(ROWS, 2 * ROWS)]) == [row.jid for row in drawn.losses]
    assert drawn.loss_pages == (
        "51 to 100 of 450",
        "/?cause=not_connected#losses",
        "/?cause=not_connected&losses=3#losses",
    )
    assert drawn.losses[0].recovered is not None
    assert ("30 s ago", "Port 4505") == (drawn.losses[0].recovered.ago, drawn.losses[0].hop)


def test_settings_come_with_advice() -> None:
    """What is too small for this number of minions is marked, what has no effect is told; the others come last."""
    drawn = view(
        Situation(
            NOW,
            scrape=scraped(
                settings.VALUE(0.5, option="loop_interval"),
                settings.VALUE(24, option="keep_jobs"),
                settings.EFFECTIVE(0, option="keep_jobs"),
                settings.VALUE(1_048_576, option="max_event_size"),
                settings.VALUE(1000, option="pub_hwm"),
                settings.RECOMMENDED(64000, option="pub_hwm"),
                settings.VALUE(5, option="worker_threads"),
                settings.RECOMMENDED(5, option="worker_threads"),
            ),
        ),
        Query(),
    )

    assert drawn.settings == [
        ("keep_jobs", "24", "", "no effect: this Salt does not read it", False),
        ("pub_hwm", "1,000", "64,000", "raise it to 64,000", True),
        ("worker_threads", "5", "5", "enough", False),
    ]
    assert drawn.other_settings == [
        ("loop_interval", "0.5", "", "", False),
        ("max_event_size", "1,048,576", "", "", False),
    ]


def test_findings_are_those_that_have_no_section_of_their_own() -> None:
    """What `check` finds about path, master and settings is listed; minions and losses are shown anyway."""
    findings = [Finding(about, f"look at {about}") for about in ("master", "minions", "settings", "losses", "path")]

    assert view(Situation(NOW, report=Report({}, findings, {})), Query()).findings == [
        *("look at master", "look at settings", "look at path"),
    ]


def test_page_is_accessible() -> None:
    """One first heading, none left out below it; tables have headings, fields have labels, sections have names."""
    situation = Situation(NOW, presence=absent("a"), jobs={"jobs": [job(unknown=1)]}, losses=lost(loss()))
    found = page(situation)

    levels = [int(tag[1]) for tag, _attributes in found.tags if re.fullmatch(r"h\d", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert {"col", "row"} == {heading["scope"] for heading in found.all("th")}
    ids = {given["id"] for _tag, given in found.tags if "id" in given}
    assert {section["aria-labelledby"] for section in found.all("section")} <= ids
    assert {link[1:] for link in found.links() if link.startswith("#")} <= ids
    fields = [given for tag, given in found.tags if tag in ("input", "select") and given.get("type") != "hidden"]
    assert len(found.all("label")) == len(fields) == 5
    assert found.all("html", lang="en")
    assert found.all("meta", name="viewport")


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_colours_can_be_told_apart_by_all() -> None:
    """Every colour of text has at least the contrast 4.5 that WCAG AA wants to what it stands on, light and dark."""
    style = page(Situation(NOW)).style
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]

    assert len(schemes) == 2
    for scheme in schemes:
        pairs = [
            (text, ground) for text in ("ink", "soft", "link", "bad", "warn", "good") for ground in ("back", "card")
        ]
        pairs += [
            ("bad", "bad-back"),
            ("ink", "bad-back"),
            ("soft", "bad-back"),
            ("link", "bad-back"),
            ("warn", "bad-back"),
        ]
        pairs += [("warn", "warn-back"), ("ink", "warn-back"), ("good", "good-back"), ("ink", "good-back")]
        assert {} == {
            pair: contrast(scheme[pair[0]], scheme[pair[1]])
            for pair in pairs
            if contrast(scheme[pair[0]], scheme[pair[1]]) < 4.5
        }


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, Query()),
        ({"search": [b""], "state": [b""], "cause": [b" "]}, Query()),
        ({"search": [b" w "], "page": [b"2"], "state": [b"uncertain"]}, Query(search="w", page=2, state="uncertain")),
        ({"minion": ["é".encode()], "jid": [b"1"], "cause": [b"unknown"]}, Query(minion="é", jid="1", cause="unknown")),
        ({"losses": [b"1000"], "refresh": [b"off"]}, Query(losses=1000, refresh="off")),
    ],
)
def test_query_is_read(given: dict[str, list[bytes]], query: Query) -> None:
    """What a form sends is read, and what it left empty is not given."""
    assert query == parse(given)


class Stage:
    """A world whose sources do as a test says, and the site that shows it."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, max_age=1e9, max_rows=1000)
        self.asked: list[str] = []
        self.scrape = scraped(publish.STALLED(0))
        self.does: dict[str, Callable[[], object]] = {}  # by source, before it answers
        ledger = JobLedger(Deadlines(60.0), max_functions=5, max_jobs=5)
        ledger.published(JobNew(JID, "test.ping", ("a", "web1"), ()), NOW, 10.0)
        (due,) = ledger.due(70.0)
        ledger.close(due, 70.0, NOW, frozenset("a"), {"web1": Cause.NOT_CONNECTED})
        self._activity = Activity(ledger)
        now = time.time()
        self.journal.record([Loss(JID, "web1", "test.ping", "not_connected", "because", now - 9, now - 5)])
        assert self.journal.flush(10)

    def world(self) -> World:
        """Return what the page may ask."""
        master = SimpleNamespace(id="here", version="3008.3", request_port=4506, publish_port=4505)
        stage = self

        class Acting:
            config = SimpleNamespace(state_directory=None)
            sampler = SimpleNamespace(snapshot=self._fail)
            settings = SimpleNamespace(current=lambda: self._play("master", master))
            keys = staticmethod(self._fail)

            @staticmethod
            def presence() -> Presence:
                return cast("Presence", stage._play("presence", absent("gone")))

            @property
            def activity(self) -> Activity:
                return cast("Activity", stage._play("jobs", stage._activity))

            @property
            def journal(self) -> Journal:
                return cast("Journal", stage._play("losses", stage.journal))

        return cast("World", Acting())

    def ask_all(self) -> Scrape:
        """Return the scrape."""
        return cast("Scrape", self._play("scrape", self.scrape))

    def _fail(self) -> None:
        raise SourceError("not in this test")

    def _play(self, source: str, answer: object) -> object:
        self.asked.append(source)
        self.does.get(source, lambda: None)()
        return answer


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Return a world in which all sources answer."""
    stage = Stage(tmp_path)
    monkeypatch.setattr("salt_exporter.commands.check.look", lambda _world, _scrape: Report({}, [], {}))
    with closing(stage.journal):
        yield stage


@pytest.fixture
def site(serve: Serve, stage: Stage) -> Site:
    """Return a site with the status page."""
    return serve(more=[status_page(stage.world(), stage.ask_all, "/salt-metrics")])


def test_page_is_served(site: Site) -> None:
    """The page shows the master, the minion that is away, the job, the missing response, and leads everywhere else."""
    reply = ask(site, "/")

    assert (200, "text/html; charset=utf-8") == (reply.status, reply.headers["Content-Type"])
    found = Page(reply.body)
    assert "Master here, Salt 3008.3" in " ".join(found.text.split())
    assert {f"/?jid={JID}#losses", "/?minion=gone#losses", "/?minion=web1#losses"} <= set(found.links())
    assert found.links()[-8:-1] == [
        *("/salt-metrics", "/-/healthy", "/-/ready"),
        *("/api/v1/path", "/api/v1/minions", "/api/v1/jobs", "/api/v1/losses"),
    ]


def test_page_is_compressed_for_those_who_accept_it(site: Site) -> None:
    """Gzip is negotiated as for the metrics."""
    reply = ask(site, "/", headers={"Accept-Encoding": "gzip"})

    assert (reply.headers["Content-Encoding"], reply.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert Page(gzip.decompress(reply.body)).all("h1")


def test_head_is_get_without_the_body(site: Site) -> None:
    """HEAD has the status and the headers of GET."""
    head, get = ask(site, "/", "HEAD"), ask(site, "/")

    assert (head.status, head.body, head.headers.keys()) == (200, b"", get.headers.keys())
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_page_takes_nothing(method: str, site: Site) -> None:
    """Nothing can be sent to it."""
    reply = ask(site, "/", method)

    assert (405, "GET, HEAD") == (reply.status, reply.headers["Allow"])


def test_policy_allows_our_style_sheet_and_nothing_else(site: Site) -> None:
    """The policy names the style sheet by its hash and lets forms come back here; the page needs no more than that."""
    reply = ask(site, "/")
    found = Page(reply.body)

    digest = b64encode(sha256(found.style.encode()).digest()).decode()
    assert reply.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    others = {name: value for name, value in SECURITY.items() if name != "Content-Security-Policy"}
    assert reply.headers.items() >= others.items()
    assert "url(" not in found.style
    assert "@import" not in found.style
    assert {tag for tag, _attributes in found.tags} <= TAGS
    assert {True} == {form["action"].startswith("/#") for form in found.all("form")}
    assert re.findall(rb"https?://[^\"' ]+", reply.body) == [
        b"https://github.com/salt-exporter/salt-exporter/tree/main/docs"
    ]


def test_page_refreshes_itself_until_it_is_told_to_stand_still(site: Site) -> None:
    """A reload keeps the query, for no other address is named; a link stops it and keeps the query too."""
    refreshing = Page(ask(site, "/?search=gone").body)
    standing = Page(ask(site, "/?search=gone&refresh=off").body)

    assert [{"http-equiv": "refresh", "content": str(REFRESH)}] == refreshing.all("meta", **{"http-equiv": "refresh"})
    assert "/?search=gone&refresh=off" in refreshing.links()
    assert standing.all("meta", **{"http-equiv": "refresh"}) == []
    assert "/?search=gone" in standing.links()


def test_losses_are_those_asked_for(site: Site) -> None:
    """Minion, job and cause narrow the missing responses down."""

    def number(query: str) -> int:
        return ask(site, f"/?{query}").body.count(b"<strong>not_connected</strong>: because")

    assert [1, 1, 1, 0, 0, 0] == [
        number(query)
        for query in ("minion=web1", f"jid={JID}", "cause=not_connected", "minion=web", "jid=1", "cause=unknown")
    ]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=1", "there is no parameter 'limit'; there are: search, state, page"),
        ("%3Cb%3E=1", "there is no parameter '<b>'"),
        ("page=0", "page: expected a whole number from 1 to 1000"),
        ("page=1001", "page: expected a whole number from 1 to 1000"),
        ("page=%D9%A3", "page: expected a whole number from 1 to 1000"),
        ("losses=x", "losses: expected a whole number from 1 to 1000"),
        ("page=1&page=2", "page is given more than once"),
        ("state=up", "state: expected one of present, not_present, uncertain"),
        ("cause=bad", "cause: expected one of unknown_minion"),
        ("refresh=1", "refresh: expected one of off"),
        ("search=%ff", "search: 'utf-8' codec can't decode"),
        ("minion=a%00b", "minion: expected letters that can be printed"),
        (f"jid={'1' * 257}", "jid: expected at most 256 letters"),
    ],
)
def test_query_that_makes_no_sense_is_refused(query: str, says: str, site: Site, stage: Stage) -> None:
    """What is no query is a 400 that says why as plain text, and no source is asked."""
    reply = ask(site, f"/?{query}")

    assert (400, "text/plain; charset=utf-8") == (reply.status, reply.headers["Content-Type"])
    assert reply.body.decode().startswith(says)
    assert stage.asked == []


PARTS = {
    "master": "the master's settings",
    "scrape": "the queues on the path, the findings",
    "presence": "the minions",
    "jobs": "the jobs",
    "losses": "the losses of the last hour, the missing responses",
}


@pytest.mark.parametrize("source", PARTS)
def test_source_that_fails_is_named_and_the_rest_is_shown(source: str, site: Site, stage: Stage) -> None:
    """The page says what it could not ask, and why; all the other parts are there."""

    def fail() -> None:
        raise SourceError("the <b>disk</b> is gone")

    stage.does[source] = fail
    reply = ask(site, "/")

    found = Page(reply.body)
    assert (200, 1) == (reply.status, found.text.count(f"Could not ask for {PARTS[source]}: the <b>disk</b> is gone"))
    shown = {
        "master": "Salt 3008.3",
        "scrape": "Stalled",
        "presence": "no connection from any of its addresses",
        "jobs": "1 of 2",
        "losses": "because",
    }
    assert {source} == {part for part, text in shown.items() if text not in found.text}


def test_source_that_hangs_costs_its_part_alone(site: Site, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page comes after the deadline, without what hangs; and when that goes on, so does the page."""
    monkeypatch.setattr(api, "DEADLINE", 0.3)
    release = threading.Event()
    stage.does["presence"] = lambda: release.wait(20)

    began = time.monotonic()
    found = Page(ask(site, "/").body)

    assert time.monotonic() - began < 10
    assert "Could not ask for the minions: did not answer in time" in found.text
    assert "because" in found.text
    Page(ask(site, "/").body)
    assert stage.asked.count("presence") == 1  # it is not asked again before it has answered
    release.set()
    assert eventually(lambda: "Could not ask" not in Page(ask(site, "/").body).text, 5)


def test_bug_is_logged_and_costs_its_part_alone(site: Site, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """What we have done wrong is no business of the viewer's; the log has it."""
    stage.does["presence"] = lambda: 1 / 0

    found = Page(ask(site, "/").body)

    assert "Could not ask for the minions: failed; the exporter's log says how" in found.text
    assert "ZeroDivisionError" in caplog.text


def test_viewers_at_the_same_time_share_one_gathering(
    site: Site, stage: Stage, ask_at_once: Callable[..., list[int]]
) -> None:
    """Six viewers cost as much as one."""
    release = threading.Event()
    stage.does["presence"] = lambda: release.wait(20)

    statuses = ask_at_once(lambda: ask(site, "/").status, "status-presence", release)

    assert statuses == [200] * 6
    assert stage.asked.count("presence") == 1


def test_different_filters_at_once_are_bounded(site: Site, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for many different losses gets threads for four; the other pages say that they lack them."""
    monkeypatch.setattr(api, "DEADLINE", 0.2)
    release = threading.Event()
    stage.does["losses"] = lambda: release.wait(20)

    texts = [Page(ask(site, f"/?jid={number}").body).text for number in range(6)]

    assert ["too many different questions at once" in text for text in texts] == [False] * 4 + [True] * 2
    release.set()


def test_users_are_asked_for(site: Site, stage: Stage) -> None:
    """Where there are users, nobody else sees anything, and no source is asked."""
    site.use(Active(users=Users({"a": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})))

    reply = ask(site, "/")
    assert (401, b"401 Unauthorized\n") == (reply.status, reply.body)
    assert stage.asked == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "now"), (0.4, "now"), (59.4, "59 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")],
)
def test_ago(seconds: float, said: str) -> None:
    """A time is told in the largest unit it fills."""
    assert said == ago(seconds)


def test_numbers_and_times_in_words() -> None:
    """Bytes have units, things a plural, and what is no time is not shown as one."""
    assert ["0 bytes", "999 bytes", "1.5 kB", "2.0 MB", "3.0 GB"] == [size(n) for n in (0, 999, 1500, 2e6, 3e9)]
    assert ["0 jobs", "1 job", "2,000 jobs"] == [several(number, "job") for number in (0, 1, 2000)]
    assert [""] * 4 == [instant(None), instant(1e300), machine_instant(float("nan")), machine_instant(float("inf"))]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", instant(NOW))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", machine_instant(NOW))
