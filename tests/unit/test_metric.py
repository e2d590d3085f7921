"""The vocabulary: what a declaration refuses, and what becomes of labels, values and histograms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.metric import (
    MAX_LABEL_LENGTH,
    Distribution,
    Exemplar,
    HistogramValue,
    Metric,
    counter,
    gauge,
    histogram,
)

if TYPE_CHECKING:
    from salt_exporter.metric import Kind

PLAIN = gauge("salt_test_plain", "A gauge without labels.")
LABELLED = gauge("salt_test_labelled", "A gauge with two labels.", "minion", "state")
COUNTER = counter("salt_test_events_total", "A counter.")
HISTOGRAM = histogram("salt_test_seconds", "A histogram.", "function")
EMPTY = HistogramValue((1.0,), (0, 0), 0.0)

# Half of it surrogates, which stand for bytes that were no UTF-8. (`st.text` would all but leave them out.)
ODD_TEXT = st.lists(st.characters() | st.sampled_from("\ud800\udc80\udfff")).map("".join)


@pytest.mark.parametrize(
    "name", ["", "salt", "salt_", "salt_X", "Salt_x", "minions", "salt_1x", "salt_x_", "salt_é", "salt_a-b", "salt_a b"]
)
def test_name_must_be_ours(name: str) -> None:
    """A name that is not `salt_…` in lower case is refused when it is declared."""
    with pytest.raises(ValueError, match=r"must be salt_… in lower case"):
        gauge(name, "A sentence.")


@pytest.mark.parametrize(
    ("kind", "name"), [("gauge", "salt_xy_total"), ("histogram", "salt_xy_total"), ("counter", "salt_xy")]
)
def test_total_is_for_counters(kind: Kind, name: str) -> None:
    """Counters, and only counters, end in `_total`."""
    with pytest.raises(ValueError, match="only counters, end in _total"):
        Metric(name, kind, "A sentence.", ())


@pytest.mark.parametrize("text", ["", "no sentence", "A question?"])
def test_help_must_be_a_sentence(text: str) -> None:
    """HELP that does not end in a full stop is refused."""
    with pytest.raises(ValueError, match="HELP must be a full sentence"):
        gauge("salt_xy", text)


def test_sample_holds_labels_in_declared_order() -> None:
    """Labels are given by name in any order, and kept in the order of the declaration."""
    sample = LABELLED(3, state="present", minion="m1")

    assert (LABELLED, ("m1", "present"), 3.0) == (sample.metric, sample.labels, sample.value)


@pytest.mark.parametrize(
    "labels", [{}, {"minion": "a"}, {"minion": "a", "stat": "b"}, {"minion": "a", "state": "b", "jid": "c"}]
)
def test_wrong_labels_are_refused(labels: dict[str, str]) -> None:
    """A missing, an unknown or a further label is an error at once, not a wrong series."""
    with pytest.raises(ValueError, match=r"salt_test_labelled takes the labels \('minion', 'state'\)"):
        LABELLED(1, **labels)
    with pytest.raises(ValueError, match="salt_test_plain takes the labels"):
        PLAIN(1, minion="a")


@pytest.mark.parametrize("value", ["x", None, [1]])
def test_value_must_be_a_number(value: object) -> None:
    """What is no number fails where it is reported, not when everything is rendered."""
    odd: Any = value
    with pytest.raises((ValueError, TypeError)):
        PLAIN(odd)


def test_histogram_takes_only_histogram_values() -> None:
    """A histogram takes no number, and nothing else takes the value of a histogram."""
    assert HISTOGRAM(EMPTY, function="f").value == EMPTY
    with pytest.raises(ValueError, match="is a histogram"):
        HISTOGRAM(1, function="f")
    with pytest.raises(ValueError, match="is a gauge"):
        PLAIN(EMPTY)
    with pytest.raises(ValueError, match="is a counter"):
        COUNTER(EMPTY)


def test_only_counters_have_exemplars() -> None:
    """An example belongs to something that was counted: anywhere else OpenMetrics has no place for it."""
    exemplar = Exemplar({"jid": "1"}, 1.0, 0.0)
    assert COUNTER(1, exemplar).exemplar is exemplar
    assert COUNTER(1).exemplar is None
    with pytest.raises(ValueError, match="is a gauge: only counters have exemplars"):
        PLAIN(1, exemplar)
    with pytest.raises(ValueError, match="is a histogram: only counters have exemplars"):
        HISTOGRAM(EMPTY, exemplar, function="f")


def test_label_must_be_text() -> None:
    """A label value that is no text fails where it is reported."""
    odd: Any = 5
    with pytest.raises((AttributeError, TypeError)):
        LABELLED(1, minion=odd, state="x")


@given(st.text(st.characters(codec="utf-8"), max_size=MAX_LABEL_LENGTH))
def test_label_that_fits_is_kept(value: str) -> None:
    """A value of up to 256 characters, control characters and all, is reported as it is."""
    assert value == HISTOGRAM(EMPTY, function=value).labels[0]


@given(ODD_TEXT, st.integers(1, 99))
def test_any_label_can_be_written(value: str, times: int) -> None:
    """Whatever a value holds, surrogates too, it can be encoded and is at most 256 characters long."""
    label = HISTOGRAM(EMPTY, function=value * times).labels[0]

    assert label.encode().decode() == label
    assert len(label) <= MAX_LABEL_LENGTH


@given(st.text(min_size=MAX_LABEL_LENGTH - 5), st.text(max_size=9), st.text(max_size=9))
def test_different_labels_stay_different(start: str, one: str, other: str) -> None:
    """Two long values that differ only behind the cut do not become one series given twice."""
    labels = {HISTOGRAM(EMPTY, function=start + end).labels for end in (one, other)}

    assert len({one, other}) == len(labels)


def test_undecodable_bytes_show_their_number() -> None:
    """A byte that was no UTF-8 (a surrogate in Python) can be told from the value."""
    assert HISTOGRAM(EMPTY, function="a\udcff").labels == ("a\\udcff",)


NUMBERS = st.integers(-9, 9).map(float)  # few, so that observations fall on bounds


@given(st.lists(NUMBERS, unique=True, max_size=6).map(sorted), st.lists(NUMBERS))
def test_distribution_counts_like_a_classic_histogram(bounds: list[float], observations: list[float]) -> None:
    """Each bucket counts the observations up to and including its bound, the last one all."""
    distribution = Distribution(bounds)
    for observation in observations:
        distribution.observe(observation)
    value = distribution.value()

    expected = [(bound, sum(item <= bound for item in observations)) for bound in (*bounds, math.inf)]
    assert expected == list(value.cumulative())
    assert sum(observations) == pytest.approx(value.sum)


def test_distribution_value_is_a_snapshot() -> None:
    """What was reported does not change with later observations."""
    distribution = Distribution((1.0,))
    before = distribution.value()
    distribution.observe(0.5)

    assert (0, 1) == (list(before.cumulative())[-1][1], list(distribution.value().cumulative())[-1][1])
