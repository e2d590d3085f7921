"""The example configuration of Alertmanager: who gets an alert, and which alerts are silent while another fires."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.alerts.alertmanager import CONFIG, NOT_HERE, Alertmanager, find_program, running
from tests.alerts.rules import Alert, load_alerts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALERTS = {alert.name: alert for alert in load_alerts()}
RECEIVERS = {"critical": "pager", "warning": "mail", "info": "mail"}

# Alerts of all masters of a job.
FLEET = {"SaltMinionGone", "SaltClusterMinionsNotPresent"}

# While the first fires, the others of the same master are silent; all that are not named are told.
INHIBITED = {
    "SaltExporterDown": set(ALERTS) - {"SaltExporterDown", *FLEET},
    "SaltMasterDown": {
        "SaltEventBusConsumerSlow",
        "SaltEventBusDisconnected",
        "SaltExporterCollectorFailing",
        "SaltFileDescriptorsNearLimit",
        "SaltJobCompletionLow",
        "SaltListenQueueOverflowing",
        "SaltJobsNotPublished",
        "SaltMessagesDropped",
        "SaltMinionNotPresent",
        "SaltMinionsNotPresent",
        "SaltMinionsVanished",
        "SaltPublishQueueNearlyFull",
        "SaltRequestProbeFailing",
        "SaltRequestProbeSlow",
        "SaltRequestQueueNotEmpty",
        "SaltResponsesMissing",
        "SaltResponsesMissingByCause",
        "SaltReturnsNotStored",
        "SaltSubscribersStalled",
        "SaltWorkersSaturated",
        "SaltWorkersStuck",
    },
    "SaltMinionsNotPresent": {"SaltMinionsVanished", "SaltMinionNotPresent", "SaltJobCompletionLow"},
    "SaltMinionsVanished": {"SaltMinionNotPresent", "SaltJobCompletionLow"},
    "SaltClusterMinionsNotPresent": {"SaltMinionGone", "SaltMinionNotPresent"},  # the latter by the former
    "SaltMinionGone": {"SaltMinionNotPresent"},
    "SaltResponsesMissing": {"SaltJobCompletionLow"},
    "SaltMessagesDropped": {"SaltPublishQueueNearlyFull"},
    "SaltRequestProbeFailing": {"SaltRequestProbeSlow", "SaltWorkersStuck"},
}


@pytest.fixture(scope="module")
def amtool() -> str:
    """Return amtool's path."""
    return shutil.which("amtool") or pytest.skip("amtool, of the package prometheus-alertmanager, is not on the PATH")


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """Yield a new Alertmanager."""
    program = find_program() or pytest.skip(NOT_HERE)
    with running(program, tmp_path) as started:
        yield started


def _labels(alert: Alert, master: str = "master-1:4507") -> dict[str, str]:
    """Return the labels under which an alert reaches Alertmanager; without an instance if it is about a whole job."""
    about = {"instance": master} if "$labels.instance" in alert.annotations["description"] else {}
    minion = {"minion": "web-1"} if "minion" in alert.template_labels() else {}
    collector = {"collector": "presence"} if "collector" in alert.template_labels() else {}
    return {"alertname": alert.name, "job": "salt", **about, **minion, **collector, **alert.labels}


def test_the_configuration_is_valid(amtool: str) -> None:
    """Amtool accepts the file."""
    done = subprocess.run([amtool, "check-config", str(CONFIG)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert.name)
def test_routes(amtool: str, alert: Alert) -> None:
    """What is critical goes to the pager, everything else is mail."""
    command = [amtool, "config", "routes", "test", f"--config.file={CONFIG}"]
    labels = [f"{name}={value}" for name, value in _labels(alert).items()]
    done = subprocess.run([*command, *labels], capture_output=True, text=True, check=True)

    assert RECEIVERS[alert.labels["severity"]] == done.stdout.strip()


def _matched(matchers: list[str]) -> set[str]:
    """Return the names of our alerts that all the matchers on `alertname` match; they are anchored."""
    found = set(ALERTS)
    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr] # amtool has accepted them
        if label == "alertname":
            matching = {name for name in ALERTS if re.fullmatch(value, name)}
            found &= set(ALERTS) - matching if operator == "!=" else matching
    return found


def _inhibit_rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["inhibit_rules"]
    return rules


@pytest.mark.parametrize("rule", _inhibit_rules(), ids=lambda rule: str(rule["source_matchers"]))
def test_inhibit_rules_name_alerts_that_exist(rule: dict[str, Any]) -> None:
    """Both sides of a rule are alerts of ours, every alternative in a pattern too, and no alert inhibits itself."""
    sources, targets = _matched(rule["source_matchers"]), _matched(rule["target_matchers"])
    words = [re.search(r'=~"(?:Salt\()?([\w|]+)', matcher) for matcher in rule["target_matchers"]]
    alternatives = [word for found in words if found for word in found[1].split("|")]

    assert sources
    assert targets
    assert not sources & targets
    assert [word for word in alternatives if not any(word in name for name in targets)] == []


def _names(alerts: list[dict[str, str]]) -> set[str]:
    return {alert["alertname"] for alert in alerts}


@pytest.mark.parametrize("source", INHIBITED)
def test_what_an_alert_silences(alertmanager: Alertmanager, source: str) -> None:
    """While an alert fires, what follows from it is silent for the same master, and nothing else is."""
    # Those left out silence others by themselves, which would blur what this one does.
    others = [alert for name, alert in ALERTS.items() if name not in INHIBITED or name in INHIBITED[source]]

    inhibited = alertmanager.inhibited([_labels(alert) for alert in (ALERTS[source], *others)])

    assert INHIBITED[source] == _names(inhibited)


@pytest.mark.parametrize("source", INHIBITED)
def test_other_masters_are_told_all_the_same(alertmanager: Alertmanager, source: str) -> None:
    """An alert of one master, or about one minion, silences nothing of another one."""
    names = sorted(INHIBITED[source] - set(INHIBITED))
    others = [_labels(ALERTS[name], "master-2:4507") | {"minion": "web-2"} for name in names]

    assert names
    assert [] == alertmanager.inhibited([_labels(ALERTS[source]), *others])


def test_one_message_for_a_lost_event_bus(alertmanager: Alertmanager) -> None:
    """The collector that reads the event bus fails with it and is silent; any other collector is told."""
    failing = _labels(ALERTS["SaltExporterCollectorFailing"])
    reader = failing | {"collector": "eventbus"}

    assert [reader] == alertmanager.inhibited([_labels(ALERTS["SaltEventBusDisconnected"]), failing, reader])
