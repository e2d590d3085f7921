"""Jobs of the event bus matched with the frames that came out of the publish port."""

from __future__ import annotations

import pytest

from salt_exporter.analysis import frames as module
from salt_exporter.analysis.frames import PATIENCE, Frames
from salt_exporter.analysis.stream import Stream

LONG = PATIENCE + 1


@pytest.fixture
def stream() -> Stream:
    """Return the stream of frames."""
    return Stream()


@pytest.fixture
def frames(stream: Stream) -> Frames:
    """Return what matches."""
    return Frames(stream)


@pytest.mark.parametrize("lag", [-PATIENCE / 2, 0.0, 0.01, PATIENCE / 2])
def test_each_job_with_its_frame_is_fine(stream: Stream, frames: Frames, lag: float) -> None:
    """Whichever of both is seen first: where there are as many frames as jobs, none is missing."""
    for second in range(100):
        frames.publish(2, 1000.0 + second)
    for second in range(100):
        stream.append(300, 1000.0 + second + lag)
        stream.append(300, 1000.0 + second + lag)
        frames.settle(1000.0 + second + lag)
    frames.settle(1100.0 + LONG)
    assert 0 == frames.missing


def test_job_without_a_frame_is_counted_once(stream: Stream, frames: Frames) -> None:
    """What has no frame is missing when its time is over, not before, and not again."""
    stream.append(300, 1000.0)
    frames.publish(1, 1000.0)
    frames.publish(2, 1001.0)
    frames.settle(1001.0 + PATIENCE)
    assert 0 == frames.missing
    assert [False, True] == [frames.has_none(published) for published in (1000.0, 1001.0)]

    frames.settle(1001.0 + LONG)
    frames.settle(1001.0 + 2 * LONG)
    assert 2 == frames.missing
    assert [False, True] == [frames.has_none(published) for published in (1000.0, 1001.0)]


def test_frame_of_long_ago_is_no_excuse(stream: Stream, frames: Frames) -> None:
    """A frame that came long before the job is not that of the job."""
    stream.append(300, 1000.0)
    frames.publish(1, 1000.0 + LONG)
    frames.settle(1000.0 + 2 * LONG + 1)
    assert 1 == frames.missing


def test_frame_that_comes_too_late_is_not_that_of_the_next_job(stream: Stream, frames: Frames) -> None:
    """A publisher that resumes sends what it owed: those frames are found by nobody, and the next job has its own."""
    frames.publish(1, 1000.0)
    frames.settle(1000.0 + LONG)
    stream.append(300, 1000.0 + LONG)
    frames.publish(1, 1000.0 + 3 * LONG)
    stream.append(300, 1000.0 + 3 * LONG)
    frames.settle(1000.0 + 5 * LONG)
    assert 1 == frames.missing


def test_interrupted_stream_says_nothing(stream: Stream, frames: Frames) -> None:
    """Jobs of before a new subscription may have had frames that nobody saw."""
    stream.append(300, 999.0)
    frames.publish(3, 1000.0)
    frames.restart()
    assert not frames.has_none(1000.0)
    frames.publish(1, 1000.5)
    frames.settle(1000.5 + LONG)
    assert (1, True) == (frames.missing, frames.has_none(1000.5))
    frames.restart()
    assert not frames.has_none(1000.5)
    frames.publish(1, 1001.0)
    frames.settle(1001.0 + LONG)
    assert 2 == frames.missing


def test_jobs_that_wait_are_bounded(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that stands still for long costs no memory without bound."""
    monkeypatch.setattr(module, "_WAITING", 5)
    bounded = Frames(stream)
    bounded.publish(100, 1000.0)
    assert 5 == len(bounded._waiting)
