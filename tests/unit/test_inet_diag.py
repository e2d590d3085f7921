"""The kernel's inet_diag format: recorded answers, whole and damaged, and the filter program that asks for them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.kernel.inet_diag import (
    ESTABLISHED,
    LISTEN,
    STATES,
    TIME_WAIT,
    Connection,
    Dump,
    Listener,
    dump_request,
)
from salt_exporter.kernel.netlink import Answer, DiagError
from tests.unit.tools import recorded_chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FAMILIES = {"ipv6": socket.AF_INET6, "mapped": socket.AF_INET6}  # of the recordings; IPv4 otherwise
RECORDINGS = ("ipv4", "unread", "ipv6", "mapped", "closed", "many", "nothing")
FIN_WAIT_2 = 5
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
DIAG_MSG = 72  # sizeof(struct inet_diag_msg)
INFO_TYPE = 2  # INET_DIAG_INFO


class OneByOne(Dump):
    """A dump that looks at each message by itself."""

    def _take(self, view: memoryview) -> int:
        return Answer._take(self, view)


def decoded(name: str, kind: type[Dump] = Dump) -> Dump:
    """Return a recorded dump."""
    dump = kind(FAMILIES.get(name, socket.AF_INET))
    for chunk in recorded_chunks(f"inet-diag-{name}"):
        assert not dump.done
        dump.feed(chunk)
    assert dump.done
    return dump


def connections(name: str) -> dict[int, Connection]:
    """Return the connections of a recorded dump by the number of the client, which is its port less 15050."""
    rows = map(Connection._make, decoded(name).connections)
    return {socket.ntohs(row.peer_port) - 15050: row for row in rows}


def text(peer: bytes) -> str:
    """Return a peer's address as text."""
    return str(ipaddress.ip_address(peer))


def test_recorded_ipv4_connections() -> None:
    """States, addresses, ports and the listener of four connections are what was set up."""
    found = connections("ipv4")

    assert {number: f"127.0.0.{number}" for number in (1, 2, 3, 4)} == {n: text(row.peer) for n, row in found.items()}
    assert {(ESTABLISHED, socket.htons(15040))} == {(row.state, row.local_port) for row in found.values()}
    assert 4 == len({row.cookie for row in found.values()})
    assert [4] == [number for number, row in found.items() if not row.inode]  # waits to be accepted: is no file yet
    (listener,) = decoded("ipv4").listeners
    assert (15040, 1, 7) == (listener.port, listener.accept_queue, listener.accept_limit)
    assert listener.inode not in {0, *(row.inode for row in found.values())}


def test_recorded_connection_that_was_talked_over() -> None:
    """100 bytes came, 5000 went and were acknowledged, and then nothing for 0.3 s."""
    row = connections("ipv4")[1]

    assert (100, 5000, 0, 0, 0) == (row.bytes_received, row.bytes_acked, row.send_queue, row.receive_queue, row.timer)
    assert 300 <= row.last_received_ms < 1000


def test_recorded_connection_whose_client_does_not_read() -> None:
    """The send queue is full, and the window is being probed."""
    row = connections("ipv4")[3]

    assert 1_000_000 < row.send_queue
    assert 0 < row.bytes_acked < 1_000_000
    assert 0 < row.bytes_retransmitted < row.bytes_acked
    assert 4 == row.timer


def test_recorded_connection_that_nobody_reads() -> None:
    """50 bytes wait in the receive queue, and are counted as received."""
    row = connections("unread")[43]

    assert (50, 50, 0) == (row.receive_queue, row.bytes_received, row.bytes_acked)


def test_recorded_ipv6_connections() -> None:
    """IPv6 peers have their 16 bytes."""
    found = connections("ipv6")

    assert {5: "::1", 6: "::1"} == {number: text(row.peer) for number, row in found.items()}
    assert {16} == {len(row.peer) for row in found.values()}
    assert [15041] == [listener.port for listener in decoded("ipv6").listeners]


