"""No bytes, however close to real ones, get a reader to raise what it should not, to hang, or to fill the memory."""

from __future__ import annotations

import os
import time
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, Refused, Target

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES: Final = int(os.environ.get("SALT_EXPORTER_TEST_FUZZ_EXAMPLES", "10"))
_SECONDS: Final = 10.0  # of processor time, for any input
_MEMORY: Final = 8 << 20  # bytes, besides as many times what was put in:
_MEMORY_PER_BYTE: Final = 100

pytestmark = pytest.mark.timeout(0 if EXAMPLES > 1000 else 180)

# What lengths, types and ends are made of in msgpack, netlink, YAML and HTTP.
_NASTY: Final = (
    *(b"\x00", b"\xff", b"\x7f", b"\x80", b"\xc1", b"\n", b"\n\n", b"\x82\xa4head\x80\xa4body"),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"),
    *(b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xc7\x0c\xff"),
    *(b"\x91" * 600, b"\x81\xa1x" * 600, b"\xed\xa0\x80", b"\xf0\x9f\xa6\x86", b"9" * 400, b"-1", b"1e999", b"nan"),
    *(b"\x00\x00", b"\xff\xff", b"\x04\x00", b"\x03\x00", b"[" * 300, b"&a [*a]", b"!!python/object:os.system"),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Draw one of the seeds with a few changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 5))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from((0, 1, 2, 4, 16, 300))))
        change = draw(st.integers(0, 4))
        if change == 0:
            data[begin:end] = draw(st.binary(max_size=8))
        elif change == 1:
            data[begin:end] = draw(st.sampled_from(_NASTY))
        elif change == 2:
            data[begin:begin] = data[begin:end] * draw(st.sampled_from((1, 2, 50)))
        elif change == 3:
            other = draw(st.sampled_from(seeds))
            data[begin:] = other[min(begin, len(other)) :]
        else:
            del data[end:]
    return bytes(data)


def run(target: Target, data: bytes, seconds: float = _SECONDS) -> None:
    """Read bytes, within bounds of processor time and memory."""
    began = time.thread_time()
    with suppress(Refused):
        target.read(data)
    assert time.thread_time() - began < seconds
    tracemalloc.start()  # with that, what takes half a second may take a quarter of a minute
    try:
        with suppress(Refused):
            target.read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _MEMORY + _MEMORY_PER_BYTE * len(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_changed_bytes_are_read_or_refused(target: Target) -> None:
    """Recorded bytes, changed here and there, are read or refused, soon and in little memory."""
    seeds = target.seeds()

    @given(mutated(seeds))
    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    def read(data: bytes) -> None:
        run(target, data)

    read()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_recorded_bytes_are_read(target: Target) -> None:
    """What has been recorded, unchanged, is not refused: else the fuzzing would only scratch the surface."""
    for data in target.recorded():
        target.read(data)


@pytest.mark.parametrize(
    ("target", "file"),
    [pytest.param(target, file, id=f"{target.name}-{file.name}") for target in TARGETS for file in target.corpus()],
)
def test_what_was_found_stays_fixed(target: Target, file: object) -> None:
    """Bytes that once found a defect, or a way that others had not, are read or refused."""
    run(target, (CORPUS / target.name / str(file)).read_bytes())


@pytest.mark.parametrize(
    ("defect", "found"),
    [
        (lambda data: data.index(b"y"), ValueError),
        (lambda data: bytes((16 << 20) + len(data)), AssertionError),
        (lambda _data: sum(range(1_000_000)), AssertionError),
    ],
    ids=["raises", "takes memory", "takes time"],
)
def test_a_defect_is_found(defect: Callable[[bytes], object], found: type[Exception]) -> None:
    """A reader that raises something else, takes too much memory or too long does not pass."""
    with pytest.raises(found):
        run(Target("bad", defect, list), b"x", seconds=0.005)
