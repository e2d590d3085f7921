"""From a real fault to the page: master, minions, exporter, Prometheus and Alertmanager with the shipped files.

A minute of the shipped rules and routes lasts a second here: every range and every waiting time is divided by sixty,
so that their proportions are what is tested, and nothing is written twice. The receivers are replaced by a web server
that writes down what it gets. Runs with one line of Salt, the newest installed: what Salt does in a fault is tested
for each line by other tests, the way of an alert is the same for all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from tests.alerts.alertmanager import CONFIG, NOT_HERE, find_program
from tests.alerts.rules import RULES
from tests.real.conftest import GHOST_KEY
from tests.real.exporter import Exporter
from tests.real.newest import newest_line_only
from tests.real.processes import named, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

_PROGRAMS = {"prometheus": shutil.which("prometheus"), "alertmanager": find_program()}
pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    newest_line_only("the way of an alert is the same for all"),
    pytest.mark.skipif(None in _PROGRAMS.values(), reason=f"no prometheus on the PATH, or {NOT_HERE}"),
]

_HOME = Path(__file__).with_name("programs")
_NODE = "web2"  # where the ports of another master are free
_MASTER_ADDRESS = "10.77.0.12"
_MINIONS = {"stops": "web1", "freezes": "cut"}  # and the nodes they live on
# Four that never come are not five yet: the first minion that is lost makes many of them.
_GHOSTS = ("ghost", "ghost1", "ghost2", "ghost3")
_INSTANCE = "127.0.0.1:4507"
_ALERTMANAGER = "http://127.0.0.1:9093"

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

# Writes down every notification as a line of JSON.
_RECEIVER = """
import http.server
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode().strip(), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9095), Receiver).serve_forever()
"""

# Connects to the event bus and never reads.
_CONSUMER = """
import socket, sys, time
bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
time.sleep(600)
"""


def _shortened(duration: str) -> str:
    """Return a sixtieth of a duration such as "5m"."""
    match = re.fullmatch(r"(\d+)(ms|[smhd])", duration)
    assert match, duration
    return f"{round(int(match[1]) * _SECONDS[match[2]] * 1000 / 60)}ms"


def _short_rules() -> dict[str, Any]:
    """Return the shipped rules, quicker."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[(\w+)\]", lambda match: f"[{_shortened(match[1])}]", rule["expr"])
        rule |= {key: _shortened(rule[key]) for key in ("for", "keep_firing_for") if key in rule}
    return document


def _short_routes() -> dict[str, Any]:
    """Return the shipped configuration of Alertmanager, quicker and with receivers that we hear."""
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    for route in (document["route"], *document["route"]["routes"]):
        route |= {key: _shortened(route[key]) for key in ("group_wait", "group_interval", "repeat_interval")}
    webhook = [{"url": "http://127.0.0.1:9095/", "send_resolved": True}]
    names = [receiver["name"] for receiver in document["receivers"]]
    return document | {"receivers": [{"name": name, "webhook_configs": webhook} for name in names]}


_PROMETHEUS = {
    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
    "rule_files": ["rules.yml"],
    "scrape_configs": [{"job_name": "salt", "static_configs": [{"targets": [_INSTANCE]}]}],
    "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]},
}