def test_recorded_mapped_connection_has_its_ipv4_address() -> None:
    """A socket for both families sees IPv4 clients mapped into IPv6: they are the IPv4 clients they are."""
    found = connections("mapped")

    assert {7: "127.0.0.7", 8: "::1"} == {number: text(row.peer) for number, row in found.items()}
    assert {7: 4, 8: 16} == {number: len(row.peer) for number, row in found.items()}


def test_recorded_closed_connections() -> None:
    """What the kernel remembers of closed connections has no counters: they are 0, and the rest is there."""
    found = connections("closed")

    assert {9: TIME_WAIT, 10: FIN_WAIT_2} == {number: row.state for number, row in found.items()}
    assert {3} == {row.timer for row in found.values()}
    assert {(0,) * 4} == {row[10:] for row in found.values()}
    assert {9: "127.0.0.9", 10: "127.0.0.10"} == {number: text(row.peer) for number, row in found.items()}
    assert all(row.cookie for row in found.values())


def test_recorded_crowd() -> None:
    """Many like messages in one answer are all there, each with its own values."""
    found = connections("many")

    assert {number: f"127.0.0.{number}" for number in range(11, 43)} == {n: text(row.peer) for n, row in found.items()}
    assert 32 == len({row.cookie for row in found.values()}) == len({row.inode for row in found.values()})


def test_recorded_nothing() -> None:
    """Ports without sockets are an answer, too."""
    dump = decoded("nothing")

    assert ([], [], False) == (dump.connections, dump.listeners, dump.interrupted)


@pytest.mark.parametrize("name", RECORDINGS)
def test_taking_many_messages_at_once_changes_nothing(name: str) -> None:
    """The short cut for like messages gives what looking at each gives."""
    quick, slow = decoded(name), decoded(name, OneByOne)

    assert slow.connections == quick.connections
    assert slow.listeners == quick.listeners


@pytest.mark.parametrize("kind", [Dump, OneByOne])
@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (bytes(10) + b"\xff\xff\x0a\x00\x00\x01", b"\x0a\x00\x00\x01"),
        (bytes(15) + b"\x01", bytes(15) + b"\x01"),
        (bytes(10) + b"\xff\xfe\x0a\x00\x00\x01", bytes(10) + b"\xff\xfe\x0a\x00\x00\x01"),
    ],
)
def test_only_mapped_addresses_are_unwrapped(kind: type[Dump], peer: bytes, expected: bytes) -> None:
    """::ffff:10.0.0.1 is 10.0.0.1, every other address is itself, and all else stays in its place."""
    mapped = connections("mapped")[7]
    dump = kind(socket.AF_INET6)
    for chunk in recorded_chunks("inet-diag-mapped"):
        dump.feed(chunk.replace(bytes(10) + b"\xff\xff" + mapped.peer, peer))
    assert mapped._replace(peer=expected) in dump.connections


# --- answers made up, in the kernel's layout ---


def attribute(kind: int, value: bytes) -> bytes:
    """Build an attribute, filled up to 4 bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(body: bytes, kind: int = 20, flags: int = 2) -> bytes:
    """Build a netlink message."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, 1, 4711) + body


class Made(NamedTuple):
    """A message about one socket: its bytes, and the fields that must come out."""

    raw: bytes
    fields: tuple[int, ...]  # state, timer, retransmits, queues, inode, cookie, then those of tcp_info or zeros


