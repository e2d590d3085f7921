"""The byte ledger: what the master queued and dropped for each subscriber of 4505, seen from outside of it.

A PUB socket sends every subscriber the same bytes. The kernel tells how many the master has handed over for a
connection: `handed = bytes_acked + send queue`. Our own subscriber tells how many there are: the stream. For one
connection

    offset = stream - handed

stays the same while the connection keeps up, whatever is published. If messages wait in ZeroMQ's queue the offset is
larger by their bytes, and it returns when they have been handed over. If messages were dropped, it never returns: a
rise that remains after the connection has caught up is the loss, exact to the byte.

Nothing here happens at one instant, so the offset is known by bounds, which every sample of a connection whose kernel
queue is empty narrows, quiet moments to a point. A rise or a fall beyond the bounds counts only when it is confirmed,
for the publisher serves its connections one after the other. docs/design.md, "The byte ledger", has the argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

from salt_exporter.analysis.pipe import BATCH, Pipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.analysis.stream import Stream

SETTLE: Final = 0.3  # seconds in which what one connection has been handed reaches our own subscriber too
# ZMTP 3.1 as libzmq speaks it: its greeting and READY (a subscriber's with one SUBSCRIBE to anything has more).
HANDSHAKE: Final = 64 + 27  # bytes
PING: Final = 9  # bytes
# Bytes that a connection may be handed between two samples besides messages and heartbeats (answers to the subscriber's
# own heartbeats): less than any publication of Salt.
_CONTROL: Final = 64
_LATE: Final = 3.0  # seconds the publisher may take to get round to a connection while it does nothing else
_PATIENCE: Final = 60.0  # seconds that confirm a rise where there never is a quiet moment
_HEARTBEATS: Final = 512  # bytes by which heartbeats may hide how large a loss is: those of nine minutes
_TRIED: Final = 4000  # starts of a run of dropped messages, on either side of the likely one: some milliseconds
_SURE: Final = 0.95  # of an estimate of drops
_WINDOWS: Final = 10_000  # connections whose drops are remembered
_PEERS: Final = 10_000  # peers whose losses are kept apart; those of more are only in the total


class Subscriber(NamedTuple):
    """One connection to the publish port whose subscription has arrived, at one sample; sizes in bytes."""

    cookie: int
    peer: bytes
    acked: int
    send_queue: int


@dataclass(slots=True)
class Account:
    """What is known about one connection."""

    cookie: int
    peer: bytes
    low: int  # bounds of the offset, what has been counted as dropped left out
    high: int
    handed: int
    send_queue: int
    place: int  # in the stream, as far as it has surely got everything, or it was counted
    origin: int | None = None  # the number its first message has in the stream, dropped ones left out
    pipe: Pipe | None = None  # while messages wait, or something is missing
    # Since when (monotonic) it has been outside of the bounds, always on the same side; 0: it is not.
    suspected: float = 0.0
    least: int = 0  # lowest offset that these samples allow
    counted: int = 0  # messages of the present shortfall that are counted as dropped already
    queued_messages: int = 0
    queued_bytes: int = 0
    fill: float = 0.0  # of its queue: at 1 the next message is dropped
    stalled: bool = False  # its kernel queue is not empty and has not moved since the last sample


@dataclass(slots=True)
class _Sample:
    """What is the same for all connections of one dump."""

    now: float
    before: int
    after: int
    pings: int  # bytes of heartbeats since the last sample, at most
    still: bool  # nothing has been published since the last sample, nor shortly before it
    moved: bool = False  # the publisher was still busy handing over


@dataclass(slots=True)
class Ledger:
    """Follows all subscribers; `observe` takes one sample after another."""

    stream: Stream
    hwm: int  # 0: no limit
    heartbeat: float = 0.0  # seconds between the master's PINGs, 0 for none
    dropped_messages: int = 0
    dropped_bytes: int = 0
    lost_on_close_messages: int = 0
    lost_on_close_bytes: int = 0
    reference_gaps: int = 0  # samples at which our own subscriber was found to have missed messages itself
    accounts: dict[int, Account] = field(default_factory=dict)
    dropped_by_peer: dict[bytes, int] = field(default_factory=dict)
    windows: OrderedDict[int, list[range]] = field(default_factory=OrderedDict)  # see has_dropped; by cookie
    _begin: int = 0  # position from which on our own subscriber has seen everything
    _seen: float | None = None  # monotonic time of the last sample; None: there is none to compare with
    _published: int = -1  # position at the end of the last sample

    def restart(self) -> None:
        """Begin anew with the next sample: our own subscriber was disconnected and may have missed messages."""
        self._begin = self.stream.position
        self._seen = None

    def observe(self, subscribers: Iterable[tuple[int, bytes, int, int]], before: int, after: int, now: float) -> None:
        """Take the connections of a dump at `now` (monotonic), plain tuples shaped like Subscriber.

        `before` and `after` are the stream's positions SETTLE seconds before and after it.
        """
        known = self.accounts if self._seen is not None else {}
        elapsed = now - self._seen if self._seen is not None else 0.0
        pings = PING * ceil(elapsed / self.heartbeat) if self.heartbeat else 0
        sample = _Sample(now, before, after, pings, still=before == after == self._published)
        found: dict[int, Account] = {}
        suspects = []
        for cookie, peer, acked, send_queue in subscribers:
            handed = acked + send_queue
            account = known.get(cookie)
            if account is None:
                found[cookie] = self._open(cookie, peer, handed, send_queue, sample)
                continue
            found[cookie] = account
            if send_queue:
                self._behind(account, handed, send_queue, sample)
            elif self._caught_up(account, handed, sample):
                suspects.append(account)
        for account in suspects:
            self._judge(account, sample)
        for cookie, account in self.accounts.items():
            if cookie not in found:
                self._close(account)
        self.accounts, self._seen, self._published = found, now, after

    def has_dropped(self, cookie: int, number: int) -> bool:
        """Tell whether this message of the stream was dropped for a connection, or seems to be.

        Each stall has one window, from the first message dropped to the last: in between some may have got through.
        """
        account = self.accounts.get(cookie)
        windows = [*self.windows.get(cookie, ())]
        if account is not None and account.pipe is not None and account.pipe.runs:
            windows.append(_window(account.pipe.runs))
        return any(number in window for window in windows)

    def _remember(self, cookie: int, runs: list[range]) -> None:
        """Keep what was dropped in a stall, as far as it is known now: better than when it was still going on."""
        window = _window(runs)
        windows = self.windows.setdefault(cookie, [])
        if windows and windows[-1].stop > window.start and window.stop > windows[-1].start:
            windows[-1] = window
        else:
            windows.append(window)
        self.windows.move_to_end(cookie)
        if len(self.windows) > _WINDOWS:
            self.windows.popitem(last=False)

    def _open(self, cookie: int, peer: bytes, handed: int, send_queue: int, sample: _Sample) -> Account:
        """Begin to follow a connection: where it stands now is where it starts."""
        # With bytes under way nobody knows yet where it stands, only that it is not ahead of us.
        low = sample.before - handed if not send_queue else -handed
        account = Account(cookie, peer, low, sample.after - handed, handed, send_queue, place=sample.before)
        start = sample.before - handed + HANDSHAKE
        if start + _CONTROL >= self._begin:
            account.origin = self.stream.begun_before(max(start, self._begin))
        return account

    def _behind(self, account: Account, handed: int, send_queue: int, sample: _Sample) -> None:
        """Its kernel queue is not empty: what is missing waits in ZeroMQ's, and what does not fit there is dropped."""
        acked = handed - send_queue
        account.stalled = bool(account.send_queue) and acked == account.handed - account.send_queue
        account.suspected = 0.0
        account.low -= sample.pings
        missing = max(0, sample.before - handed - account.high)
        pipe = self._pipe(account, sample, handed, empty=False) if missing or account.pipe else None
        account.handed, account.send_queue = handed, send_queue
        if pipe is None or not missing:
            account.queued_messages, account.queued_bytes, account.fill = 0, 0, 0.0
            return
        account.queued_messages, account.fill = pipe.waiting(self.stream), pipe.fill(self.stream)
        account.queued_bytes = max(0, missing - pipe.dropped_bytes)
        surely = self._surely_dropped(handed + account.high, sample.before)
        dropped = min(pipe.dropped, surely)
        if len(pipe.runs) > 1:  # several are an estimate, and what is counted cannot be taken back
            dropped = int(dropped * _SURE)
        if dropped > account.counted:
            self._count(account, dropped - account.counted, 0)
            self._remember(account.cookie, pipe.runs)
            account.counted = dropped

    def _surely_dropped(self, place: int, published: int) -> int:
        """Return how many of the messages that are missing cannot be queued, however much is where it may be."""
        if not self.hwm:
            return 0
        return self.stream.begun_before(published) - self.stream.begun_before(place + BATCH) - self.hwm

    def _caught_up(self, account: Account, handed: int, sample: _Sample) -> bool:
        """Its kernel queue is empty. Return whether it stands elsewhere than it should."""
        grown, account_was_idle = handed - account.handed, not account.send_queue
        low, high = sample.before - handed, sample.after - handed
        account.stalled = False
        if not grown and account_was_idle and sample.still and low == account.low == account.high:
            return False  # most connections, most of the time
        sample.moved |= account_was_idle and grown > sample.pings + _CONTROL
        if account.pipe:
            self._pipe(account, sample, handed, empty=True)
        account.handed, account.send_queue = handed, 0
        account.queued_messages, account.queued_bytes, account.fill = 0, 0, 0.0
        account.low -= sample.pings
        if low > account.high or high < account.low - _CONTROL:
            return True
        account.low, account.high = max(low, min(account.low, high)), min(high, account.high)
        account.suspected, account.pipe, account.place = 0.0, None, handed + account.low
        return False

    def _judge(self, account: Account, sample: _Sample) -> None:
        """Decide whether a change of the offset is one: the publisher may only be late in serving somebody."""
        low, high = sample.before - account.handed, sample.after - account.handed
        rose = low > account.high
        if not account.suspected or rose != (account.least > account.high):
            account.suspected, account.least = sample.now, low
            return
        account.least = min(account.least, low)
        waited = sample.now - account.suspected
        if sample.still and not sample.moved and waited >= _LATE:
            account.least = low
        elif not rose or waited < _PATIENCE:
            return
        account.suspected = 0.0
        if rose:
            self._book(account, account.least, high)
        else:
            self.reference_gaps += 1
            account.low, account.high, account.origin, account.pipe = low, high, None, None
            account.place = account.handed + low

    def _book(self, account: Account, low: int, high: int) -> None:
        """Count what it lost, now that it has caught up: the rise of its offset, which lies in `low` to `high`."""
        lost = low - account.high
        messages, size = self._lost_messages(account, lost, min(max(lost, high - account.low), lost + _HEARTBEATS))
        self._count(account, max(0, messages - account.counted), size)
        account.low, account.high = low, max(low, min(high, account.high + size))
        account.counted = max(0, account.counted - messages)
        account.pipe, account.place = None, account.handed + account.low

    def _lost_messages(self, account: Account, least: int, most: int) -> tuple[int, int]:
        """Return how many messages a loss of `least` to `most` bytes was, and its bytes.

        One run of messages of exactly this size is the answer. Where there is none there were several: then what the
        model of the queue says, corrected for what it is wrong in bytes as far as sizes tell numbers.
        """
        pipe = account.pipe
        begin, end = self.stream.begun_before(account.place), self.stream.messages
        near, tried = begin + self.hwm, _TRIED
        messages, known = pipe.fitted(self.stream, least) if pipe else (0, 0)
        if pipe and pipe.runs:
            near = pipe.runs[0].start
            # Where the model saw several runs, one that begins elsewhere and has the same size is only chance.
            tried = _TRIED if len(pipe.runs) < 2 else 4 * self.hwm
        if not least <= known <= most and (
            run := self.stream.run(least, most, range(max(begin, near - tried), near + tried), near)
        ):
            account.origin = run.start - self.hwm + len(run)
            self._remember(account.cookie, [run])
            return len(run), self.stream.start_of(run.stop) - self.stream.start_of(run.start)
        if least <= known <= most:
            least = known
        else:
            messages = max(1, messages + round((least - known) * self.stream.messages_per_byte(begin, end)))
        if account.origin is not None:
            account.origin += messages
        # Where the model saw none dropped they are somewhere among what was published since it last had everything.
        self._remember(account.cookie, pipe.runs if pipe and pipe.runs else [range(begin, end)])
        return messages, least

    def _pipe(self, account: Account, sample: _Sample, handed: int, *, empty: bool) -> Pipe:
        """Return the model of its queue, brought to this sample."""
        if account.pipe is None:
            account.pipe = self._new_pipe(account)
        account.pipe.advance(self.stream, sample.now, handed, empty=empty)
        return account.pipe

    def _new_pipe(self, account: Account) -> Pipe:
        """Return the model of its queue as of the last sample."""
        assert self._seen is not None  # noqa: S101 - there is no account without a sample
        read = self.stream.begun_before(account.handed + account.high)
        pipe = Pipe(
            self.hwm,
            self._seen,
            account.handed,
            account.high,
            origin=read if account.origin is None else account.origin,
            next=max(read, self.stream.messages_at(self._seen)),
        )
        pipe.credit = (read - pipe.origin) // pipe.lwm * pipe.lwm
        return pipe

    def _count(self, account: Account, messages: int, lost: int) -> None:
        self.dropped_messages += messages
        self.dropped_bytes += lost
        if account.peer in self.dropped_by_peer or len(self.dropped_by_peer) < _PEERS:
            self.dropped_by_peer[account.peer] = self.dropped_by_peer.get(account.peer, 0) + messages

    def _close(self, account: Account) -> None:
        """Count what was lost with a connection that is gone.

        Bytes that were only under way when it was seen last have arrived, as far as anybody can know.
        """
        if not account.queued_messages and not account.stalled:
            return
        place = account.handed + (account.pipe.offset if account.pipe else account.high)
        under_way = self.stream.begun_before(place) - self.stream.begun_before(place - account.send_queue + 1) + 1
        self.lost_on_close_messages += account.queued_messages + under_way
        self.lost_on_close_bytes += account.queued_bytes + account.send_queue
        if account.pipe and account.pipe.runs:
            self._count(account, max(0, account.pipe.dropped - account.counted), account.pipe.dropped_bytes)
            self._remember(account.cookie, account.pipe.runs)


def _window(runs: list[range]) -> range:
    return range(runs[0].start, runs[-1].stop)
