"""The status page in a real browser: beside a real master, and with 20,000 minions that are away."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.real import chromium
from tests.real.chromium import Chromium
from tests.real.newest import newest_line_only
from tests.unit.daemons import Daemon, config_dir, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.demo.lab import Lab
    from tests.real.exporter import Exporter
    from tests.real.namespaces import Network

pytestmark = [
    pytest.mark.real,
    newest_line_only("the page is the same for all"),
    pytest.mark.skipif(chromium.PROGRAM is None, reason="chromium is not installed (Debian's package chromium)"),
]


@pytest.fixture(scope="module")
def browser(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Yield a browser on the master's host."""
    with closing(Chromium(tmp_path_factory.mktemp("profile"), network.prefix("master"))) as browser:
        yield browser


def text_of(document: str) -> str:
    """Return what can be read on a page."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", document, flags=re.DOTALL).split())


def test_page_shows_path_absent_minion_and_missing_response(browser: Chromium, exporter: Exporter, lab: Lab) -> None:
    """Where a response was lost is drawn on the path, with who was away and which it is; the console says nothing."""
    lab.salt("-t", "1", "-L", "ghost,web1", "test.ping")
    exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 30, "the job is closed")

    # The journal has it within a second.
    assert eventually(lambda: 'class="stop lost"' in browser.open(f"{exporter.url}/"), 10)
    document = browser.document()
    hops = re.findall(r'<li class="stop (\w+)" id="hop-(\w+)">', document)
    names = ["client", "request", "workers", "publisher", "publish", "minions", "return", "bus", "cache", "unplaced"]
    assert names == [name for _state, name in hops]
    assert ("lost", "publish") in hops
    text = text_of(document)
    assert re.search(r"\d+ responses? went missing in the last hour: .*at Port \d+", text)
    assert re.search(r"ghost not present not yet no connection, and the master has no cached grains", text)
    assert re.search(r"ghost \d{20} test\.ping Port 4505 not_connected : no connection", text)
    assert browser.complaints == []


@pytest.mark.parametrize(("width", "dark"), [(1360, False), (1360, True), (390, False), (320, True)])
def test_page_fits_every_screen(width: int, dark: bool, browser: Chromium, exporter: Exporter) -> None:  # noqa: FBT001 - the case
    """On a desk and on a phone, dark and light, nothing sticks out to the side, and the style sheet is applied."""
    browser.screen(width, 900, dark=dark)

    browser.open(f"{exporter.url}/")

    assert browser.width() == width
    assert browser.style("body", "background-color") == ("rgb(17, 22, 27)" if dark else "rgb(246, 247, 249)")
    assert browser.complaints == []


@pytest.fixture(scope="module")
def large(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield an exporter beside the files of a master with 20,000 minions, none of which is there."""
    folder = tmp_path_factory.mktemp("large")
    config = config_dir(folder)
    for number in range(20_000):
        (config / f"salt/pki/master/minions/web{number:05}").touch()
    daemon = Daemon(folder / "own", config_dir=config, prefix=tuple(network.prefix("master"))).await_start()
    yield daemon
    daemon.process.terminate()
    daemon.process.wait()


def test_twenty_thousand_absent_minions_come_in_pages(large: Daemon, browser: Chromium) -> None:
    """The browser shows a page of them in a moment; the search finds one, and the next page is a link away."""
    url = f"http://127.0.0.1:{large.port}/"
    assert eventually(lambda: "web00000" in browser.open(url), 30)

    began = time.monotonic()
    document = browser.open(f"{url}?page=7")
    seconds = time.monotonic() - began

    # One more minion, called "one", stands before them.
    shown = re.findall(r">(web\d{5})</a>", document)
    assert (50, "web00299") == (len(shown), shown[0])
    assert "Minions: 301 to 350 of 20,001" in text_of(document)
    assert 'href="/?page=8#minions"' in document
    assert seconds < 5
    assert re.findall(r">(web\d{5})</a>", browser.open(f"{url}?search=B1999")) == [f"web1999{n}" for n in range(10)]
    assert browser.complaints == []
