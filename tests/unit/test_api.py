"""The JSON endpoints: what they answer, how they are asked, and what asking them may cost."""

from __future__ import annotations

import gzip
import json
import threading
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import bcrypt
import pytest

from salt_exporter import api
from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.causes import Cause
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.analysis.presence import Evidence, Presence, Verdict
from salt_exporter.api import Endpoint, count, endpoints, one_of, routes
from salt_exporter.errors import SourceError
from salt_exporter.journal import Journal, Loss
from salt_exporter.master.events import JobNew, JobReturn
from salt_exporter.scrape import Outcome, Scrape
from salt_exporter.web_config.live import Active
from salt_exporter.web_config.users import Users
from tests.unit.daemons import config_dir, eventually
from tests.unit.test_web import SECURITY, ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salt_exporter.world import World
    from tests.unit.conftest import Serve, Site
    from tests.unit.daemons import Daemon


class Told:
    """What the endpoints of a site do when asked, and what they were asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[], Any] = lambda: {"a": 1}

    def __call__(self, **given: Any) -> Any:  # noqa: ANN401 - any parameters, any answer
        """Answer."""
        self.asked.append(given)
        return self.answer()


@pytest.fixture
def told() -> Told:
    """Return an endpoint that a test can tell what to do."""
    return Told()


@pytest.fixture
def site(serve: Serve, told: Told) -> Site:
    """Return a site with one endpoint, `things`, that takes two parameters."""
    return serve(more=routes({"things": Endpoint(told, {"state": one_of("on", "off"), "limit": count})}))


def test_answer_is_json(site: Site, told: Told) -> None:
    """What the function returns is the answer, with the headers of every page; letters stay letters."""
    told.answer = lambda: {"é\ud800</script>": [1.5, None, True]}

    reply = ask(site, "/api/v1/things")

    assert (200, "application/json") == (reply.status, reply.headers["Content-Type"])
    assert json.loads(reply.body) == {"é\ud800</script>": [1.5, None, True]}
    assert reply.headers.items() >= SECURITY.items()


def test_answer_is_compressed_for_those_who_accept_it(site: Site) -> None:
    """Gzip is negotiated as for the metrics."""
    reply = ask(site, "/api/v1/things", headers={"Accept-Encoding": "gzip"})

    assert (reply.headers["Content-Encoding"], reply.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert json.loads(gzip.decompress(reply.body)) == {"a": 1}


def test_parameters_are_read_and_handed_on(site: Site, told: Told) -> None:
    """Each parameter is what its parser makes of it; those that are not given are left to the function."""
    ask(site, "/api/v1/things")
    ask(site, "/api/v1/things?limit=7&state=off")

    assert told.asked == [{}, {"limit": 7, "state": "off"}]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limt=1", "there is no parameter 'limt'; there are: state, limit"),
        ("limit=", "limit: expected a whole number from 1 to 100000"),
        ("limit=0", "limit: expected a whole number from 1 to 100000"),
        ("limit=100001", "limit: expected a whole number from 1 to 100000"),
        ("limit=%D9%A3", "limit: expected a whole number from 1 to 100000"),
        ("limit=-1", "limit: expected a whole number from 1 to 100000"),
        ("limit=1&limit=2", "limit is given more than once"),
        ("state=up", "state: expected one of on, off"),
        ("state=%ff", "state: 'utf-8' codec can't decode"),
    ],
)
def test_question_that_makes_no_sense_is_refused(query: str, says: str, site: Site, told: Told) -> None:
    """An unknown, repeated or impossible parameter is a 400 that names it, and the function is not asked."""
    reply = ask(site, f"/api/v1/things?{query}")

    assert (400, "application/json") == (reply.status, reply.headers["Content-Type"])
    assert json.loads(reply.body)["error"].startswith(says)
    assert told.asked == []


def test_source_that_cannot_be_asked_is_told(site: Site, told: Told) -> None:
    """What an operator has to do stands in the answer, which is a 503."""

    def fail() -> None:
        raise SourceError("the master is not there: start it")

    told.answer = fail
    reply = ask(site, "/api/v1/things")

    assert (503, {"error": "the master is not there: start it"}) == (reply.status, json.loads(reply.body))


def test_bug_is_a_bare_500(site: Site, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """Any other failure tells the client nothing; the log has it."""
    told.answer = lambda: 1 / 0

    reply = ask(site, "/api/v1/things")

    assert (500, b"500 Internal Server Error\n") == (reply.status, reply.body)
    assert "ZeroDivisionError" in caplog.text


def test_deadline(site: Site, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that hangs is a 503 after the deadline, for everybody who asks; when it goes on, so do they."""
    monkeypatch.setattr(api, "DEADLINE", 0.3)
    release = threading.Event()
    told.answer = lambda: release.wait(20)

    began = time.monotonic()
    replies = [ask(site, "/api/v1/things") for _ in range(2)]

    assert [(503, {"error": "did not answer in time"})] * 2 == [(r.status, json.loads(r.body)) for r in replies]
    assert time.monotonic() - began < 10
    assert len(told.asked) == 1  # nothing is asked again before it has answered
    release.set()
    assert eventually(lambda: ask(site, "/api/v1/things").status == 200, 5)


