"""What lies over the view for a while: the detail of an event, and what the keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType


class Leaf(ModalScreen[None]):
    """A text to read, with a title."""

    DEFAULT_CSS = """
    Leaf { align: center middle; }
    Leaf > VerticalScroll { width: 100%; height: 1fr; border: round $primary; padding: 0 1; }
    """
    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "close", "Back"),
    ]

    def __init__(self, title: str, lines: Iterable[str]) -> None:
        super().__init__()
        self._title = title
        self._text = Content("\n".join(lines))  # no markup: it may have come over the network

    def compose(self) -> ComposeResult:
        """Put the text where it can be scrolled."""
        scroll = VerticalScroll(Static(self._text))
        scroll.border_title = Content(self._title)
        scroll.border_subtitle = "↑ ↓ scroll · Esc back"
        yield scroll

    def action_close(self) -> None:
        """Go back to the view."""
        self.dismiss()


def keys(title: str, rows: Sequence[tuple[str, str]]) -> Leaf:
    """Return a screen that tells what keys do, or what can be typed."""
    width = max(len(key) for key, _does in rows)
    return Leaf(title, [f"{key:<{width}}  {does}" for key, does in rows])
