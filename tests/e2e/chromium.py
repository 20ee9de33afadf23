"""A headless Chromium for tests, driven by the Chrome DevTools Protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests import patience

EXECUTABLE = Path("/usr/bin/chromium")
START_LIMIT_S = 30
NETWORK_CHANGED, RELOADS = "net::ERR_NETWORK_CHANGED", 10
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # A tab that the browser takes for hidden draws no frames, and its timers come once a minute.
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--remote-debugging-port=0",
)


class Page:
    """One tab. Everything waits at most `limit_s` seconds and fails with what was seen last."""

    def __init__(self, connection: ClientConnection, port: int = 0) -> None:
        self._connection, self._port = connection, port
        self._tabs: list[tuple[ClientConnection, asyncio.Task[None]]] = []
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        self.failed: list[str] = []  # requests that got no answer, which is no error where a test wants it so

    async def listen(self) -> None:
        """Hand answers to those who wait for them, and keep what the page complains about."""
        async for raw in self._connection:
            message = json.loads(raw)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message["method"] == "Network.loadingFailed":
                self.failed = [*self.failed[-9:], message["params"]["errorText"]]
            elif message["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"].get("exception", message))[:500])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["source"] in (
                "security",
                "javascript",
            ):
                self.errors.append(message["params"]["entry"]["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        async with patience.timeout(20):
            message = await answer
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, url: str) -> None:
        """Go to `url` and wait until it is loaded."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        # As if it had the window's focus, whatever other tabs there are.
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await self.call("Page.bringToFront")  # a tab in the background draws no frames
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with patience.timeout(20):
            await self._loaded.wait()
        # Chromium drops what it is loading when the machine's networks change, as they do where containers come and go.
        for _ in range(RELOADS):
            if NETWORK_CHANGED not in self.failed:
                return
            self.failed.clear()
            self._loaded.clear()
            await self.call("Page.reload")
            async with patience.timeout(20):
                await self._loaded.wait()

    async def second_tab(self, url: str) -> Page:
        """Another tab of the same browser."""
        made = await self.call("Target.createTarget", url="about:blank")
        address = f"ws://127.0.0.1:{self._port}/devtools/page/{made['targetId']}"
        connection = await connect(address, max_size=None)
        page = Page(connection, self._port)
        self._tabs.append((connection, asyncio.create_task(page.listen(), name="devtools")))
        await page.open(url)
        return page

    async def end(self) -> None:
        """Close a tab that `second_tab` opened."""
        await self.call("Page.close")

    async def close(self) -> None:
        """Let go of the tabs that `second_tab` opened."""
        for connection, listening in self._tabs:
            listening.cancel()
            await connection.close()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, expression: str, limit_s: float = 30.0) -> None:
        """Wait until the expression is true in the page, looking at every drawn frame."""
        deadline = patience.now() + limit_s
        # What is asked about may not be there yet: that is "not yet" as well, and said when it stays so.
        asked = f"(() => {{ try {{ return ({expression}) ? true : '' }} catch (error) {{ return String(error) }} }})()"
        while (seen := await self.evaluate(asked)) is not True:
            if patience.now() > deadline:
                shown = await self.evaluate(
                    "`${document.visibilityState}, ${document.readyState}: ${document.body.innerText.slice(0, 600)}`"
                )
                raise AssertionError(
                    f"not true within {limit_s:g} s: {expression} {seen}\nfailed: {self.failed}\nthe page is {shown}"
                )
            await self.evaluate("new Promise((done) => setTimeout(done, 30))")

    async def show(self, name: str) -> None:
        """Go to one of the panel's pages by its link."""
        await self.click(f'#pages a[href="#/{name}"]')
        await self.until(f"document.querySelector('.page:not([hidden])').dataset.page === '{name}'")

    async def text(self, selector: str) -> str:
        """What an element shows."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def click(self, selector: str) -> None:
        """Click in the middle of an element, with the mouse, once it can be pressed: enabled, at rest and not covered."""
        at = await self._until_pressable(selector)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    async def _until_pressable(self, selector: str, limit_s: float = 30.0) -> list[float]:
        """The middle of the element, once it was the same in two frames in a row and a press there would reach the element."""
        deadline, before = patience.now() + limit_s, None
        while True:
            seen = await self.evaluate(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e || e.disabled) return null; "
                "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
                "const at = [r.x + r.width / 2, r.y + r.height / 2]; "
                "return e.contains(document.elementFromPoint(...at)) ? at : null })()"
            )
            if seen is not None and seen == before:
                return [float(part) for part in seen]
            before = seen
            assert patience.now() < deadline, f"not to be pressed within {limit_s:g} s: {selector}"
            await self.evaluate("new Promise((done) => requestAnimationFrame(() => done()))")

    async def press(self, key: str) -> None:
        """Press one key."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, "Escape": 27}.get(key, ord(key[0].upper()))
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def look(self, *, width: int, height: int, dark: bool) -> None:
        """Set the window's size and the color scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what the page looks like."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Page]:
    """A browser with an empty profile in `profile`, and its tab; ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        str(EXECUTABLE),
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,  # nobody reads its complaints after the start: room for all of them
    )
    try:
        assert process.stderr is not None
        port = await _port(process.stderr)
        async with connect(await asyncio.to_thread(_tab, port), max_size=None) as connection:
            page = Page(connection, port)
            listening = asyncio.create_task(page.listen(), name="devtools")
            yield page
            await page.close()
            listening.cancel()
    finally:
        process.kill()
        await process.wait()


async def _port(stderr: asyncio.StreamReader) -> int:
    async with patience.timeout(START_LIMIT_S):
        while not (line := await stderr.readline()).startswith(b"DevTools listening on "):
            assert line, "chromium ended before it listened"
    return int(line.decode().split(":")[2].split("/")[0])


def _tab(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_LIMIT_S) as answer:
        tabs = json.load(answer)
    address: str = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
    return address
