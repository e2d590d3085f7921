"""The report of `salt-exporter check`: the path hop by hop, and what is wrong on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from salt_exporter.collectors import connections, eventbus, probe, publish, request
from salt_exporter.commands.check import Report, as_text
from salt_exporter.commands.path import Finding, path
from salt_exporter.scrape import Outcome, Scrape

if TYPE_CHECKING:
    from salt_exporter.metric import Sample


def _scrape(*samples: Sample) -> Scrape:
    return Scrape((Outcome("all", (), list(samples), 0.0),))


def _port(channel: str, waiting: int, limit: int = 1000) -> list[Sample]:
    return [
        connections.CONNECTIONS(7, channel=channel, state="established"),
        connections.PEERS(5, channel=channel),
        connections.LISTEN_QUEUE(waiting, channel=channel),
        connections.LISTEN_QUEUE_LIMIT(limit, channel=channel),
    ]


_HEALTHY = [
    *_port("request", 0),
    *_port("publish", 0),
    request.RECEIVE_QUEUE_BYTES(0),
    request.UNANSWERED(0),
    request.OLDEST_UNANSWERED(0),
    request.WORKER_QUEUE(0, pool="default"),
    publish.SEND_QUEUE_BYTES(0),
    publish.BEHIND(0),
    publish.STALLED(0),
    publish.SILENT(0),
    publish.HWM_RATIO(0.1),
    eventbus.CONSUMER_QUEUE(120, process="salt-exporter"),
    probe.SUCCESS(1, probe="request"),
]


def test_path_shows_each_hop_in_order() -> None:
    """Hops stand in the order of a message's way, each with its queue and limit, and a healthy one has no finding."""
    hops, findings = path(_scrape(*_HEALTHY))

    assert [
        "request port",
        "publish port",
        "requests",
        "workers (default)",
        "publisher",
        "event bus (salt-exporter)",
        "probe (request)",
    ] == list(hops)
    assert "7 connections from 5 addresses, accept queue 0 of 1000" == hops["request port"]
    assert "worst queue 10% of pub_hwm" in hops["publisher"]
    assert [] == findings


def test_path_without_answers_is_empty() -> None:
    """Collectors that failed leave their hops out; that they failed is told elsewhere."""
    assert ({}, []) == path(_scrape())


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (_port("publish", 800), "accept queue of the publish port holds 800 of 1000: raise zmq_backlog"),
        ([probe.SUCCESS(0, probe="request")], "got no answer"),
        ([request.OLDEST_UNANSWERED(2)], "waited 2 s"),
        ([publish.HWM_RATIO(0.8)], "80% of pub_hwm"),
        ([publish.STALLED(3)], "3 subscribers read nothing"),
        ([publish.SILENT(2)], "2 subscribers answer no heartbeat"),
        ([eventbus.CONSUMER_QUEUE(50_000, process="Reactor")], "Reactor does not keep up"),
    ],
)
def test_each_trouble_is_said_in_words(samples: list[Sample], words: str) -> None:
    """At its threshold each trouble makes exactly one finding, which names it."""
    (finding,) = path(_scrape(*samples))[1]
    assert words in finding.says


@pytest.mark.parametrize(
    "sample",
    [
        request.OLDEST_UNANSWERED(1.9),
        publish.HWM_RATIO(0.79),
        eventbus.CONSUMER_QUEUE(49_999, process="Reactor"),
        probe.SUCCESS(0, probe="publish"),
    ],
)
def test_below_the_threshold_nothing_is_said(sample: Sample) -> None:
    """What lies just below is no finding."""
    assert [] == path(_scrape(sample))[1]


def test_report_says_one_cause_once() -> None:
    """A cause that blinds several collectors stands in one line, findings after it."""
    report = Report({"master": {"id": "salt"}}, [Finding("path", "is full")], {"keys": "no", "presence": "no"})

    lines = as_text(report).splitlines()

    assert ["MASTER", "  id  salt", "FINDINGS", "  could not look at keys, presence: no", "  path: is full"] == lines


def test_report_without_findings_says_so() -> None:
    """An operator who reads the last line knows that all is well."""
    assert "FINDINGS: none" == as_text(Report({}, [], {})).splitlines()[-1]
