"""Churn: connections that open, close and retransmit between snapshots, told apart by the kernel's cookie."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.analysis.connections import Churn
from salt_exporter.kernel.inet_diag import ESTABLISHED, TIME_WAIT, Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

FIN_WAIT_2 = 5
_MADE = Connection._make([0] * len(Connection._fields))


def connection(cookie: int, state: int = ESTABLISHED, retransmitted: int = 0, port: int = 40000) -> Connection:
    """Return a connection with these fields; all others are 0."""
    return _MADE._replace(
        cookie=cookie, state=state, bytes_retransmitted=retransmitted, peer_port=socket.htons(port), peer=bytes(4)
    )


def counted(*snapshots: Sequence[Connection]) -> tuple[int, int, int]:
    """Return opened, closed and retransmitted bytes after these snapshots."""
    churn = Churn()
    for snapshot in snapshots:
        churn.observe(snapshot)
    return churn.opened, churn.closed, churn.retransmitted_bytes


def test_what_was_there_before_us_did_not_open_now() -> None:
    """The first snapshot is where counting starts: a restart of the exporter is no storm."""
    assert (0, 0, 0) == counted([connection(1, retransmitted=500), connection(2)])


def test_opened_and_closed() -> None:
    """New cookies are opened connections, missing ones are closed."""
    assert (1, 0, 0) == counted([connection(1)], [connection(1), connection(2)])
    assert (0, 1, 0) == counted([connection(1), connection(2)], [connection(1)])
    assert (2, 1, 0) == counted([], [connection(1)], [connection(2)])
    assert (0, 0, 0) == counted([connection(1)], [connection(1)], [connection(1)])


def test_a_reused_port_is_another_connection() -> None:
    """A client that comes back from the same port has closed one connection and opened another."""
    assert (1, 1, 0) == counted([connection(1, port=5)], [connection(2, port=5)])


def test_time_wait_is_closed() -> None:
    """What the kernel keeps of a closed connection is none, under the old cookie or a new one."""
    assert (0, 1, 0) == counted([connection(1)], [connection(1, TIME_WAIT)], [connection(1, TIME_WAIT)], [])
    assert (0, 1, 0) == counted([connection(1)], [connection(9, TIME_WAIT)], [])


def test_closing_connection_closes_once() -> None:
    """A connection that lingers in FIN_WAIT_2 is counted when it goes, once."""
    assert (0, 0, 0) == counted([connection(1)], [connection(1, FIN_WAIT_2)])
    assert (0, 1, 0) == counted([connection(1)], [connection(1, FIN_WAIT_2)], [connection(1, TIME_WAIT)], [])


def test_retransmitted_bytes_add_up() -> None:
    """What each connection has sent again since the last look counts, of new ones all."""
    before = [connection(1, retransmitted=100), connection(2, retransmitted=50)]

    assert (0, 0, 30) == counted(before, [connection(1, retransmitted=120), connection(2, retransmitted=60)])
    assert (1, 0, 7) == counted(before, [*before, connection(3, retransmitted=7)])
    assert (0, 1, 5) == counted(before, [connection(1, retransmitted=105)])


def test_retransmitted_bytes_do_not_fall_when_the_kernel_forgets_them() -> None:
    """A connection that the master has closed is shown without its counters: that takes nothing back."""
    assert (0, 0, 0) == counted([connection(1, retransmitted=100)], [connection(1, FIN_WAIT_2)])


_snapshots = st.lists(
    st.lists(
        st.builds(
            connection,
            st.integers(1, 6),
            st.sampled_from((ESTABLISHED, ESTABLISHED, FIN_WAIT_2, TIME_WAIT)),
            st.integers(0, 50),
        ),
        unique_by=lambda row: row.cookie,
    ),
    min_size=1,
    max_size=8,
)


@given(_snapshots)
def test_books_balance(snapshots: list[list[Connection]]) -> None:
    """Whatever happens, counters only grow, and opened less closed is what there is more than at first."""
    churn = Churn()
    last = (0, 0, 0)
    for snapshot in snapshots:
        churn.observe(snapshot)
        now = (churn.opened, churn.closed, churn.retransmitted_bytes)
        assert all(old <= new for old, new in zip(last, now, strict=True))
        last = now

    live = [sum(row.state != TIME_WAIT for row in snapshot) for snapshot in (snapshots[0], snapshots[-1])]
    assert live[1] - live[0] == churn.opened - churn.closed
