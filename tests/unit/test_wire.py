"""Framing of the event bus: recorded streams in any chunks, both framings, garbage, and bytes that want to do harm."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.master import wire
from salt_exporter.master.wire import MAP_START, Framer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Framing: TypeAlias = Callable[[bytes], bytes]

DATA = Path(__file__).parents[1] / "data"
LINES = ("3006", "3007", "3008")
EVENTS = {"3006": 51, "3007": 58, "3008": 49}  # bodies in each recording

every_line = pytest.mark.parametrize("line", LINES)


def bare(body: bytes | str, head: object = None) -> bytes:
    """Frame a body as 3007 and 3008 do."""
    packed: bytes = msgpack.packb({"head": head or {}, "body": body})
    return packed


def prefixed(body: bytes) -> bytes:
    """Frame a body as 3006.26 and later do."""
    frame = bare(body)
    return struct.pack(">I", len(frame)) + frame


def feed(data: bytes, size: int) -> tuple[list[bytes], Framer]:
    """Return the bodies found in `data` fed in chunks of `size`, and the framer."""
    framer = Framer()
    bodies = []
    for start in range(0, len(data), size):
        bodies += framer.feed(data[start : start + size])
    return bodies, framer


bodies_of = st.binary(max_size=300).filter(lambda body: MAP_START not in body)
framed = st.tuples(bodies_of, st.sampled_from((bare, prefixed)))


@every_line
def test_recordings_hold_the_known_number_of_whole_events(line: str) -> None:
    """Each recording is cut into its events without a byte left over or skipped."""
    data = (DATA / f"bus-{line}.bin").read_bytes()
    bodies, framer = feed(data, len(data))

    assert EVENTS[line] == len(bodies)
    assert 0 == framer.errors
    assert all(b"\n\n" in body for body in bodies)
    assert data == b"".join(map(prefixed if line == "3006" else bare, bodies))


@every_line
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_chunking_does_not_matter(line: str, size: int) -> None:
    """However the stream is cut on its way, the same bodies come out."""
    data = (DATA / f"bus-{line}.bin").read_bytes()

    bodies, framer = feed(data, size)

    assert feed(data, len(data))[0] == bodies
    assert 0 == framer.errors


def test_a_body_comes_out_with_its_last_byte() -> None:
    """A frame is not held back until the next one begins."""
    for frame in (bare, prefixed):
        framer = Framer()

        assert [] == framer.feed(frame(b"tag\n\n\x80")[:-1])
        assert [b"tag\n\n\x80"] == framer.feed(frame(b"tag\n\n\x80")[-1:])


@given(st.lists(framed), st.integers(1, 2000))
@settings(deadline=None)
def test_both_framings_may_change_at_each_frame(frames: list[tuple[bytes, Framing]], size: int) -> None:
    """A stream that mixes both framings, as after an upgrade of the master, is read whole."""
    data = b"".join(frame(body) for body, frame in frames)

    bodies, framer = feed(data, size)

    assert [body for body, _ in frames] == bodies
    assert 0 == framer.errors


@given(st.lists(st.tuples(st.binary(max_size=60), framed)), st.integers(1, 500))
@settings(deadline=None)
def test_every_frame_between_garbage_is_found(parts: list[tuple[bytes, tuple[bytes, Framing]]], size: int) -> None:
    """Garbage before a frame costs no event, whatever it is as long as it does not begin a frame itself."""
    data = b""
    expected = []
    for garbage, (body, frame) in parts:
        # A garbage that ends like the start of a frame would make another start together with what follows.
        data += garbage.replace(MAP_START[:1], b"\0") + frame(body)
        expected.append(body)

    bodies, framer = feed(data, size)

    assert expected == bodies
    assert framer.errors <= len(parts)


@pytest.mark.parametrize("frame", [bare, prefixed])
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_a_stretch_of_garbage_counts_once(frame: Framing, size: int) -> None:
    """One stretch is one error, however long it is and however many reads it takes."""
    good = frame(b"a\n\n\x80")

    bodies, framer = feed(good + b"\0garbage" * 1000 + good + b"\xff" * 7 + good, size)

    assert [b"a\n\n\x80"] * 3 == bodies
    assert 2 == framer.errors


def test_the_tail_of_a_lost_frame_is_skipped() -> None:
    """A connection that begins in the middle of an event loses that event only."""
    data = prefixed(b"lost\n\n" + bytes(500))[9:] + prefixed(b"a\n\n\x80")

    bodies, framer = feed(data, 11)

    assert [b"a\n\n\x80"] == bodies
    assert 1 == framer.errors


@pytest.mark.parametrize("length", [wire.MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_length_that_no_event_has_is_garbage(length: int) -> None:
    """A frame that claims to be larger than any event is skipped at once: the next one is not swallowed."""
    huge = MAP_START + b"\x80\xa4body\xc6" + struct.pack(">I", length)

    bodies, framer = feed(huge + bare(b"a\n\n\x80"), 5)

    assert [b"a\n\n\x80"] == bodies
    assert 1 == framer.errors


def test_a_frame_may_be_as_large_as_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound itself is no garbage."""
    monkeypatch.setattr(wire, "MAX_FRAME", 1000)

    assert [bytes(1000)] == feed(bare(bytes(1000)), 100)[0]
    assert [] == feed(bare(bytes(1001)), 100)[0]


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("head", [{"a": 1}, {"mid": 1, "more": ["x", {"y": None}]}, ["list"], "text"])
def test_a_head_that_is_not_empty_is_stepped_over(head: object, size: int) -> None:
    """Salt's framing allows a head, though no master sends one: the body is found behind it."""
    data = bare(b"a\n\n\x80", head) + prefixed(b"b\n\n\x80")

    bodies, framer = feed(data, size)

    assert [b"a\n\n\x80", b"b\n\n\x80"] == bodies
    assert 0 == framer.errors


