"""The text formats: what is written can be read by Prometheus' own parsers, whatever the labels hold."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from salt_exporter.collectors import ALL
from salt_exporter.exposition import compress, render
from salt_exporter.metric import Distribution, Exemplar, counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric as Family

    from salt_exporter.metric import HistogramValue, Metric, Sample

GAUGE = gauge("salt_test_minions", "Minions, from a test.", "minion", "state")
COUNTER = counter("salt_test_events_total", "Events, from a test.", "kind")
HISTOGRAM = histogram("salt_test_seconds", "Seconds, from a test.", "function")
FAMILIES = (GAUGE, COUNTER, HISTOGRAM)

TEXT, OPENMETRICS = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
PROMETHEUS_2 = (  # scrape.go of 2.42
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (  # config.go of 3.0, escaping schemes and all
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
# Half of it what has a meaning in the formats, or is no text (`st.text` would all but leave that out).
LABEL = st.lists(st.characters() | st.sampled_from('\\"\n\r\0 ,={}#\udc80')).map("".join)
NUMBER = st.floats(allow_nan=False)


def filled(*observations: float) -> HistogramValue:
    """Return a histogram that has observed these."""
    distribution = Distribution((0.1, 1.0, 10.0))
    for observation in observations:
        distribution.observe(observation)
    return distribution.value()


def read(body: bytes, content_type: str) -> Series:
    """Return all series of `salt_…` as the parser of that format understands them."""
    parse = parse_openmetrics if content_type.startswith("application/openmetrics-text") else parse_text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
        if sample.name.startswith("salt_")
    }


def series(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the identity of a sample's series."""
    return sample.metric.name, frozenset(zip(sample.metric.labels, sample.labels, strict=True))


def every_family() -> tuple[list[Metric], list[Sample]]:
    """Return the declarations of all collectors, and a sample of each."""
    metrics = [metric for collector in ALL for metric in collector.metrics]
    return metrics, [
        metric(filled(0.5) if metric.kind == "histogram" else 1, **dict.fromkeys(metric.labels, 'a"b\\c\nd'))
        for metric in metrics
    ]


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
@settings(deadline=None)
@given(labels=st.lists(st.tuples(LABEL, LABEL), unique=True, max_size=4), number=NUMBER, count=st.integers(0, 2**60))
def test_what_is_written_can_be_read_again(
    accept: str, labels: list[tuple[str, str]], number: float, count: int
) -> None:
    """Both formats carry any label value and any number through Prometheus' parser unchanged."""
    samples = [GAUGE(number, minion=minion, state=state) for minion, state in labels] + [COUNTER(count, kind="x")]

    assert {series(sample): sample.value for sample in samples} == read(*render(FAMILIES, samples, accept))


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
def test_histogram_is_cumulative(accept: str) -> None:
    """A histogram is written as cumulative buckets with `le`, the last one +Inf and equal to the count, and a sum."""
    found = read(*render([HISTOGRAM], [HISTOGRAM(filled(0.1, 0.5, 0.6, 99.0), function="test.ping")], accept))

    function = ("function", "test.ping")
    assert found == {
        ("salt_test_seconds_bucket", frozenset((function, ("le", "0.1")))): 1.0,
        ("salt_test_seconds_bucket", frozenset((function, ("le", "1.0")))): 3.0,
        ("salt_test_seconds_bucket", frozenset((function, ("le", "10.0")))): 3.0,
        ("salt_test_seconds_bucket", frozenset((function, ("le", "+Inf")))): 4.0,
        ("salt_test_seconds_count", frozenset((function,))): 4.0,
        ("salt_test_seconds_sum", frozenset((function,))): pytest.approx(100.2),
    }


