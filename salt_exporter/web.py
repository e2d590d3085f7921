"""HTTP: the metrics, health, readiness and whatever else is to be served, for those who may see it. Knows no Salt."""

from __future__ import annotations

import asyncio
import logging
import re
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tornado.iostream import StreamClosedError
from tornado.web import Application, Finish, HTTPError, RequestHandler

from salt_exporter.exposition import compress, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tornado.iostream import IOStream

    from salt_exporter.scrape import Scrape, Scraper
    from salt_exporter.web_config.live import Active

DEFAULT_TIMEOUT: Final = 10.0  # seconds a scrape may take where Prometheus does not say
MAX_TIMEOUT: Final = 120.0
MARGIN: Final = 0.5  # seconds of Prometheus' timeout left for rendering and the way back
_WRITE_TIMEOUT: Final = 30.0  # seconds a client may take to read its answer
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "salt-exporter",
    "X-Content-Type-Options": "nosniff",
}

# `gzip` among the encodings, with a weight other than 0 if it has one.
_GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE)

_log = logging.getLogger(__name__)


def scrape_timeout(header: str | None) -> float:
    """Return the seconds a scrape may take, from X-Prometheus-Scrape-Timeout-Seconds; nonsense means the default."""
    try:
        seconds = float(header or DEFAULT_TIMEOUT)
    except ValueError:
        seconds = DEFAULT_TIMEOUT
    if not 0 < seconds < inf:  # also refuses nan
        seconds = DEFAULT_TIMEOUT
    seconds = min(seconds, MAX_TIMEOUT)
    return max(seconds - MARGIN, seconds / 2)


class Busy:
    """Counts scrapes that have not been answered whole; `idle()` waits until there are none."""

    def __init__(self) -> None:
        self._number = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._number += 1
        self._idle.clear()

    def __exit__(self, *_exception: object) -> None:
        self._number -= 1
        if not self._number:
            self._idle.set()

    async def idle(self) -> None:
        """Return when no scrape is under way."""
        await self._idle.wait()


class Handler(RequestHandler):
    """What all our pages have in common."""

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD")
    headers: ClassVar[Mapping[str, str]] = HEADERS

    @property
    def stream(self) -> IOStream:
        """The connection to the client."""
        return self.request.connection.stream  # type: ignore[union-attr,no-any-return] # HTTP1Connection has one

    async def prepare(self) -> None:
        """Let nobody in but the users, and do nothing for those who have left."""
        self._stop_if_left()
        peer = str(self.request.remote_ip)
        if not await self._web_config.users.admit(self.request.headers.get("Authorization", ""), peer):
            raise HTTPError(401)
        self._stop_if_left()

    def _stop_if_left(self) -> None:
        # What a client had pipelined before it went away would be served all at once, and for nobody.
        if self.stream.closed():
            raise Finish

    @property
    def _web_config(self) -> Active:
        """The one in force now."""
        return self.settings["web_config"]()  # type: ignore[no-any-return] # `application` puts it there

    def set_default_headers(self) -> None:
        """Set ours, and those of the web configuration over them; an empty one takes a header away."""
        for name, value in {**self.headers, **self._web_config.headers}.items():
            if value:
                self.set_header(name, value)

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer HEAD as GET; Tornado leaves the body out."""
        answer = self.get(*args, **kwargs)
        if answer is not None:
            await answer

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:  # noqa: ANN401 - as Tornado has it
        """Log what is our own fault."""
        if not isinstance(value, (HTTPError, StreamClosedError)):  # clients make mistakes, and go away
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **_kwargs: object) -> None:
        """Answer with the status, and not a word more."""
        if status_code == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="salt-exporter", charset="UTF-8"')
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.send_text(f"{status_code} {self._reason}\n")

    def send_text(self, text: str) -> None:
        """Answer with plain text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write(text)

    @property
    def takes_gzip(self) -> bool:
        """Whether the client accepts a compressed answer."""
        return bool(_GZIP.search(self.request.headers.get("Accept-Encoding", "")))

    async def send(self, body: bytes, content_type: str, *, squeezed: bool) -> None:
        """Answer with what may be large; who does not read it in time is cut, so that its memory is free."""
        self.set_header("Content-Type", content_type)
        if squeezed:
            self.set_header("Content-Encoding", "gzip")
        try:
            await asyncio.wait_for(self.finish(body), _WRITE_TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError):
            _log.warning("%s did not read its answer within %.0f s: closed", self.request.remote_ip, _WRITE_TIMEOUT)
            self.stream.close()

    def compute_etag(self) -> str | None:
        """Return none: nothing here is worth hashing, it changes all the time."""
        return None


class _Metrics(Handler):
    def initialize(self, scraper: Scraper, busy: Busy) -> None:
        self._scraper = scraper
        self._busy = busy

    async def get(self) -> None:
        with self._busy:
            await self._serve()

    async def _serve(self) -> None:
        headers = self.request.headers
        scrape = await self._scraper.scrape(scrape_timeout(headers.get("X-Prometheus-Scrape-Timeout-Seconds")))
        if self.stream.closed():  # nobody waits for it any more
            raise Finish
        squeeze = self.takes_gzip
        # In a thread: a large answer must not hold up the other clients.
        body, content_type = await asyncio.to_thread(_answer, scrape, headers.get("Accept", ""), squeeze=squeeze)
        self.set_header("Vary", "Accept, Accept-Encoding")
        await self.send(body, content_type, squeezed=squeeze)


def _answer(scrape: Scrape, accept: str, *, squeeze: bool) -> tuple[bytes, str]:
    body, content_type = render(scrape.metrics(), scrape.samples(), accept)
    return (compress(body) if squeeze else body), content_type


class _Healthy(Handler):
    def get(self) -> None:
        self.send_text("salt-exporter is healthy.\n")


class _Ready(Handler):
    def initialize(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def get(self) -> None:
        if self._ready():
            self.send_text("salt-exporter is ready.\n")
        else:
            self.set_status(503)
            self.send_text("salt-exporter is looking at the master for the first time.\n")


class _NotFound(Handler):
    SUPPORTED_METHODS = RequestHandler.SUPPORTED_METHODS

    async def prepare(self) -> None:
        await super().prepare()
        raise HTTPError(404)


def application(
    scraper: Scraper,
    busy: Busy,
    ready: Callable[[], bool],
    telemetry_path: str,
    web_config: Callable[[], Active],
    more: Sequence[tuple[str, type[Handler], dict[str, Any]]] = (),
) -> Application:
    """Return the routes.

    `web_config` gives the users and headers in force; `more` are routes as Tornado takes them.
    """
    routes: list[Any] = [
        (re.escape(telemetry_path), _Metrics, {"scraper": scraper, "busy": busy}),
        ("/-/healthy", _Healthy),
        ("/-/ready", _Ready, {"ready": ready}),
        *more,
    ]
    return Application(routes, default_handler_class=_NotFound, log_function=_log_request, web_config=web_config)


def _log_request(handler: RequestHandler) -> None:
    """Log what went wrong on our side; scrapes that worked are no news."""
    level = logging.ERROR if handler.get_status() >= 500 and handler.get_status() != 503 else logging.DEBUG
    _log.log(level, "%s %s %s", handler.get_status(), handler.request.method, handler.request.uri)