@pytest.mark.parametrize("length", [32, 255, 256, 65535, 65536])
def test_a_body_may_be_text(length: int) -> None:
    """A body packed as text by an old msgpack is the same bytes."""
    text = "a\n\n" + "x" * (length - 3)

    bodies, framer = feed(bare(text) + bare(b"b\n\n\x80"), 1 << 14)

    assert [text.encode(), b"b\n\n\x80"] == bodies
    assert 0 == framer.errors


@pytest.mark.parametrize(
    "map_bytes",
    [
        msgpack.packb({"head": {}, "body": 5}),
        msgpack.packb({"head": {}, "body": None}),
        msgpack.packb({"head": {}, "body": {"a": 1}}),
        msgpack.packb({"head": {}, "other": b"x" * 40}),
        msgpack.packb({"head": {"a": 1}, "other": b"x" * 40}),
        MAP_START + b"\xc1" * 30,  # no type of msgpack
        MAP_START + b"\x91" * 5000,  # deeper than anybody nests
        MAP_START + b"\xdd\xff\xff\xff\xff",  # more elements than there are bytes in the world
        MAP_START + b"\xdf\xff\xff\xff\xff" + bytes(wire.MAX_HEAD),
    ],
)
def test_a_map_that_is_no_event_is_skipped(map_bytes: bytes) -> None:
    """What begins like a frame and is none costs itself, not the frame behind it."""
    filler = bytes(wire.MAX_HEAD)  # a head that never ends is given up after so many bytes
    bodies, framer = feed(map_bytes + filler + bare(b"a\n\n\x80"), 1 << 12)

    assert [b"a\n\n\x80"] == bodies
    assert 1 == framer.errors


# Bytes that begin frames more often than chance would have it.
_nasty = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            (MAP_START, MAP_START + b"\x80\xa4body", MAP_START + b"\x81", b"\xc4", b"\xc6", b"\x00\x00\x00")
        ),
        bodies_of.map(bare),
        bodies_of.map(prefixed),
    )
).map(b"".join)


@given(_nasty, st.integers(1, 200))
@settings(deadline=None)
def test_no_bytes_raise_or_give_more_than_they_are(data: bytes, size: int) -> None:
    """Whatever comes, no exception leaves the framer, nothing is invented, and no more is held than is waited for."""
    bodies, framer = feed(data, size)

    assert all(body in data for body in bodies)
    assert sum(map(len, bodies)) + framer._size <= len(data)
    assert framer._size <= framer._needed


@pytest.mark.parametrize("stretch", [b"garbage ", MAP_START, MAP_START + b"\x80\xa4body\xc1", MAP_START + b"\x91"])
def test_endless_garbage_takes_no_memory(stretch: bytes) -> None:
    """A stream that never makes sense is dropped as it comes."""
    chunk = stretch * (20_000 // len(stretch))
    framer = Framer()
    framer.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(10):
            framer.feed(chunk)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 20_000
    assert peak < 200_000
    assert framer.errors <= 2


def test_the_parts_of_a_large_event_are_put_together_once() -> None:
    """An event that comes in many reads costs no more than one that comes in one: nothing is copied at each read."""
    frame = bare(bytes(100_000))
    framer = Framer()
    for start in range(0, 99_000, 1000):
        framer.feed(frame[start : start + 1000])

    assert 99 == len(framer._chunks)
    assert [bytes(100_000)] == framer.feed(frame[99_000:])
