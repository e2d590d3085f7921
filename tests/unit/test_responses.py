"""What becomes of the responses to one job, against plain sets; how little memory many large jobs take."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.analysis.responses import Responses, State

_minions = st.sampled_from("abcdefgh")
_steps = st.one_of(st.sets(_minions), _minions, st.none())
_LARGE = [f"minion-{number:05}" for number in range(20_000)]


@given(st.lists(_steps, max_size=20))
def test_states_are_those_of_plain_sets(steps: list[set[str] | str | None]) -> None:
    """Naming (a set, at a stamp of its own), returning (an id) and giving up (None), in any order."""
    responses = Responses()
    found = dict.fromkeys(State, frozenset[str]())
    stamps: dict[str, float] = {}
    for stamp, step in enumerate(steps):
        if step is None:
            responses.give_up()
            found[State.MISSED] |= found[State.OUTSTANDING]
            found[State.OUTSTANDING] = frozenset()
        elif isinstance(step, set):
            new = step - frozenset().union(*found.values())
            assert new == responses.unknown(step)
            responses.expect(new, float(stamp))
            stamps |= dict.fromkeys(new, float(stamp))
            found[State.OUTSTANDING] |= new
        else:
            before = next((state for state, minions in found.items() if step in minions), State.UNEXPECTED)
            assert (before, stamps.get(step)) == responses.take(step)
            found = {state: minions - {step} for state, minions in found.items()}
            found[State.RETURNED] |= {step}
        numbers = [len(found[state]) for state in (State.OUTSTANDING, State.MISSED, State.RETURNED)]
        assert numbers == [responses.outstanding, responses.missed, responses.returned]
        assert sum(numbers) == len(responses)
        assert sorted(found[State.OUTSTANDING]) == responses.awaited()
        assert found[State.OUTSTANDING] == set(filter(responses.awaits, "abcdefgh"))
        assert found[State.RETURNED] == set(filter(responses.has, "abcdefgh"))


def test_jobs_for_the_same_minions_share_their_ids() -> None:
    """Five jobs for 20,000 minions, each of which has returned, take 5 bytes for one, beside the ids themselves."""
    jobs = []
    shared: tuple[str, ...] = ()
    tracemalloc.start()
    try:
        for _ in range(5):
            responses = Responses()
            responses.expect(responses.unknown(_LARGE), 1.0)
            shared = responses.share(shared)
            for minion in _LARGE:
                responses.take(minion)
            jobs.append(responses)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 5 * len(jobs) * len(_LARGE) + 8 * len(_LARGE)


def test_ids_that_differ_are_not_shared() -> None:
    """Other ids, or more of them, stay their job's own."""
    responses = Responses()
    responses.expect({"a", "b"}, 1.0)

    assert ("a", "b") == responses.share(("a", "c"))
    assert (True, False) == (responses.awaits("b"), responses.awaits("c"))
