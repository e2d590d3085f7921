"""Every alert has a runbook that helps, and every runbook an alert."""

import re
import shlex

import pytest

from salt_exporter.cli import parser
from salt_exporter.master.options import OPTION
from tests.alerts.declarations import catalogue
from tests.alerts.rules import ALERTS, Alert, load_alerts

BASE = "https://github.com/salt-exporter/salt-exporter/blob/main/alerts/runbooks"
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
every_alert = pytest.mark.parametrize("alert", load_alerts(), ids=lambda alert: alert.name)


def test_every_runbook_has_its_alert() -> None:
    """No runbook is left over from an alert that is gone or renamed, and none is missing."""
    assert {path.stem for path in (ALERTS / "runbooks").glob("*")} == {alert.name for alert in load_alerts()}


@every_alert
def test_the_address_is_derived_from_the_name(alert: Alert) -> None:
    """runbook_url leads to the runbook of this very alert."""
    assert alert.annotations["runbook_url"] == f"{BASE}/{alert.name}.md"


@every_alert
def test_the_four_headings(alert: Alert) -> None:
    """A runbook is titled after its alert and has the four sections in their order."""
    lines = _runbook(alert).splitlines()

    assert lines[0] == f"# {alert.name}"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS


@every_alert
def test_the_diagnosis_has_commands(alert: Alert) -> None:
    """Under Diagnosis stand commands to paste, and nothing in the runbook is left to do."""
    diagnosis = _runbook(alert).split("## Diagnosis")[1].split("## Mitigation")[0]

    assert "```console\n$ " in diagnosis
    assert "TODO" not in _runbook(alert)


@every_alert
def test_metrics_in_runbooks_exist(alert: Alert) -> None:
    """A metric that a runbook tells to look at is one the exporter declares; some options of Salt look like one."""
    named = set(re.findall(r"\bsalt_[a-z_]+[a-z]\b", _runbook(alert)))

    assert named - set(catalogue()) - set(OPTION) == set()


@every_alert
def test_links_lead_somewhere(alert: Alert) -> None:
    """A runbook that another one, or the documentation, is to be read after is there."""
    links = re.findall(r"\]\(([^)#]+)\)", _runbook(alert))

    assert [link for link in links if not (ALERTS / "runbooks" / link).is_file()] == []


@every_alert
def test_commands_of_the_exporter_exist(alert: Alert) -> None:
    """A command line of salt-exporter in a runbook is one that its parser takes."""
    found = re.findall(r"(?:\$ |\$\(|`|-u \S+ )salt-exporter +(?!is )([^|`\n)]+)", _runbook(alert))

    for arguments in found:
        parser().parse_args(shlex.split(re.sub(r"\d?>\S+", "", arguments)))  # without redirections


def _runbook(alert: Alert) -> str:
    return (ALERTS / "runbooks" / f"{alert.name}.md").read_text(encoding="utf-8")
