"""The alerts in the form for Kubernetes."""

import re

import yaml

from alerts.prometheus_rule import MANIFEST, RULES, manifest

# What the CRD knows of a group and of a rule (prometheus-operator, api/monitoring/v1, PrometheusRuleSpec).
GROUP = {"name", "labels", "interval", "query_offset", "rules", "partial_response_strategy", "limit"}
RULE = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}


def test_it_is_generated_from_the_rules() -> None:
    """What is in the repository is, byte for byte, what the program makes of the rule file."""
    assert manifest(RULES.read_text(encoding="utf-8")) == MANIFEST.read_text(encoding="utf-8")


def test_it_says_what_the_rules_say() -> None:
    """Read as YAML its spec is the rule file, and around it is what makes it a PrometheusRule."""
    document = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))

    assert yaml.safe_load(RULES.read_text(encoding="utf-8")) == document.pop("spec")
    assert ("monitoring.coreos.com/v1", "PrometheusRule") == (document.pop("apiVersion"), document.pop("kind"))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", document.pop("metadata")["name"])
    assert {} == document


def test_the_operator_knows_every_field() -> None:
    """Kubernetes drops fields that the definition of a PrometheusRule does not have: none of ours is one."""
    groups = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["spec"]["groups"]

    assert set() == {key for group in groups for key in group} - GROUP
    assert set() == {key for group in groups for rule in group["rules"] for key in rule} - RULE
