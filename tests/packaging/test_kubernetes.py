"""deploy/kubernetes: the exporter beside a salt-master in a pod."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from salt_exporter import cli, config
from tests.packaging.distributions import ROOT

FOLDER = ROOT / "deploy/kubernetes"
OBJECTS = {item["kind"]: item for item in yaml.safe_load_all((FOLDER / "salt-master.yml").read_text())}
MONITOR = yaml.safe_load((FOLDER / "podmonitor.yml").read_text())
TEMPLATE = OBJECTS["StatefulSet"]["spec"]["template"]
POD = TEMPLATE["spec"]
CONTAINERS = {container["name"]: container for container in POD["containers"]}
EXPORTER = CONTAINERS["salt-exporter"]


def mounts(container: dict[str, Any]) -> dict[str, str]:
    """Return the paths of the volumes in a container, by their names."""
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def test_volumes_are_declared_and_used() -> None:
    """Every volume that is mounted exists, and every one that exists is mounted."""
    declared = {volume["name"] for volume in POD["volumes"]}
    claimed = {claim["metadata"]["name"] for claim in OBJECTS["StatefulSet"]["spec"]["volumeClaimTemplates"]}

    assert declared | claimed == {name for container in CONTAINERS.values() for name in mounts(container)}
    assert OBJECTS["ConfigMap"]["metadata"]["name"] == POD["volumes"][0]["configMap"]["name"]


def test_the_exporter_sees_what_the_master_has() -> None:
    """All of the master's volumes are in the exporter's container under the same paths, but read-only."""
    master, exporter = mounts(CONTAINERS["salt-master"]), mounts(EXPORTER)
    writable = {mount["name"] for mount in EXPORTER["volumeMounts"] if not mount.get("readOnly")}

    assert master == {name: path for name, path in exporter.items() if name in master}
    assert {"exporter": "/var/lib/salt-exporter"} == {name: exporter[name] for name in writable}
    assert POD["shareProcessNamespace"]


def test_the_exporter_has_no_rights() -> None:
    """It runs as the master's user, not as root, without capabilities and without a file system to write to."""
    assert 0 < POD["securityContext"]["runAsUser"]
    assert "runAsUser" not in EXPORTER["securityContext"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == EXPORTER["securityContext"]


def test_variables_of_a_service_stay_out() -> None:
    """A Service named like the exporter would make it refuse its environment, so the pod is spared those variables."""
    with pytest.raises(config.ConfigError, match="SALT_EXPORTER_PORT is no setting"):
        config.load({}, {"SALT_EXPORTER_PORT": "tcp://10.96.0.7:4507"})
    assert POD["enableServiceLinks"] is False


def test_arguments_are_settings() -> None:
    """The exporter takes the arguments of its container."""
    assert "json" == config.load(vars(cli.parser().parse_args(EXPORTER["args"])), {}).log_format


def test_probes_never_take_the_master_from_its_service() -> None:
    """The liveness probe is the image's health check, and an exporter that is not ready leaves the pod ready."""
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert yaml.safe_load(check) == EXPORTER["livenessProbe"]["exec"]["command"]
    assert "readinessProbe" not in EXPORTER


def test_names_lead_to_the_pod() -> None:
    """Service and PodMonitor select the pod by its labels, and its ports by their names."""
    ports = {port["name"]: port["containerPort"] for item in CONTAINERS.values() for port in item["ports"]}
    service = OBJECTS["Service"]["spec"]

    assert service["selector"].items() <= TEMPLATE["metadata"]["labels"].items()
    assert {port["port"] for port in service["ports"]} == {ports[port["targetPort"]] for port in service["ports"]}
    assert "Local" == service["externalTrafficPolicy"]
    assert MONITOR["spec"]["selector"]["matchLabels"].items() <= TEMPLATE["metadata"]["labels"].items()
    assert ["metrics"] == [endpoint["port"] for endpoint in MONITOR["spec"]["podMetricsEndpoints"]]


def test_limits_are_those_of_the_scrape_configuration() -> None:
    """The PodMonitor limits a scrape as deploy/prometheus.yml does."""
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    limits = {name: value for name, value in job.items() if name.endswith("_limit")}
    camel = {re.sub(r"_(\w)", lambda letter: letter[1].upper(), name): value for name, value in limits.items()}

    assert len(camel) == 5
    assert camel.items() <= MONITOR["spec"].items()
