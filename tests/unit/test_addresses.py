"""Minion → addresses: the three layouts, only what changed is read, and files that are damaged or mean harm."""

from __future__ import annotations

import ipaddress
import logging
import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.errors import SourceError
from salt_exporter.master import addresses
from salt_exporter.master.addresses import FLAT, NESTED, AddressIndex, Layout, layout_of, parse
from tests.unit.tools import public_folder, unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA = Path(__file__).parents[1] / "data"
LAYOUTS = {"3006": NESTED, "3007": NESTED, "3008": FLAT}

every_layout = pytest.mark.parametrize("layout", [NESTED, FLAT], ids=["nested", "flat"])


def packed(*texts: str) -> tuple[bytes, ...]:
    """Return addresses in network byte order."""
    return tuple(ipaddress.ip_address(text).packed for text in texts)


def grains(layout: Layout, **values: object) -> bytes:
    """Build a minion's cache file; values as grains are, beside some others."""
    content = {"os": "Debian", "cpu_flags": ["fpu"] * 20} | values | {"kernel": "Linux"}
    file: bytes = msgpack.packb({"pillar": {"x": [1]}, "grains": content} if layout.wrapped else content)
    return file


class Cache:
    """A master's cachedir. Files are written as Salt does: under another name, then renamed."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.index = AddressIndex()

    def file(self, minion: str) -> Path:
        """Return the path of a minion's file."""
        return self.path / self.layout.directory / (self.layout.file % minion)

    def write(self, minion: str, content: bytes) -> None:
        """Put a minion's file in its place."""
        file = self.file(minion)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(".temporary")
        temporary.write_bytes(content)
        temporary.rename(file)

    def put(self, minion: str, *ipv4: str) -> None:
        """Write a minion's grains."""
        self.write(minion, grains(self.layout, ipv4=["127.0.0.1", *ipv4]))

    def look(self, *minions: str) -> dict[str, tuple[bytes, ...]]:
        """Update the index for these minions and return what it says."""
        return self.index.update(minions, self.path, self.layout).by_minion


