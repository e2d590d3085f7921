"""Scrape as several Prometheus servers do: `scraper.py <port> <servers> <seconds between scrapes>`.

Each keeps its connection, accepts gzip, and gives up after ten seconds: how busy the machine is does not matter. For
each scrape a line says "<seconds it took> <status>"; status 0 is a scrape that failed, and the line before says why.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time

_TIMEOUT = 10.0


def _say(line: str) -> None:
    """Print a whole line at once: several threads do."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def scrape_forever(port: int, interval: float) -> None:
    """Be one server."""
    headers = {"Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": str(_TIMEOUT)}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    while True:
        began = time.monotonic()
        try:
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            _say(f"failed: {error!r}")
            status = 0
        took = time.monotonic() - began
        _say(f"{took:.3f} {status}")
        time.sleep(max(0.0, interval - took))


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        threading.Thread(target=scrape_forever, args=(int(sys.argv[1]), float(sys.argv[3])), daemon=True).start()
    threading.Event().wait()