@st.composite
def made(draw: st.DrawFn, attributes: st.SearchStrategy[tuple[int, int]]) -> Made:
    """Draw a message with all fields of the kernel's structures at their offsets (inet_diag.h, tcp.h)."""
    u8, u32, u64 = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
    state, timer, retransmits = draw(st.sampled_from((*STATES, 1, 1, 1))), draw(u8), draw(u8)
    cookie, receive, send, inode = draw(u64), draw(u32), draw(u32), draw(u32)
    # family, state, timer, retrans; ports, source, destination, interface, cookie; expires, rqueue, wqueue, uid, inode
    body = struct.pack("=BBBB", 2, state, timer, retransmits)
    body += struct.pack("=HH16s16sIQ", 1, 2, b"src", b"dst", 3, cookie)
    body += struct.pack("=IIIII", 9, receive, send, 1000, inode)
    assert DIAG_MSG == len(body)
    more = (0,) * 4
    for kind, size in draw(st.lists(attributes, max_size=3)):
        body += attribute(kind, b"\xab" * size)
    if draw(st.integers(0, 9)):
        info = bytearray(b"\xcd" * draw(st.sampled_from((216, 216, 216, 232, 248))))
        more = (draw(u32), draw(u64), draw(u64), draw(u64))
        # last_data_recv, bytes_acked, bytes_received, bytes_retrans
        for offset, form, value in zip((52, 120, 128, 208), ("I", "Q", "Q", "Q"), more, strict=True):
            struct.pack_into(f"={form}", info, offset, value)
        body += attribute(INFO_TYPE, bytes(info))
    for kind, size in (*draw(st.lists(attributes, max_size=2)), (8, 1)):
        body += attribute(kind, b"\xef" * size)
    unpadded = body[: len(body) - draw(st.sampled_from((0, 0, 0, 1, 3)))]
    raw = message(unpadded) + bytes(-len(unpadded) % 4)
    return Made(raw, (state, timer, retransmits, receive, send, inode, cookie, *more))


_others = st.tuples(st.sampled_from((8, 9, 15, 17)), st.sampled_from((1, 4, 5, 36)))
_same = st.just((8, 1))  # the same attribute again and again: like messages


@given(st.lists(st.one_of(made(_same), made(_same), made(_others)), max_size=12))
@settings(deadline=None)
def test_every_field_comes_from_its_place(messages: Sequence[Made]) -> None:
    """Whatever the mix of layouts in a chunk, each socket has its own values, in both ways of reading it."""
    expected = [one.fields for one in messages]
    for kind in (Dump, OneByOne):
        dump = kind(socket.AF_INET)
        dump.feed(b"".join(one.raw for one in messages))
        found = [
            (row.state, row.timer, row.retransmits, row.receive_queue, row.send_queue, row.inode, row.cookie, *row[10:])
            for row in map(Connection._make, dump.connections)
        ]

        assert [fields for fields in expected if fields[0] != LISTEN] == found
        assert [
            Listener(socket.ntohs(1), fields[3], fields[4], fields[5]) for fields in expected if fields[0] == LISTEN
        ] == (dump.listeners)