def test_same_question_of_many_is_asked_once(site: Site, told: Told, ask_at_once: Callable[..., list[int]]) -> None:
    """Clients that ask the same at the same time share one answer."""
    release = threading.Event()
    told.answer = lambda: release.wait(20)

    statuses = ask_at_once(lambda: ask(site, "/api/v1/things?limit=5").status, "api-things", release)

    assert (statuses, told.asked) == ([200] * 6, [{"limit": 5}])


def test_different_questions_at_once_are_bounded(site: Site, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks many different questions gets threads for four; the rest is refused, until those are answered."""
    monkeypatch.setattr(api, "DEADLINE", 0.2)
    release = threading.Event()
    told.answer = lambda: release.wait(20)

    errors = [json.loads(ask(site, f"/api/v1/things?limit={number}").body)["error"] for number in range(1, 8)]

    assert errors == ["did not answer in time"] * 4 + ["too many questions at once"] * 3
    assert len(told.asked) == 4
    release.set()
    assert eventually(lambda: ask(site, "/api/v1/things?limit=9").status == 200, 5)


def test_users_are_asked_for(site: Site, told: Told) -> None:
    """Where there are users, nobody else is answered, and the function is not asked."""
    site.use(Active(users=Users({"a": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})))

    assert ask(site, "/api/v1/things?limit=x").status == 401
    assert told.asked == []


def test_endpoints_only_read(site: Site) -> None:
    """Nothing but GET and HEAD, and no other path below /api/."""
    assert [405, 404, 404] == [
        ask(site, "/api/v1/things", "POST").status,
        ask(site, "/api/v1/").status,
        ask(site, "/api/v1/things/").status,
    ]
    head = ask(site, "/api/v1/things", "HEAD")
    assert (head.status, head.body) == (200, b"")


PRESENCE = Presence(
    {
        "a": Verdict("present", Evidence.CONNECTED, b"\x0a\0\0\1", 1.0),
        "b": Verdict("not_present", Evidence.NO_CONNECTION, b"", None),
        "c<": Verdict("not_present", Evidence.NO_CONNECTION, b"", 5.0),
    },
    0,
    0,
)


def minions(**given: Any) -> dict[str, Any]:  # noqa: ANN401 - the parameters
    """Return what the endpoint `minions` says of the presence above."""
    world = cast("World", SimpleNamespace(presence=lambda: PRESENCE))
    return cast("dict[str, Any]", endpoints(world, lambda: Scrape(()))["minions"].function(**given))


def test_minions() -> None:
    """Every minion with its state and evidence, as `salt-exporter minions --json` has it, and how many there are."""
    found = minions()

    assert found["counts"] == {"present": 1, "not_present": 2, "uncertain": 0}
    assert (list(found["minions"]), found["omitted"]) == (["a", "b", "c<"], 0)
    assert found["minions"]["a"] == {
        "state": "present",
        "evidence": PRESENCE.verdicts["a"].sentence(time.time()),
        "address": "10.0.0.1",
        "last_seen": 1.0,
    }


def test_minions_of_one_state_and_not_too_many() -> None:
    """Those in one state may be asked for, and the answer says how many of them were left out."""
    found = minions(state="not_present", limit=1)

    assert (list(found["minions"]), found["omitted"]) == (["b"], 1)


def test_losses_are_those_of_the_journal(tmp_path: Path) -> None:
    """The newest missing responses that are asked for, how many there are by cause, and how many were left out."""
    with closing(Journal(tmp_path, max_age=1e9, max_rows=100)) as journal:
        now = time.time()
        journal.record(
            Loss(f"{number}", minion, "test.ping", cause, "because", now - 9, now - age)
            for number, minion, cause, age in (
                (1, "a", "not_connected", 7200),
                (2, "a", "publisher_drop", 60),
                (3, "b<", "not_connected", 30),
            )
        )
        assert journal.flush(10)
        losses = endpoints(cast("World", SimpleNamespace(journal=journal)), lambda: Scrape(()))["losses"]

        found = losses.function(since=3600.0, limit=1)
        assert {"not_connected": 1, "publisher_drop": 1} == found["counts"]
        assert ([("3", "b<")], 1) == ([(loss["jid"], loss["minion"]) for loss in found["losses"]], found["omitted"])
        assert ["2", "1"] == [loss["jid"] for loss in losses.function(minion="a")["losses"]]
        assert ["2"] == [loss["jid"] for loss in losses.function(cause="publisher_drop")["losses"]]
        assert ["1"] == [loss["jid"] for loss in losses.function(jid="1")["losses"]]
        assert 3600.0 == losses.parameters["since"]("1h")


def test_no_journal_is_said() -> None:
    """Where none is kept nobody can be told what was lost."""
    world = cast("World", SimpleNamespace(journal=None))

    with pytest.raises(SourceError, match="keeps no loss journal"):
        endpoints(world, lambda: Scrape(()))["losses"].function()


def test_jobs_are_the_newest_first() -> None:
    """Jobs in flight come before those that are closed, each with who is expected, has returned and is missing why."""
    ledger = JobLedger(Deadlines(60.0), max_functions=5, max_jobs=5)
    for jid, stamp in (("1", 10.0), ("2", 20.0)):
        ledger.published(JobNew(jid, "test.ping", ("a", "b"), ()), stamp, stamp)
    ledger.returned(JobReturn("1", "test.ping", "a", True, False, "", False), 11.0, 11.0)  # noqa: FBT003 - a tuple
    (job,) = ledger.due(70.0)
    ledger.close(job, 70.0, 70.0, frozenset(), {"b": Cause.NOT_CONNECTED})
    jobs = endpoints(cast("World", SimpleNamespace(activity=Activity(ledger))), lambda: Scrape(()))["jobs"]

    found = jobs.function()
    assert ["2", "1"] == [item["jid"] for item in found["jobs"]]
    assert (1, 2, 0) == (found["in_flight"], found["jobs"][0]["outstanding"], found["jobs"][0]["missing"])
    assert {
        "jid": "1",
        "function": "test.ping",
        "published": 10.0,
        "expected": 2,
        "outstanding": 0,
        "missing": 1,
        "returned": 1,
        "causes": {"not_connected": 1},
    } == found["jobs"][1]
    assert ["2"] == [item["jid"] for item in jobs.function(limit=1)["jobs"]]


def test_path_shows_what_could_not_be_looked_at(tmp_path: Path) -> None:
    """The path is the report of `salt-exporter check --json`, with why collectors failed."""

    def fail() -> None:
        raise SourceError("no master")

    nothing = SimpleNamespace(current=fail)
    config = SimpleNamespace(state_directory=tmp_path)
    world = cast("World", SimpleNamespace(config=config, settings=nothing, keys=fail, presence=fail))
    scrape = Scrape((Outcome("keys", (), None, 0.1, "no master"),))

    report = endpoints(world, lambda: scrape)["path"].function()

    assert report == {"facts": {"path": {}}, "findings": [], "blind": {"keys": "no master"}}


def test_running_daemon_answers(start: Callable[..., Daemon], tmp_path: Path) -> None:
    """The daemon serves both: its one minion is absent, and the path names the master."""
    daemon = start(config_dir=config_dir(tmp_path))
    assert eventually(daemon.is_ready)

    status, body = daemon.get("/api/v1/minions?state=not_present")
    assert (status, list(json.loads(body)["minions"])) == (200, ["one"])
    status, body = daemon.get("/api/v1/path")
    report = json.loads(body)
    assert (status, report["facts"]["master"]["id"]) == (200, "here")
    assert "eventbus" in report["blind"]
    assert any("nothing listens on the publish port 14810" in finding["says"] for finding in report["findings"])