@pytest.fixture(params=[NESTED, FLAT], ids=["nested", "flat"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> Cache:
    """Return an empty cachedir of each layout."""
    return Cache(tmp_path, request.param)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the cache files that are read from now on."""
    names: list[str] = []
    content = addresses._content

    def noting(name: str, directory: int) -> bytes:
        names.append(name)
        return content(name, directory)

    monkeypatch.setattr(addresses, "_content", noting)
    return names


@pytest.mark.parametrize("line", LAYOUTS)
def test_recorded_grains_give_the_addresses_of_the_minion(tmp_path: Path, line: str) -> None:
    """The file that a real master of each line wrote is found where it puts it, and says what the minion said."""
    cache = Cache(tmp_path, LAYOUTS[line])
    cache.write("web1", (DATA / f"grains-{line}.p").read_bytes())

    found = cache.index.update(["web1"], tmp_path, layout_of((int(line), 3)))

    expected = packed("127.66.1.1", "10.20.30.40", "fd00::7")
    assert {"web1": expected} == found.by_minion
    assert dict.fromkeys(expected, ("web1",)) == found.by_address
    assert 0 == cache.index.errors


@pytest.mark.parametrize(
    ("version", "layout"),
    [((3006, 28), NESTED), ((3007, 15), NESTED), ((3008, 0), FLAT), ((3009, 1), FLAT), ((), NESTED)],
)
def test_layout_follows_from_the_version(version: tuple[int, ...], layout: Layout) -> None:
    """3008 moved the grains; everything newer is like it."""
    assert layout is layout_of(version)


def test_only_changed_files_are_read(cache: Cache, reads: list[str]) -> None:
    """A look at unchanged files reads none; a changed one is read alone."""
    cache.put("web1", "10.0.0.1")
    cache.put("web2", "10.0.0.2")
    cache.look("web1", "web2")
    assert {cache.layout.file % "web1", cache.layout.file % "web2"} == set(reads)

    before = cache.index.current
    cache.look("web1", "web2")
    assert 2 == len(reads)
    assert before is cache.index.current

    cache.put("web2", "10.0.0.3")
    assert {"web1": packed("10.0.0.1"), "web2": packed("10.0.0.3")} == cache.look("web1", "web2")
    assert [cache.layout.file % "web2"] == reads[2:]

    before = cache.index.current
    cache.put("web2", "10.0.0.3")
    cache.look("web1", "web2")
    assert 4 == len(reads)
    assert before is cache.index.current  # read, and found to say the same


def test_a_change_is_seen_whatever_stays_the_same(cache: Cache) -> None:
    """A file that was replaced is read, also with its old size and its old time."""
    for number in range(100, 150):
        cache.put("web1", f"10.0.0.{number}")
        os.utime(cache.file("web1"), ns=(1, 1))

        assert packed(f"10.0.0.{number}") == cache.look("web1")["web1"]


def test_new_and_forgotten_minions(cache: Cache) -> None:
    """Minions appear with their files, and go when their key or their file does; others' files are left alone."""
    cache.put("web1", "10.0.0.1")
    cache.put("web2", "10.0.0.2")
    assert ["web1"] == list(cache.look("web1"))

    assert {"web1", "web2"} == cache.look("web1", "web2").keys()
    assert {"web2"} == cache.look("web2").keys()

    cache.file("web2").unlink()
    assert {} == cache.look("web2")
    assert {} == cache.index.current.by_address


def test_no_directory_yet_is_no_error(cache: Cache) -> None:
    """A master that has never heard a minion has no cache; when it goes away everything is forgotten."""
    assert {} == cache.look("web1")

    cache.put("web1", "10.0.0.1")
    assert {"web1"} == cache.look("web1").keys()
    directory = cache.path / cache.layout.directory
    directory.rename(cache.path / "away")
    assert {} == cache.look("web1")
    assert 0 == cache.index.errors


@pytest.mark.parametrize("there", [True, False])
def test_another_directory_is_another_matter(tmp_path: Path, there: object) -> None:
    """After an upgrade of the master nothing is left of what the old layout said."""
    cache = Cache(tmp_path, NESTED)
    cache.put("web1", "10.0.0.1")
    cache.look("web1")
    if there:
        (tmp_path / FLAT.directory).mkdir()

    found = cache.index.update(["web1"], tmp_path, FLAT)

    assert {} == found.by_minion
    assert {} == found.by_address


def test_temporary_files_and_dotfiles_are_nobodys(cache: Cache) -> None:
    """Only the file of a minion's own name counts, not what is being written beside it."""
    cache.put("web1", "10.0.0.1")
    for name in (".web1.p", "web1.p.tmp", "tmpabc123", ".data.p"):
        (cache.file("web1").parent / name).write_bytes(grains(cache.layout, ipv4=["10.9.9.9"]))

    assert {"web1": packed("10.0.0.1")} == cache.look("web1")
    assert 0 == cache.index.errors


def damaged(layout: Layout) -> dict[str, bytes]:
    """Return contents that are no minion's grains."""
    good = grains(layout, ipv4=["10.0.0.9"])
    return {
        "empty": b"",
        "cut": good[: len(good) // 2],
        "cut in the list": good[: good.index(b"10.0.0.9") + 3],
        "garbage": b"\xc1" * 100,
        "text": b"\xa5hello",
        "list": b"\x93\x01\x02\x03",
        "list as key": b"\x81\x90\x01" if not layout.wrapped else b"\x81\xa6grains\x81\x90\x01",
        "deep": (b"" if not layout.wrapped else b"\x81\xa6grains") + b"\x81\xa4ipv4" + b"\x91" * 5000,
        "endless": (b"" if not layout.wrapped else b"\x81\xa6grains") + b"\x81\xa4ipv4\xdd\xff\xff\xff\xff",
        "endless key": (b"" if not layout.wrapped else b"\x81\xa6grains") + b"\x81\xdd\x7f\xff\xff\xff",
        "endless map": b"\xdf\xff\xff\xff\xff",
        "yaml": b"grains:\n  ipv4: [10.0.0.9]\n",
        "bad time stamp": (b"" if not layout.wrapped else b"\x81\xa6grains") + b"\x81\xa4ipv4\xc7\x05\xff\0\0\0\0\0",
    }


@pytest.mark.parametrize("kind", damaged(NESTED))
def test_damaged_file_is_counted_once_and_what_was_known_stays(
    cache: Cache, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that makes no sense is one error and one log line, and does not make its minion vanish."""
    cache.put("web1", "10.0.0.1")
    cache.put("web2", "10.0.0.2")
    cache.look("web1", "web2")
    cache.write("web1", damaged(cache.layout)[kind])
    for _ in range(3):
        assert {"web1": packed("10.0.0.1"), "web2": packed("10.0.0.2")} == cache.look("web1", "web2")

    assert 1 == cache.index.errors
    assert [logging.WARNING] == [record.levelno for record in caplog.records]
    assert str(cache.file("web1")) in caplog.text

    cache.write("web1", damaged(cache.layout)[kind])
    cache.look("web1", "web2")
    assert 2 == cache.index.errors

    cache.put("web1", "10.0.0.7")
    assert packed("10.0.0.7") == cache.look("web1", "web2")["web1"]
    assert 2 == cache.index.errors


def test_damaged_file_of_a_new_minion_gives_no_address(cache: Cache) -> None:
    """Nothing is known of a minion whose first file is damaged."""
    cache.write("web1", b"\xc1")

    assert {"web1": ()} == cache.look("web1")
    assert 1 == cache.index.errors


def test_huge_file_is_not_read_into_memory(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the bound is an error, up to it none."""
    content = grains(cache.layout, ipv4=["10.0.0.1"], huge="x" * 5000)
    monkeypatch.setattr(addresses, "MAX_FILE", len(content))
    cache.write("web1", content)
    assert {"web1": packed("10.0.0.1")} == cache.look("web1")

    cache.write("web1", content.replace(b"10.0.0.1", b"10.0.0.2") + b"\0")
    assert {"web1": packed("10.0.0.1")} == cache.look("web1")
    assert 1 == cache.index.errors

    cache.write("web2", b"")
    os.truncate(cache.file("web2"), 1 << 40)
    assert () == cache.look("web1", "web2")["web2"]  # and this returns, with the memory of this machine
    assert 2 == cache.index.errors


@every_layout
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ()),
        ({"ipv4": []}, ()),
        ({"ipv4": ["10.0.0.1", "192.168.1.5"], "ipv6": ["fd00::1"]}, ("10.0.0.1", "192.168.1.5", "fd00::1")),
        ({"ipv6": ["fd00::1"], "ipv4": ["10.0.0.1"]}, ("fd00::1", "10.0.0.1")),
        ({"ipv4": ["127.0.0.1", "10.0.0.1"], "ipv6": ["::1", "0:0:0:0:0:0:0:1"]}, ("10.0.0.1",)),  # everybody's
        ({"ipv4": ["10.0.0.1", "10.0.0.1"]}, ("10.0.0.1",)),
        ({"ipv6": ["FD00:0::0001"]}, ("fd00::1",)),
        ({"ipv4": "10.0.0.1"}, ("10.0.0.1",)),  # set by hand
        ({"ipv4": None, "ipv6": 5}, ()),
        ({"ipv4": {"eth0": "10.0.0.1"}}, ()),
        ({"ipv4": [["10.0.0.1"], {"a": 1}, None, 167772161, 1.5, True, "10.0.0.2"]}, ("10.0.0.2",)),
        ({"ipv4": ["fd00::1", "10.0.0.1/24", "10.0.0.256", "10.1", " 10.0.0.3", "", "10.0.0.1\0"]}, ()),
        ({"ipv6": ["10.0.0.1", "fe80::1%eth0", "\u0661::1"]}, ()),
        ({"ipv4": [b"10.0.0.1", b"\xff\xff"]}, ("10.0.0.1",)),
        ({"ipv4": ["10.0.0.1"], "nested": {"ipv4": ["10.9.9.9"], "grains": {"ipv4": ["10.9.9.8"]}}}, ("10.0.0.1",)),
        ({5: 6, None: 1, 1.5: [], "ipv4": ["10.0.0.1"]}, ("10.0.0.1",)),
        ({"ext": msgpack.ExtType(5, b"x"), "time": msgpack.Timestamp(1, 1), "ipv4": ["10.0.0.1"]}, ("10.0.0.1",)),
    ],
)
def test_what_is_no_address_is_left_out(layout: Layout, values: dict[str, object], expected: Iterable[str]) -> None:
    """Grains hold what a minion, or somebody by hand, put there: whatever is no address costs only itself."""
    content = {"os": "Debian", **values}
    file = msgpack.packb({"grains": content, "pillar": {}} if layout.wrapped else content)

    assert packed(*expected) == parse(file, layout)


@every_layout
def test_damaged_length_takes_no_memory(layout: Layout) -> None:
    """A file that claims to hold millions of addresses gets no memory for them."""
    file = (b"\x81\xa6grains" if layout.wrapped else b"") + b"\x81\xa4ipv4\xdd\x03\xff\xff\xff" + b"\x01" * 100
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not a whole msgpack map of grains"):
            parse(file, layout)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


def test_file_without_grains_has_no_addresses() -> None:
    """A wrapped file may hold a pillar only."""
    assert () == parse(msgpack.packb({"pillar": {"ipv4": ["10.0.0.1"]}}), NESTED)


def test_wrapped_grains_are_not_flat_ones() -> None:
    """The pillar beside the grains gives no addresses, whatever its keys."""
    file = msgpack.packb({"ipv4": ["10.9.9.9"], "pillar": {"ipv4": ["10.9.9.8"]}, "grains": {"ipv4": ["10.0.0.1"]}})

    assert packed("10.0.0.1") == parse(file, NESTED)


@pytest.mark.parametrize("mode", [0o600, 0o744])
def test_cache_of_another_user_is_told(mode: int) -> None:
    """A directory that may not be listed, or whose files may not be looked at, is no empty one."""
    with public_folder() as folder:
        cache = Cache(folder, FLAT)
        cache.put("web1", "10.0.0.1")
        (folder / FLAT.directory).chmod(mode)

        with (
            unprivileged(),
            pytest.raises(SourceError, match=r"grains in .*/grains \(Permission denied\): run the exp"),
        ):
            cache.look("web1")

        (folder / FLAT.directory).chmod(0o755)
        with unprivileged():
            assert {"web1": packed("10.0.0.1")} == cache.look("web1")


def test_file_of_another_user_is_an_error_until_it_may_be_read() -> None:
    """One unreadable file is counted once, and read as soon as its permissions are set right."""
    with public_folder() as folder:
        cache = Cache(folder, FLAT)
        cache.put("web1", "10.0.0.1")
        cache.file("web1").chmod(0o600)
        with unprivileged():
            for _ in range(3):
                assert {"web1": ()} == cache.look("web1")
        assert 1 == cache.index.errors

        cache.file("web1").chmod(0o644)
        with unprivileged():
            assert {"web1": packed("10.0.0.1")} == cache.look("web1")


def test_a_file_that_goes_while_it_is_looked_at_is_no_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a file and its reading it may be removed: that is no damage."""
    cache.put("web1", "10.0.0.1")
    content = addresses._content

    def gone(name: str, directory: int) -> bytes:
        cache.file("web1").unlink()
        return content(name, directory)

    monkeypatch.setattr(addresses, "_content", gone)
    cache.look("web1")

    assert 0 == cache.index.errors
    assert {} == cache.look("web1")


_claims = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.lists(st.integers(1, 12).map(lambda number: f"10.0.0.{number}"), max_size=4),
    max_size=6,
)


@given(st.lists(_claims, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_the_two_directions_always_agree(steps: list[dict[str, list[str]]]) -> None:
    """Whatever changes, `by_address` is the inverse of `by_minion`, and both say what the files say."""
    with public_folder() as folder:
        cache = Cache(folder, FLAT)
        for claims in steps:
            for minion, ipv4 in claims.items():
                cache.put(minion, *ipv4)
            cache.look(*claims)
            now = cache.index.current

            assert {minion: packed(*dict.fromkeys(ipv4)) for minion, ipv4 in claims.items()} == now.by_minion
            pairs = {(minion, address) for minion, found in now.by_minion.items() for address in found}
            assert pairs == {(minion, address) for address, minions in now.by_address.items() for minion in minions}
            assert all(len(minions) == len(set(minions)) for minions in now.by_address.values())


@given(st.binary(max_size=300), st.sampled_from((NESTED, FLAT)))
@settings(deadline=None)
def test_random_bytes_raise_nothing_but_value_errors(content: bytes, layout: Layout) -> None:
    """No file gets another exception out of the decoder."""
    start = b"\x81\xa6grains" if layout.wrapped else b""
    for file in (content, start + content, start + b"\x82\xa4ipv4" + content):
        try:
            found = parse(file, layout)
        except ValueError:
            continue
        assert all(len(address) in (4, 16) for address in found)