@given(st.lists(made(_same), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_damaged_answers_raise_nothing_but_diag_errors(messages: Sequence[Made], data: st.DataObject) -> None:
    """Lengths, types and flags may say anything, and a chunk may end anywhere: no other exception comes out."""
    raw = bytearray(b"".join(one.raw for one in messages))
    places = [0, 4, 6, *range(HEADER.size + DIAG_MSG, len(raw), 4)]
    for _ in range(data.draw(st.integers(1, 3))):
        struct.pack_into(
            "=H", raw, data.draw(st.sampled_from(places)) % (len(raw) - 1), data.draw(st.integers(0, 65535))
        )
    del raw[data.draw(st.integers(0, len(raw))) :]

    for kind in (Dump, OneByOne):
        _feed(kind, bytes(raw))


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_diag_errors(raw: bytes) -> None:
    """No bytes get another exception out of the decoder."""
    for kind in (Dump, OneByOne):
        _feed(kind, raw)
        _feed(kind, message(raw))
        _feed(kind, message(raw, kind=3))


def _feed(kind: type[Dump], raw: bytes) -> None:
    dump = kind(socket.AF_INET)
    try:
        dump.feed(raw)
    except DiagError:
        return
    assert all(len(row) == len(Connection._fields) for row in dump.connections)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("name", ["many", "nothing"])
def test_interrupted_dump_is_noticed(name: str, place: str) -> None:
    """The kernel may say with any message that its table has changed under it."""
    chunks = [bytearray(chunk) for chunk in recorded_chunks(f"inet-diag-{name}")]
    chunk = {"first": chunks[0], "middle": chunks[len(chunks) // 2], "last": chunks[-1]}[place]
    (length,) = struct.unpack_from("=I", chunk)
    offset = length if place == "middle" and length < len(chunk) else 0
    struct.pack_into("=H", chunk, offset + 6, 2 | 0x10)

    dump = Dump(socket.AF_INET)
    for part in chunks:
        dump.feed(bytes(part))

    assert dump.interrupted
    assert len(decoded(name).connections) == len(dump.connections)
    assert not decoded(name).interrupted


@pytest.mark.parametrize(
    ("code", "name", "number"),
    [
        (-errno.ENOENT, "ENOENT: No such file", errno.ENOENT),
        (-9999, "answers 9999", 9999),
        (-(2**31), "answers 2147483648", 2**31),
    ],
)
@pytest.mark.parametrize("kind", [2, 3])  # NLMSG_ERROR, NLMSG_DONE
def test_error_answer_is_raised_with_its_number(kind: int, code: int, name: str, number: int) -> None:
    """An error of the kernel is told by its name, known or not."""
    with pytest.raises(DiagError, match=name) as caught:
        Dump(socket.AF_INET).feed(message(struct.pack("=i", code), kind=kind))

    assert number == caught.value.errno


def test_acknowledgement_does_not_end_the_answer() -> None:
    """NLMSG_ERROR with 0 is no error, and not the end; neither are messages that are about no socket."""
    dump = Dump(socket.AF_INET)
    dump.feed(message(bytes(20), kind=2) + message(b"", kind=1) + message(b"new", kind=99))

    assert not dump.done


def test_end_without_a_code_is_the_end() -> None:
    """A kernel that says no more than that it is done has no error to tell."""
    dump = Dump(socket.AF_INET)
    dump.feed(message(b"\xff", kind=3))

    assert dump.done


def test_other_messages_are_no_sockets() -> None:
    """A kind of message that a future kernel adds is stepped over, even if it looks like a socket's."""
    chunk = bytearray(recorded_chunks("inet-diag-many")[1])
    (length,) = struct.unpack_from("=I", chunk)
    for start in range(0, len(chunk), length):
        struct.pack_into("=H", chunk, start + 4, 99)
    dump = Dump(socket.AF_INET)
    dump.feed(bytes(chunk))

    assert [] == dump.connections


def test_nothing_is_read_after_the_end() -> None:
    """What stands behind the end of the answer is not taken for sockets."""
    chunk = recorded_chunks("inet-diag-unread")[0]
    dump = Dump(socket.AF_INET)
    dump.feed(message(bytes(4), kind=3) + chunk)

    assert dump.done
    assert [] == dump.connections


@pytest.mark.parametrize(
    "raw",
    [
        message(bytes(DIAG_MSG))[:10],
        message(bytes(DIAG_MSG))[:-1],
        message(bytes(DIAG_MSG - 1)),
        message(b""),
        HEADER.pack(0, 20, 2, 1, 0),
        HEADER.pack(15, 1, 2, 1, 0),
        message(bytes(DIAG_MSG + 3))[:-1],
        message(bytes(DIAG_MSG) + attribute(INFO_TYPE, bytes(216)) + attribute(8, b"x"))[:-4],
        message(bytes(DIAG_MSG) + struct.pack("=HH", 3, 8)),
        message(bytes(DIAG_MSG) + struct.pack("=HH", 9, 8) + b"\0\0\0\0"),
        recorded_chunks("inet-diag-many")[1][:-3],
    ],
)
def test_truncated_messages_are_refused(raw: bytes) -> None:
    """A message or an attribute that is longer than what is there is an error, not a wrong number."""
    for kind in (Dump, OneByOne):
        with pytest.raises(DiagError):
            kind(socket.AF_INET).feed(raw)


def test_shorter_tcp_info_counts_as_none() -> None:
    """A kernel older than 4.19 has a shorter tcp_info: what it does not tell is 0, and nothing is read beyond it."""
    raw = message(struct.pack("=BB", 2, ESTABLISHED) + bytes(DIAG_MSG - 2) + attribute(INFO_TYPE, b"\xff" * 215))
    for kind in (Dump, OneByOne):
        dump = kind(socket.AF_INET)
        dump.feed(raw * 3)

        assert [(0,) * 4] * 3 == [row[10:] for row in dump.connections]


# --- the request ---


def filter_of(request: bytes) -> bytes:
    """Return the filter program in a request."""
    length, kind = struct.unpack_from("=HH", request, HEADER.size + 56)
    assert (len(request) - HEADER.size - 56, 1) == (length, kind)
    return request[HEADER.size + 60 :]


def operations(program: bytes) -> dict[int, tuple[int, int, int]]:
    """Return (code, yes, no) by offset."""
    return {offset: struct.unpack_from("=BBH", program, offset) for offset in range(0, len(program), 4)}


def passes_audit(program: bytes) -> bool:
    """Do what the kernel does before it runs a filter (net/ipv4/inet_diag.c, inet_diag_bc_audit and valid_cc)."""
    found = operations(program)
    starts, offset = {len(program)}, 0
    while offset < len(program):
        code, yes, no = found[offset]
        smallest = 4 if code == 1 else 8
        rest = len(program) - offset
        if not (smallest <= yes <= rest + 4 and smallest <= no <= rest + 4) or yes % 4 or no % 4:
            return False
        starts.add(offset)
        offset += yes
    jumps = {start + found[start][2] for start in starts - {len(program)}}
    return offset == len(program) and {jump for jump in jumps if jump < len(program)} <= starts


def accepts(program: bytes, port: int) -> bool:
    """Run a filter as the kernel does (inet_diag_bc_run): it ends where the program does, or behind it to refuse."""
    found = operations(program)
    offset = 0
    while offset < len(program):
        code, yes, no = found[offset]
        operand = found.get(offset + 4, (0, 0, 0))[2]
        holds = {1: False, 2: port >= operand, 3: port <= operand}[code]
        offset += yes if holds else no
    return offset == len(program)


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=8), st.sets(st.integers(0, 65535), max_size=20))
def test_filter_accepts_exactly_the_ports(ports: Collection[int], others: Collection[int]) -> None:
    """The filter passes the kernel's audit and lets through the sockets on the ports asked for, and no other."""
    program = filter_of(dump_request(socket.AF_INET, ports))

    assert passes_audit(program)
    for port in {*ports, *others, *(port + step for port in ports for step in (-1, 1))}:
        assert (port in ports) is accepts(program, port)


@pytest.mark.parametrize(("info", "extensions"), [(True, 2), (False, 0)])
def test_request_has_the_layout_of_the_kernel(info: object, extensions: int) -> None:
    """Header, family, protocol, extensions and states stand where inet_diag_req_v2 has them."""
    request = dump_request(socket.AF_INET6, [4505, 4506], 1 << ESTABLISHED, info=bool(info))

    assert (len(request), 20, 0x301, 1, 0) == HEADER.unpack_from(request)
    assert (10, 6, extensions, 0, 1 << ESTABLISHED) == struct.unpack_from("=BBBBI", request, HEADER.size)
    assert bytes(48) == request[HEADER.size + 8 : HEADER.size + 56]


def test_order_of_the_ports_does_not_matter() -> None:
    """The same ports give the same request."""
    assert dump_request(socket.AF_INET, (4506, 4505)) == dump_request(socket.AF_INET, (4505, 4506))
