"""A real browser without a window: Chromium, told what to do over the DevTools protocol on a pipe.

The pipe works from one network namespace into another, and opens no port. Messages are JSON, each ended by a 0 byte
(https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROGRAM = shutil.which("chromium")
# fmt: off
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)
# fmt: on
# DevTools speaks on the descriptors 3 and 4.
_ON_A_PIPE = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'


class Chromium:
    """One browser with one page, in which pages cannot run scripts."""

    def __init__(self, profile: Path, prefix: Sequence[str] = ()) -> None:
        """Start it with an empty folder of its own, by `prefix` in another network namespace."""
        command = [*prefix, str(PROGRAM), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _ON_A_PIPE, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.complaints: list[str] = []  # what the console says: violations of the policy, missing files, errors
        self._received = b""
        self._number = 0
        self._session: dict[str, str] = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Log", "Runtime", "DOM", "CSS"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setScriptExecutionDisabled", value=True)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show pages on a screen of this size from now on."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> str:
        """Load a page and return its document as the browser has understood it."""
        failed = self._call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self._await_event("Page.loadEventFired")
        return self.document()

    def document(self) -> str:
        """Return the document as it is now."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        return str(self._call("DOM.getOuterHTML", nodeId=root)["outerHTML"])

    def style(self, selector: str, attribute: str) -> str:
        """Return a computed style of the first element that a selector finds."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        styles = self._call("CSS.getComputedStyleForNode", nodeId=node)["computedStyle"]
        return next(str(style["value"]) for style in styles if style["name"] == attribute)

    def picture(self) -> bytes:
        """Return what the screen shows, as PNG."""
        return b64decode(self._call("Page.captureScreenshot")["data"])

    def width(self) -> int:
        """Return how wide the page is; more than the screen means that it must be moved to and fro."""
        return int(self._call("Page.getLayoutMetrics")["cssContentSize"]["width"])

    def _call(self, method: str, **parameters: Any) -> Any:  # noqa: ANN401 - as the protocol has it
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters, **self._session}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request).encode() + b"\0")
        self._process.stdin.flush()
        while (message := self._next()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def _await_event(self, name: str) -> None:
        while (message := self._next()).get("method") != name:
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        elif message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(message["params"]))

    def _next(self) -> dict[str, Any]:
        """Return the next message; the time that a test may take bounds the waiting."""
        assert self._process.stdout
        while b"\0" not in self._received:
            data = self._process.stdout.read1(1 << 20)  # type: ignore[attr-defined] # a BufferedReader
            assert data, "Chromium has ended"
            self._received += data
        line, _zero, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found