class Scene:
    """A master with minions and everything that watches it, and what the receivers were told."""

    def __init__(self, lab: Lab, exporter: Exporter, prefix: list[str], folder: Path) -> None:
        self.lab = lab
        self.exporter = exporter
        self._prefix = prefix
        self._folder = folder
        self._begun = 0  # messages of before

    def begin(self, messages: int | None = None) -> None:
        """Count from now on only what is told anew; with a number, all but so many messages."""
        self._begun = len(self._messages()) if messages is None else messages

    def _messages(self) -> list[str]:
        return self.lab.log("receiver").read_text().splitlines()

    def start(self, name: str, *argv: str) -> None:
        """Run a program on the master's node."""
        self.lab.start(name, argv, self._prefix)

    def start_python(self, name: str, source: str, *arguments: str) -> None:
        """Run a Python program of a few lines on the master's node."""
        script = self._folder / f"{name}.py"
        script.write_text(source)
        self.start(name, sys.executable, str(script), *arguments)

    def publish(self, target: str, number: int, size: int) -> None:
        """Publish jobs of a size as fast as Salt can."""
        program = [self.lab.programs.python, str(_HOME / "publisher.py"), str(self.lab.config_dir)]
        self.start("publisher", *program, target, str(number), "0", str(size))

    def freeze(self, name: str) -> None:
        """Let a process do nothing from now on, as a hanging host does."""
        os.kill(self.lab.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        os.kill(self.lab.pid(name), signal.SIGCONT)

    def told(self, receiver: str, status: str, alert: str) -> list[dict[str, Any]]:
        """Return what a receiver was told about an alert since `begin`: "firing" or "resolved"."""
        messages = [json.loads(line) for line in self._messages()[self._begun :]]
        return [
            told
            for message in messages
            for told in message["alerts"]
            if (message["receiver"], told["status"], told["labels"]["alertname"]) == (receiver, status, alert)
        ]

    def wait_told(self, receiver: str, status: str, alert: str) -> dict[str, str]:
        """Wait until a receiver has been told, and return the newest message's annotations."""
        self.wait(lambda: bool(self.told(receiver, status, alert)), f"{receiver} is told: {alert} {status}")
        annotations: dict[str, str] = self.told(receiver, status, alert)[-1]["annotations"]
        return annotations

    def active(self) -> set[str]:
        """Return the names of the alerts that fire and are not held back."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if not alert["status"]["inhibitedBy"]}

    def inhibited(self) -> set[str]:
        """Return the names of the alerts that Alertmanager holds back because of others."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if alert["status"]["inhibitedBy"]}

    def _alerts(self) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = json.loads(self.exporter.get("/api/v2/alerts", _ALERTMANAGER))
        return alerts

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Wait for something; AssertionError with what was told if it does not come."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = (self.lab.log(name).read_text() for name in ("receiver", "exporter"))
                raise AssertionError("\n".join((f"not after {timeout:.0f} s: {what}", *logs)))
            time.sleep(0.3)


@pytest.fixture(scope="module")
def scene(network: Network, salt_line: SaltLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Yield the scene, with every minion there and the first samples in Prometheus."""
    folder = tmp_path_factory.mktemp("paging")
    prefix = network.prefix(_NODE)
    options = {"interface": "0.0.0.0", "pub_hwm": 10, "timeout": 2, "gather_job_timeout": 2}
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=prefix)
        for ghost in _GHOSTS:
            lab.accept_key(ghost, GHOST_KEY)
        lab.start_master()
        lab.wait_master_ready()
        for minion, node in _MINIONS.items():
            lab.start_minion(minion, prefix=network.prefix(node), master=_MASTER_ADDRESS)
        exporter = Exporter(lab, prefix, folder / "state")
        scene = Scene(lab, exporter, prefix, folder)
        _start_watching(scene, folder)
        lab.wait_minions(_MINIONS)
        exporter.wait(lambda metrics: metrics.get("salt_presence_minions", state="present") == 2, 20, "both are there")
        yield scene


def _start_watching(scene: Scene, folder: Path) -> None:
    for name, document in {"rules": _short_rules(), "am": _short_routes(), "prometheus": _PROMETHEUS}.items():
        (folder / f"{name}.yml").write_text(yaml.safe_dump(document))
    prometheus, alertmanager = (program or "" for program in _PROGRAMS.values())
    scene.start_python("receiver", _RECEIVER)
    scene.start(
        "alertmanager",
        *(alertmanager, f"--config.file={folder}/am.yml", f"--storage.path={folder}/am"),
        *("--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="),
    )
    scene.start(
        "prometheus",
        *(prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"),
        "--web.listen-address=127.0.0.1:9090",
    )


def _drop_messages_before_a_consumer_that_does_not_read(scene: Scene) -> None:
    """Publish more than a frozen subscriber takes with a queue of 10 messages; the jobs' events fill the consumer."""
    scene.start_python("consumer", _CONSUMER, str(scene.lab.folder / "run/master_event_pub.ipc"))
    scene.start("frozen", sys.executable, str(_HOME / "subscriber.py"), "4505", "127.5.0.1")
    time.sleep(2)
    scene.freeze("frozen")
    scene.publish("ghost", 100, 200_000)


def test_messages_dropped_and_a_slow_consumer(scene: Scene) -> None:
    """A full queue and a program that does not read the event bus are mail with numbers and names; both end."""
    _drop_messages_before_a_consumer_that_does_not_read(scene)

    dropped = scene.wait_told("mail", "firing", "SaltMessagesDropped")
    slow = scene.wait_told("mail", "firing", "SaltEventBusConsumerSlow")

    assert re.match(rf"The Salt master on {_INSTANCE} dropped [1-9]\d* messages in the last", dropped["description"])
    assert re.match(rf"consumer\.py on {_INSTANCE} has had \d+(\.\d+)?[kM]iB or more of events", slow["description"])
    assert dropped["runbook_url"].endswith("/alerts/runbooks/SaltMessagesDropped.md")
    assert "/d/salt-message-path?var-job=salt&var-instance=127.0.0.1%3A4507" == dropped["dashboard_url"]
    scene.lab.stop("consumer")
    scene.lab.kill("frozen")


def test_workers_stopped(scene: Scene) -> None:
    """A master that listens and does not answer pages, until its workers go on."""
    # The probe's answers are late while everything starts on few processors, which may have paged already.
    scene.exporter.wait(lambda metrics: metrics.get("salt_probe_success", 0, probe="request") == 1, 30, "it answers")
    scene.wait(lambda: "SaltRequestProbeFailing" not in scene.active(), "no page is open")
    scene.begin()
    with stopped(named(scene.lab, r"MWorker(-\S+)?")):
        page = scene.wait_told("pager", "firing", "SaltRequestProbeFailing")
    assert re.match(r"In the last 5 minutes only \d+(\.\d+)?% of the time", page["description"])
    scene.wait_told("pager", "resolved", "SaltRequestProbeFailing")


def test_minions_lost_and_responses_missing(scene: Scene) -> None:
    """A stopped minion makes many absent, a frozen one owes responses: both page, and the single ones are held back."""
    assert [] == scene.told("pager", "firing", "SaltMinionsNotPresent")
    scene.begin()
    scene.lab.stop("stops")
    scene.freeze("freezes")
    scene.publish("freezes", 15, 100)

    lost = scene.wait_told("pager", "firing", "SaltMinionsNotPresent")
    missing = scene.wait_told("pager", "firing", "SaltResponsesMissing")

    assert f"83.33% of the accepted minions of {_INSTANCE} (5 minions) have no connection" in lost["description"]
    assert re.search(r"\(\d+ responses\) are missing, although the minions were connected", missing["description"])
    scene.wait(lambda: "SaltMinionNotPresent" in scene.inhibited(), "single minions are held back")
    scene.thaw("freezes")
    scene.lab.restart("stops")
    scene.wait_told("pager", "resolved", "SaltMinionsNotPresent")
    scene.wait_told("pager", "resolved", "SaltResponsesMissing")


def test_exporter_killed(scene: Scene) -> None:
    """Without the exporter its master is unwatched, which pages; when it is back nothing else has been made of it."""
    scene.begin()
    scene.lab.kill("exporter")
    page = scene.wait_told("pager", "firing", "SaltExporterDown")
    assert page["description"].startswith(f"Scrapes of {_INSTANCE} (job salt) fail.")
    scene.lab.restart("exporter")
    scene.lab.wait("exporter", scene.exporter.is_ready, 30)
    scene.wait_told("pager", "resolved", "SaltExporterDown")
    assert {"SaltExporterDown"} == _pages(scene)


def test_master_killed(scene: Scene) -> None:
    """A dead master is one page: what follows from it is held back, the event bus until it is back for good."""
    silent = ("SaltEventBusDisconnected", "SaltMinionsNotPresent")
    scene.begin()
    scene.lab.kill("master")

    page = scene.wait_told("pager", "firing", "SaltMasterDown")

    assert page["description"].startswith(f"The Salt master on {_INSTANCE} does not listen on both of its ports")
    scene.wait(lambda: scene.inhibited() >= set(silent), f"{silent} are held back")
    assert [] == [told for name in silent for told in _firing(scene, name)]
    scene.lab.restart("master")
    scene.lab.wait_master_ready()
    scene.wait_told("pager", "resolved", "SaltMasterDown")
    # The minions need as long to reconnect as ever, which is many of our short minutes: of them it may be told by now.
    assert [] == _firing(scene, "SaltEventBusDisconnected")


def test_what_was_dropped_is_over(scene: Scene) -> None:
    """Long after the last drop, and after the consumer's end, both have been told to be over."""
    scene.begin(0)
    scene.wait_told("mail", "resolved", "SaltMessagesDropped")
    scene.wait_told("mail", "resolved", "SaltEventBusConsumerSlow")


def _firing(scene: Scene, alert: str) -> list[dict[str, Any]]:
    """Return every message of any receiver that an alert fires."""
    return [told for receiver in ("pager", "mail") for told in scene.told(receiver, "firing", alert)]


def _pages(scene: Scene) -> set[str]:
    """Return the names of the alerts that have paged."""
    names = [rule.get("alert", "") for group in _short_rules()["groups"] for rule in group["rules"]]
    return {name for name in names if scene.told("pager", "firing", name)}
