"""Serves the status page: gathers, and renders in a thread."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tornado.template import Loader

from salt_exporter import __version__
from salt_exporter.exposition import compress
from salt_exporter.status.gather import Gathering
from salt_exporter.status.query import parse
from salt_exporter.web import HEADERS, Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tornado.template import Template

    from salt_exporter.scrape import Scrape
    from salt_exporter.status.gather import Situation
    from salt_exporter.status.query import Query
    from salt_exporter.world import World

REFRESH: Final = 15  # seconds between two looks of a browser
_FOLDER: Final = Path(__file__).parent
_DOCS: Final = "https://github.com/salt-exporter/salt-exporter/tree/main/docs"
_STYLE: Final = (_FOLDER / "style.css").read_text(encoding="utf-8")
# The one style sheet stands in the page; by its hash the browser knows that it is ours.
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def status_page(
    world: World, scrape: Callable[[], Scrape], telemetry_path: str
) -> tuple[str, type[Handler], dict[str, Any]]:
    """Return the route of the page, for `web.application`; `scrape` asks all collectors, from any thread."""
    return "/", _Status, {"gathering": Gathering(world, scrape), "telemetry_path": telemetry_path}


def render(situation: Situation, query: Query, telemetry_path: str) -> bytes:
    """Return the page."""
    from salt_exporter.status.view import view  # noqa: PLC0415 - once somebody looks, as the templates

    said = view(situation, query)
    frame, sections = _templates()
    return frame.generate(
        view=said,
        sections=[section.generate(view=said) for section in sections],
        version=__version__,
        telemetry_path=telemetry_path,
        docs=_DOCS,
        style=_STYLE,
        refresh=REFRESH,
    )


@cache
def _templates() -> tuple[Template, list[Template]]:
    """Return the frame and the sections, once somebody looks: most exporters have no other visitor than Prometheus.

    Each a template of its own, for compiling a large one takes memory that is not given back.
    """
    loader = Loader(str(_FOLDER), autoescape="xhtml_escape", whitespace="single")
    names = ("path", "minions", "jobs", "losses", "settings", "causes")
    return loader.load("page.html"), [loader.load(f"{name}.html") for name in names]


class _Status(Handler):
    headers: ClassVar[Mapping[str, str]] = {**HEADERS, "Content-Security-Policy": _POLICY}

    def initialize(self, gathering: Gathering, telemetry_path: str) -> None:
        self._gathering = gathering
        self._telemetry_path = telemetry_path

    async def get(self) -> None:
        try:
            query = parse(self.request.query_arguments)
        except ValueError as error:
            self.set_status(400)
            self.send_text(f"{error}\n")
            return
        situation = await self._gathering.ask(query)
        squeezed = self.takes_gzip
        body = await asyncio.to_thread(self._render, situation, query, squeezed=squeezed)
        self.set_header("Vary", "Accept-Encoding")
        await self.send(body, "text/html; charset=utf-8", squeezed=squeezed)

    def _render(self, situation: Situation, query: Query, *, squeezed: bool) -> bytes:
        page = render(situation, query, self._telemetry_path)
        return compress(page) if squeezed else page
