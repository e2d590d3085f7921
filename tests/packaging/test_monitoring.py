"""The Prometheus, Alertmanager and Grafana around the exporter: deploy/compose.yml and what it mounts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.packaging.distributions import ROOT
from tests.unit.certificates import Authority

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
PROMTOOLS = {"2": shutil.which("promtool"), "3": shutil.which(str(ROOT / ".tools/3/usr/bin/promtool"))}


def mounts(service: str) -> dict[str, Path]:
    """Return the files and folders of this repository that a service mounts, by their paths in the container."""
    pairs = (str(volume).split(":") for volume in SERVICES[service]["volumes"])
    return {target: DEPLOY / source for source, target, *_ in pairs if source.startswith(".")}


def test_compose_file_follows_the_specification() -> None:
    """The schema of the Compose Specification allows the file."""
    schema = json.loads((ROOT / "tests/packaging/schemas/compose-spec.json").read_text())

    assert [] == [error.message for error in Draft202012Validator(schema).iter_errors(COMPOSE)]


@pytest.mark.parametrize("service", ["prometheus", "alertmanager", "grafana"])
def test_what_is_mounted_exists(service: str) -> None:
    """Docker would make a folder of a path that does not exist, and the service would read nothing."""
    found = mounts(service)

    assert found
    assert [] == [str(source) for source in found.values() if not source.exists()]


def test_the_exporter_runs_as_the_dockerfile_says() -> None:
    """The service has the network, the processes, the rights and the mounts of the command in the Dockerfile's head."""
    head = re.sub(r"^# ?", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    words = shlex.split(re.findall(r"docker run ((?:.*\\\n)*)", head)[0].replace("\\\n", ""))
    exporter = SERVICES["exporter"]

    assert [word for word in words if word.startswith("/")] == exporter["volumes"]
    assert ("host", "host") == (exporter["network_mode"], exporter["pid"])
    assert {"--read-only", "no-new-privileges"} <= set(words)
    assert (True, ["all"], ["no-new-privileges:true"]) == (
        exporter["read_only"],
        exporter["cap_drop"],
        exporter["security_opt"],
    )


def test_nothing_but_the_exporter_is_reached_from_outside() -> None:
    """Prometheus, Alertmanager and Grafana, which have no password yet, publish their ports on loopback only."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert 3 == len(published)
    assert [] == [port for port in published if not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-tls.yml"])
@pytest.mark.parametrize("version", PROMTOOLS)
def test_promtool_accepts_the_configuration(version: str, name: str, tmp_path: Path) -> None:
    """`promtool check config` finds no fault, with every file in place that the configuration names."""
    if not (promtool := PROMTOOLS[version]):
        pytest.skip(f"no promtool of Prometheus {version}: not on the PATH, not in .tools/3")
    for file in (DEPLOY / name, DEPLOY / "masters.yml", ROOT / "alerts/salt.rules.yml"):
        shutil.copy(file, tmp_path)
    authority = Authority(tmp_path / "tls")
    for file, wanted in zip(authority.issue("prometheus"), ("prometheus.pem", "prometheus.key"), strict=True):
        file.rename(authority.folder / wanted)
    (authority.folder / "password").write_text("secret")

    done = subprocess.run([promtool, "check", "config", tmp_path / name], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-tls.yml"])
def test_every_scrape_is_limited(name: str) -> None:
    """A job has a limit of samples, labels and bytes, and a name that the alert SaltExporterDown expects."""
    jobs = yaml.safe_load((DEPLOY / name).read_text())["scrape_configs"]
    limits = {"sample_limit", "label_limit", "label_name_length_limit", "label_value_length_limit", "body_size_limit"}

    assert jobs
    assert [] == [job for job in jobs if not limits <= job.keys() or not job["job_name"].startswith("salt")]


@pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool on the PATH")
def test_amtool_accepts_what_alertmanager_gets() -> None:
    """`amtool check-config` finds no fault with the file that Alertmanager is started with."""
    (config,) = (word.partition("=")[2] for word in SERVICES["alertmanager"]["command"] if "config.file" in word)

    done = subprocess.run(
        ["amtool", "check-config", mounts("alertmanager")[config]], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def provisioned(kind: str) -> list[dict[str, Any]]:
    """Return the entries of a kind that Grafana finds in its provisioning folder."""
    (file,) = (source for target, source in mounts("grafana").items() if f"/etc/grafana/provisioning/{kind}/" in target)
    content = yaml.safe_load(file.read_text())
    assert 1 == content["apiVersion"]
    return list(content["providers" if kind == "dashboards" else kind])


def test_grafana_finds_dashboards_and_prometheus() -> None:
    """The provider's folder is where the dashboards are mounted, and the data source is the neighbour Prometheus."""
    (provider,) = provisioned("dashboards")
    dashboards = mounts("grafana")[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert {"salt-overview.json"} <= {path.name for path in dashboards.glob("*.json")}
    assert (dashboards / Path(home).relative_to(provider["options"]["path"])).exists()
    (source,) = provisioned("datasources")
    assert "http://prometheus:9090" == source["url"]
    assert {"prometheus", "alertmanager", "grafana", "exporter"} == SERVICES.keys()


def test_the_data_source_is_that_of_the_dashboards_folder() -> None:
    """But for the address it is the one in grafana/provisioning, and its interval is that of the scrapes."""
    (source,) = provisioned("datasources")
    example = yaml.safe_load((ROOT / "grafana/provisioning/datasources.yml").read_text())["datasources"][0]
    prometheus = yaml.safe_load(mounts("prometheus")["/etc/prometheus/prometheus.yml"].read_text())

    assert example | {"url": "http://prometheus:9090"} == source
    assert prometheus["global"]["scrape_interval"] == source["jsonData"]["timeInterval"]
