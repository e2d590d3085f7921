"""The presence collector: which minions have a series of their own, and what it says."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from salt_exporter.analysis.presence import NOT_PRESENT, PRESENT, UNCERTAIN, Evidence, Presence, Verdict
from salt_exporter.collectors.presence import PresenceCollector
from salt_exporter.config import Config

if TYPE_CHECKING:
    from salt_exporter.world import World

_STATES = {"here": PRESENT, "gone1": NOT_PRESENT, "gone2": NOT_PRESENT, "gone3": NOT_PRESENT, "nat": UNCERTAIN}
_VERDICTS = {minion: Verdict(state, Evidence.LEFT, b"", 7.0) for minion, state in _STATES.items()}


def _collected(**settings: object) -> dict[tuple[str, ...], object]:
    config = replace(Config(), **settings)  # type: ignore[arg-type] # by name
    world = SimpleNamespace(presence=lambda: Presence(_VERDICTS, 0, 0), config=config)
    samples = PresenceCollector(cast("World", world)).collect()
    return {(sample.metric.name.removeprefix("salt_presence_"), *sample.labels): sample.value for sample in samples}


def _minions(collected: dict[tuple[str, ...], object]) -> dict[str, object]:
    return {labels[0]: value for (name, *labels), value in collected.items() if name == "minion_not_present"}


def test_absent_minions_alone_have_series() -> None:
    """By default only minions that are absent have one, up to the bound, beyond which they are counted."""
    found = _collected(presence_max_series=2)

    assert {"gone1": 1, "gone2": 1} == _minions(found)
    assert (0, 1) == (found["all_minions",], found["not_present_series_omitted",])


def test_all_minions_have_series() -> None:
    """When all minions are asked for every accepted one has its series, and none is left out at any bound."""
    found = _collected(presence_all_minions=True, presence_max_series=2)

    assert {"here": 0, "gone1": 1, "gone2": 1, "gone3": 1, "nat": 0} == _minions(found)
    assert (1, 0) == (found["all_minions",], found["not_present_series_omitted",])


def test_last_sign_of_life() -> None:
    """The last sign of life is told of those absent minions that have a series, or of everybody when that is asked."""
    name = "minion_last_seen_timestamp_seconds"

    assert {"gone1", "gone2"} == {key[1] for key in _collected(presence_max_series=2) if key[0] == name}
    assert _STATES.keys() == {key[1] for key in _collected(presence_last_seen_all=True) if key[0] == name}
    everybody = _collected(presence_all_minions=True, presence_max_series=2)
    assert {"gone1", "gone2", "gone3"} == {key[1] for key in everybody if key[0] == name}
