"""The message path, one line for each hop: what was lost there, how full it is, what waits there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.widgets import Static

from salt_exporter.status.words import instant, several
from salt_exporter.watch.recent import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from salt_exporter.status.view import Stop
    from salt_exporter.watch.source import Path

_ALARM: Final = "$text-warning"
# state of a hop → its sign, and the style of what is said of it
_STATES: Final = {
    "lost": ("✖", "$text-error"),
    "alarm": ("▲", _ALARM),
    "blind": ("?", "$text-muted"),
    "fine": ("●", "$text-success"),
}
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_BAR: Final = 5  # cells
_NEARLY_AN_HOUR: Final = HOUR - 1.0


class PathView(Static):
    """Draws what it is shown."""

    DEFAULT_CSS = "PathView { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    def show(self, path: Path) -> None:
        """Draw another state of the path."""
        self.update(Content("\n").join(_lines(path)))


def _lines(path: Path) -> Iterator[Content]:
    stops = [stop for stop in path.view.stops if stop.key != "unplaced" or stop.lost]
    yield _headline(path, stops)
    width = max((len(stop.title) for stop in stops), default=0)
    for stop in stops:
        sign, style = _STATES[stop.state]
        fills = [queue.fill for queue in stop.queues if queue.fill is not None]
        pressure = (bar(max(fills)), "$primary") if fills else " " * _BAR
        yield Content.assemble((sign, style), f" {stop.title:<{width}} ", pressure, " ", _words(stop))


def _headline(path: Path, stops: Sequence[Stop]) -> Content:
    """Say what is missing and where, within the line of a small terminal."""
    if path.since is None:
        return Content.styled("Whether responses are missing cannot be said", "$text-warning")
    young = path.taken - path.since < _NEARLY_AN_HOUR
    when = f"since {instant(path.since)[-8:]}" if young else "in the last hour"
    worst = sorted((stop for stop in stops if stop.lost), key=lambda stop: -stop.lost)
    if not worst:
        return Content.styled(f"No response missing {when}", "$text-success")
    where = ", ".join(f"{stop.lost:,} at {stop.title}" for stop in worst)
    return Content.styled(
        f"{several(sum(stop.lost for stop in worst), 'response')} missing {when}: {where}", "$text-error"
    )


def _words(stop: Stop) -> Content:
    """Say why something was lost, then what waits: what alarms first, then what has a limit."""
    words = []
    if stop.lost:
        causes = ", ".join(f"{share.number} {share.cause}" for share in stop.shares if share.number != "0")
        words.append(Content.styled(f"lost {causes}", _STATES["lost"][1]))
    queues = sorted(stop.queues, key=lambda queue: (not queue.alarming, queue.fill is None))
    words += [Content.styled(f"{queue.name} {queue.value}", _ALARM if queue.alarming else "") for queue in queues]
    words += [Content.styled(why, _STATES["blind"][1]) for why in stop.blind]
    return Content(" · ").join(words or [Content.styled(stop.says, _STATES["blind"][1])])


def bar(fill: float, width: int = _BAR) -> str:
    """Draw a share from 0 to 1; what is more than nothing can be seen."""
    eighths = round(fill * width * 8) or (fill > 0)
    whole, rest = divmod(eighths, 8)
    return f"{'█' * whole}{_EIGHTHS[rest].strip()}".ljust(width, "░")