@pytest.mark.parametrize(("accept", "name"), [(TEXT, "salt_test_events_total"), (OPENMETRICS, "salt_test_events")])
def test_family_without_samples_keeps_help_and_type(accept: str, name: str) -> None:
    """A family that has nothing to report is still announced with its HELP and TYPE."""
    body, _content_type = render([COUNTER], [], accept)

    assert [f"# HELP {name} Events, from a test.", f"# TYPE {name} counter"] == [
        line for line in body.decode().splitlines() if "salt_" in line
    ]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,application/xml;q=0.9", "text/plain; version=0.0.4; charset=utf-8"),
        (TEXT, "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=9.9.9", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=x", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("text/plain;version=x", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_format_is_negotiated(accept: str, expected: str) -> None:
    """Who can read OpenMetrics gets it, everybody else text 0.0.4; the content type says which."""
    body, content_type = render(FAMILIES, [], accept)

    assert expected == content_type
    assert body.endswith(b"# EOF\n") is expected.startswith("application/openmetrics-text")


@given(st.text())
def test_no_accept_header_is_too_odd(accept: str) -> None:
    """Any Accept header gets one of the two formats."""
    assert render([], [], accept)[1].split(";")[0] in ("text/plain", "application/openmetrics-text")


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
def test_all_families_can_be_read(accept: str) -> None:
    """One sample of every declared metric goes through Prometheus' parser under its name and labels."""
    metrics, samples = every_family()
    found = read(*render(metrics, samples, accept))

    expected = {series(sample): sample.value for sample in samples if sample.metric.kind != "histogram"}
    assert expected == {key: found.get(key) for key in expected}
    assert {metric.name for metric in metrics} == {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, _labels in found
    }


def exemplars(body: bytes) -> list[tuple[dict[str, str], float, float]]:
    """Return labels, value and time of all exemplars, as Prometheus' parser of OpenMetrics understands them."""
    families: Iterable[Family] = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    found = [sample.exemplar for family in families for sample in family.samples]
    return [(item.labels, item.value, float(item.timestamp or 0)) for item in found if item]


def a_loss(minion: str, jid: str = "20261122101500000000") -> Sample:
    """Return a counter's sample with an exemplar."""
    return COUNTER(3, Exemplar({"jid": jid, "minion": minion}, 1.0, 1795342500.25), kind="x")


def test_exemplar_is_shown_in_openmetrics_only() -> None:
    """Who reads OpenMetrics gets job and minion of the newest loss, the text format has no place for them."""
    body, _content_type = render(FAMILIES, [a_loss("web1"), COUNTER(1, kind="y")], OPENMETRICS)
    assert [({"jid": "20261122101500000000", "minion": "web1"}, 1.0, 1795342500.25)] == exemplars(body)

    text, _content_type = render(FAMILIES, [a_loss("web1"), COUNTER(1, kind="y")], TEXT)
    assert b"20261122101500000000" not in text
    assert b"web1" not in text
    assert {3.0, 1.0} == set(read(text, TEXT).values())


def test_exemplar_is_as_long_as_openmetrics_allows() -> None:
    """Names and values of its labels together have at most 128 characters; a longer one is left out, not the value."""
    fits = 128 - len("jid" + "minion" + "20261122101500000000")
    for length, number in ((fits, 1), (fits + 1, 0)):
        body, content_type = render(FAMILIES, [a_loss("ø" * length)], OPENMETRICS)
        assert number == len(exemplars(body))
        assert [3.0] == list(read(body, content_type).values())


@given(LABEL, LABEL, st.floats(1e9, 2e9))
@settings(deadline=None)
def test_any_exemplar_can_be_read(jid: str, minion: str, time: float) -> None:
    """Whatever ids the network sends, the page stays valid, and an exemplar on it is unchanged."""
    exemplar = Exemplar({"jid": jid, "minion": minion}, 1.0, time)
    body, content_type = render(FAMILIES, [COUNTER(3, exemplar, kind="x")], OPENMETRICS)

    assert [3.0] == list(read(body, content_type).values())
    for labels, value, when in exemplars(body):
        assert ({"jid": jid, "minion": minion}, 1.0) == (labels, value)
        assert pytest.approx(time, rel=0, abs=1e-5) == when


@pytest.mark.parametrize("odd", ['we"b', "we\\b", "we\nb", "we\0b", "we\udc80b"])
def test_exemplar_that_would_need_escapes_is_left_out(odd: str) -> None:
    """An example is not worth a page that some parser refuses, or that cannot be written at all."""
    body, content_type = render(FAMILIES, [a_loss(odd), COUNTER(1, kind="y")], OPENMETRICS)

    assert [] == exemplars(body)
    assert {3.0, 1.0} == set(read(body, content_type).values())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say() -> None:
    """`promtool check metrics` accepts a page with every declared metric without a remark."""
    body, _content_type = render(*every_family())

    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_own_process_is_on_the_page() -> None:
    """The exporter's own memory, processor time and file descriptors are there as in every Prometheus client."""
    body, _content_type = render([], [])
    names = {family.name for family in parse_text(body.decode())}

    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= names


@given(st.binary())
def test_compressed_body_is_gzip(body: bytes) -> None:
    """What is compressed comes out the same."""
    assert body == gzip.decompress(compress(body))


def test_only_declared_families_are_rendered() -> None:
    """Rendering refuses a sample whose family was not announced: it would be lost silently."""
    samples: Iterable[Sample] = [COUNTER(1, kind="x")]
    with pytest.raises(KeyError):
        render([GAUGE], samples)
