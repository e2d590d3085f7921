"""Causes of missing responses: which facts lead to which, which goes before which, and that there always is one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salt_exporter import docs
from salt_exporter.analysis import attribution
from salt_exporter.analysis.attribution import Facts, attribute
from salt_exporter.analysis.causes import CAUSES, EXPLANATIONS, Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 22.5  # seconds of silence that heartbeats allow
CLOSED = 60.0

# A job closed after a minute, delivered to a minion that has not been heard of since.
PLAIN = Facts(closed=CLOSED, heard=-5.0)

# What each rule is decided by, in their order, and what it says.
RULES: tuple[tuple[Cause, dict[str, Any], str], ...] = (
    (Cause.UNKNOWN_MINION, {"accepted": False}, "there is no accepted key of this name"),
    (
        Cause.EXPORTER_GAP,
        {"observed": False, "checked": False},
        "the event bus was not read all the time, and the job cache cannot tell",
    ),
    (
        Cause.NOT_CONNECTED,
        {"connected": False},
        "no connection to the publish port when the job was published",
    ),
    (
        Cause.PUBLISHER_DROP,
        {"dropped": True},
        "the publisher dropped messages for its connection at that moment: its queue was at pub_hwm",
    ),
    (
        Cause.MINION_SILENT,
        {"ended": 40.0, "delivered_before_end": True, "silent_before_end": 23.0, "silent_limit": LIMIT},
        "everything was delivered, then its connection was silent for 23 s and was cut",
    ),
    (Cause.DISCONNECTED, {"ended": 3.26}, "its connection had ended 3.3 s after the job was published"),
    (
        Cause.PUBLISHER_QUEUE,
        {"halted": True},
        "nothing has come out of the publish port for anybody since the job was published",
    ),
    (
        Cause.PUBLISHER_QUEUE,
        {"queued": 7},
        "7 messages still wait in the publisher's queue for its connection",
    ),
    (
        Cause.NETWORK_STALL,
        {"unsent": 300, "repeats": 2},
        "300 bytes are not acknowledged by its host after having been sent again 2 times",
    ),
    (
        Cause.PUBLISHER_QUEUE,
        {"unsent": 300},
        "300 bytes wait in the kernel's send queue: its host takes no more",
    ),
    (
        Cause.MINION_SILENT,
        {"heard": 1.0, "silent_limit": LIMIT},
        "everything was delivered, and nothing has been heard for 59 s",
    ),
    (
        Cause.RETURN_LOST,
        {"reaching": True},
        "it is trying to reach the request port, and its packets are not answered",
    ),
    (Cause.RETURN_LOST, {"started": 13.04}, "it said that it worked on the job 13.0 s after it was published"),
    (
        Cause.MINION_NO_RETURN,
        {"denied": 12.0},
        "it answered 12.0 s after the job was published that it does not run it",
    ),
    (
        Cause.MINION_NO_RETURN,
        {"alive": 30.0},
        "everything was delivered, and it gave a sign of life 30 s after the job",
    ),
    (Cause.MINION_SILENT, {}, "everything was delivered, and nothing has been heard of it since"),
)


def cause(facts: Facts) -> Cause:
    """Return the cause alone."""
    return attribute(facts).cause


@pytest.mark.parametrize(("expected", "decisive", "evidence"), RULES, ids=[evidence for *_, evidence in RULES])
def test_each_fact_leads_to_its_cause(expected: Cause, decisive: dict[str, Any], evidence: str) -> None:
    """One fact on top of a plain delivery decides, and the evidence says it in one sentence."""
    assert (expected, evidence) == attribute(replace(PLAIN, **decisive))


@pytest.mark.parametrize("first", range(len(RULES)), ids=[evidence for *_, evidence in RULES])
def test_earlier_rule_goes_first(first: int) -> None:
    """Of several facts, that of the earlier rule decides, as the table in the documentation has them."""
    expected, decisive, evidence = RULES[first]
    for _, other, _ in RULES[first + 1 :]:
        assert (expected, evidence) == attribute(replace(PLAIN, **(other | decisive)))


def test_every_rule_is_tried_here() -> None:
    """The table above is that of the code, rule by rule."""
    assert [rule.cause for rule in attribution._RULES] == [expected for expected, *_ in RULES]


def test_documentation_has_the_causes_in_the_order_of_the_rules() -> None:
    """Every cause is explained, in the order in which it is first tried; what nothing explains comes last."""
    tried = list(dict.fromkeys(rule.cause for rule in attribution._RULES))

    assert [*tried, Cause.UNKNOWN] == list(CAUSES)
    assert list(CAUSES) == list(EXPLANATIONS)
    page = docs.causes()
    rows = [page.index(f"| `{item.value}` | ") for item in CAUSES]
    assert sorted(rows) == rows
    assert len(CAUSES) == page.count("\n| `")


@pytest.mark.parametrize("text", [text for item in EXPLANATIONS.values() for text in item])
def test_explanation_is_in_sentences(text: str) -> None:
    """What is written for operators begins and ends like a sentence, and cannot break the table."""
    assert text[0].isupper()
    assert text.endswith((".", "?"))
    assert "|" not in text
    assert "\n" not in text


# --- what decides within a rule ---


@pytest.mark.parametrize(("observed", "checked"), [(True, False), (True, True), (False, True)])
def test_bus_or_cache_is_enough_to_know(*, observed: bool, checked: bool) -> None:
    """Whoever has read the bus all the time, or has asked the job cache, knows that nothing has come."""
    assert Cause.EXPORTER_GAP is not cause(replace(PLAIN, observed=observed, checked=checked))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Cause.MINION_SILENT),
        ({"silent_before_end": LIMIT}, Cause.DISCONNECTED),  # as long as heartbeats allow
        ({"silent_limit": None}, Cause.DISCONNECTED),  # no heartbeats: silence tells nothing
        ({"delivered_before_end": False}, Cause.DISCONNECTED),  # the link may have been cut
        ({"back": True}, Cause.DISCONNECTED),  # it was not the minion
        ({"ended": None, "alive": 30.0}, Cause.MINION_NO_RETURN),  # it has not ended
    ],
)
def test_connection_cut_for_silence_is_told_from_one_that_ended(changed: Mapping[str, Any], expected: Cause) -> None:
    """Only who took everything, then was silent for longer than heartbeats allow, and stayed away, was hung."""
    cut = replace(
        PLAIN, ended=40.0, delivered_before_end=True, silent_before_end=LIMIT + 0.1, silent_limit=LIMIT, heard=None
    )

    assert expected is cause(replace(cut, **changed))


def test_evidence_tells_that_the_minion_is_back() -> None:
    """A connection that ended and was replaced says so."""
    found = attribute(replace(PLAIN, ended=3.0, back=True))

    assert (
        Cause.DISCONNECTED,
        "its connection had ended 3.0 s after the job was published, it has another since",
    ) == found


@pytest.mark.parametrize(("repeats", "expected"), [(0, False), (1, False), (2, True)])
def test_one_repetition_is_no_stall(repeats: int, *, expected: bool) -> None:
    """A packet may get lost on any link: twice in vain is a stall, less is a host that takes no more."""
    found = cause(replace(PLAIN, unsent=1, repeats=repeats))

    assert (Cause.NETWORK_STALL if expected else Cause.PUBLISHER_QUEUE) is found


def test_repetitions_of_nothing_are_no_stall() -> None:
    """Without bytes under way the timer of the past tells nothing."""
    assert Cause.MINION_SILENT is cause(replace(PLAIN, repeats=5))


@pytest.mark.parametrize(
    ("heard", "limit", "expected"),
    [
        (CLOSED - LIMIT - 0.1, LIMIT, Cause.MINION_SILENT),
        (CLOSED - LIMIT, LIMIT, Cause.MINION_NO_RETURN),  # its heartbeats prove it alive
        (0.0, 100.0, Cause.MINION_SILENT),  # heard before the publication only: nothing proves it alive
        (0.1, 100.0, Cause.MINION_NO_RETURN),
        (CLOSED, None, Cause.MINION_SILENT),  # not the minion's heartbeats: what the last byte was nobody knows
        (None, LIMIT, Cause.MINION_SILENT),
    ],
)
def test_heartbeats_prove_life_where_there_are_any(heard: float | None, limit: float | None, expected: Cause) -> None:
    """A connection that is silent for longer than allowed is that of a hung minion, one that is not is alive."""
    assert expected is cause(replace(PLAIN, heard=heard, silent_limit=limit))


def test_sign_of_life_is_the_latest() -> None:
    """Of heartbeats and events the later one is told."""
    for heard, alive, said in ((50.0, 30.0, 50), (50.0, 55.0, 55), (None, 20.0, 20)):
        found = attribute(replace(PLAIN, heard=heard, alive=alive, silent_limit=LIMIT))
        assert f"everything was delivered, and it gave a sign of life {said} s after the job" == found.evidence


@pytest.mark.parametrize(
    ("said", "expected", "evidence"),
    [
        ({"started": 1.0}, Cause.RETURN_LOST, "worked on the job 1.0 s"),
        ({"running": 5.0}, Cause.RETURN_LOST, "worked on the job 5.0 s"),
        ({"started": 1.0, "running": 5.0}, Cause.RETURN_LOST, "worked on the job 5.0 s"),
        ({"started": 6.0, "running": 5.0}, Cause.RETURN_LOST, "worked on the job 6.0 s"),
        ({"running": 5.0, "denied": 4.0}, Cause.RETURN_LOST, "worked on the job 5.0 s"),
        ({"running": 5.0, "denied": 5.0}, Cause.RETURN_LOST, "worked on the job 5.0 s"),
        ({"running": 5.0, "denied": 9.0}, Cause.MINION_NO_RETURN, "answered 9.0 s"),
        ({"started": 1.0, "denied": 9.0}, Cause.MINION_NO_RETURN, "answered 9.0 s"),
    ],
)
def test_last_word_of_the_minion_counts(said: Mapping[str, Any], expected: Cause, evidence: str) -> None:
    """Who worked on the job and then denies it has lost it; who denies it and then works on it has not."""
    found = attribute(replace(PLAIN, **said))

    assert expected is found.cause
    assert evidence in found.evidence


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, Cause.UNKNOWN),
        ({"alive": 30.0}, Cause.UNKNOWN),  # alive, but nobody knows whether the job was delivered
        ({"started": 1.0}, Cause.RETURN_LOST),
        ({"denied": 1.0}, Cause.MINION_NO_RETURN),
        ({"reaching": True}, Cause.RETURN_LOST),
    ],
)
def test_without_a_connection_of_its_own_only_its_word_counts(known: Mapping[str, Any], expected: Cause) -> None:
    """Behind NAT connections tell nothing about a minion: what it says itself does."""
    found = attribute(replace(PLAIN, connected=None, heard=None, **known))

    assert expected is found.cause
    if expected is Cause.UNKNOWN:
        assert "its connection cannot be told apart from others, and nothing else is known" == found.evidence


# --- any facts ---

_time = st.none() | st.floats(-100.0, 100.0) | st.floats(allow_nan=True, allow_infinity=True)
_ANY: dict[str, st.SearchStrategy[Any]] = {
    "halted": st.booleans(),
    "accepted": st.booleans(),
    "observed": st.booleans(),
    "checked": st.booleans(),
    "closed": st.floats(),
    "connected": st.none() | st.booleans(),
    "dropped": st.booleans(),
    "ended": _time,
    "back": st.booleans(),
    "delivered_before_end": st.booleans(),
    "silent_before_end": st.floats(),
    "silent_limit": _time,
    "queued": st.integers(0, 1000),
    "unsent": st.integers(0, 10**9),
    "repeats": st.integers(0, 15),
    "heard": _time,
    "alive": _time,
    "started": _time,
    "running": _time,
    "denied": _time,
    "reaching": st.booleans(),
}
_facts = st.builds(Facts, **_ANY)


@given(_facts)
@settings(deadline=None)
@example(PLAIN)
@example(Facts())
def test_any_facts_have_exactly_one_cause(facts: Facts) -> None:
    """Whatever is known, there is one of the causes and one line of evidence, and it is the same each time."""
    found = attribute(facts)

    assert found.cause in CAUSES
    assert found.evidence
    assert found.evidence.isprintable()
    assert found == attribute(facts)


@given(_facts)
@settings(deadline=None)
def test_causes_that_need_proof_have_it(facts: Facts) -> None:
    """No cause is named without the fact that it stands for."""
    proof = {
        Cause.UNKNOWN_MINION: not facts.accepted,
        Cause.EXPORTER_GAP: not (facts.observed or facts.checked),
        Cause.NOT_CONNECTED: facts.connected is False,
        Cause.PUBLISHER_DROP: facts.dropped,
        Cause.MINION_SILENT: facts.connected is not False,
        Cause.DISCONNECTED: facts.ended is not None,
        Cause.PUBLISHER_QUEUE: facts.halted or facts.queued > 0 or facts.unsent > 0,
        Cause.NETWORK_STALL: facts.unsent > 0 and facts.repeats > 1,
        Cause.RETURN_LOST: facts.reaching or facts.started is not None or facts.running is not None,
        Cause.MINION_NO_RETURN: any(
            sign is not None for sign in (facts.denied, facts.alive, facts.heard and facts.silent_limit)
        ),
        Cause.UNKNOWN: facts.connected is None,
    }

    assert proof[cause(facts)]


def test_facts_of_the_strategy_are_all_there_are() -> None:
    """A fact that is added later is drawn too."""
    assert {item.name for item in fields(Facts)} == _ANY.keys()
