"""A page in a browser: how a reader has it, what a reader does to it, and what goes wrong."""

import json
from base64 import b64decode
from pathlib import Path
from urllib.parse import urlsplit

from support.devtools import LIMIT_S, BrowserError

OF_THE_PAGE = {"file", "data", "blob", "about"}
MIDDLE = (0.5, 0.5)
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
KEYS = {  # their Windows codes, by which Chromium knows what they do
    "Backspace": 8,
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Delete": 46,
}

# Where in the view places of an element are, given as fractions of its box; or what is wrong.
PLACES = """((selector, places) => {
    const element = document.querySelector(selector);
    if (!element) return "is not on the page";
    element.scrollIntoView({block: "center", inline: "nearest", behavior: "instant"});
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height) return "has no size";
    const points = places.map(([x, y]) => [box.x + box.width * x, box.y + box.height * y]);
    const hit = document.elementFromPoint(...points[0]);
    if (!hit) return "is out of sight";
    if (!element.contains(hit)) return "is covered by " + hit.cloneNode().outerHTML;
    return points;
})"""


class Page:
    """A context manager: a page in a tab of its own."""

    def __init__(
        self,
        tools,
        width=1280,
        height=900,
        scale=1,
        phone=False,
        scheme="light",
        scripts=True,
    ):
        self._tools = tools
        self._problems = []
        self._loaded = set()
        self._context = tools.command("Target.createBrowserContext")["browserContextId"]
        target = tools.command(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        self._session = tools.command("Target.attachToTarget", flatten=True, **target)["sessionId"]
        self._sessions = []
        self._listen(self._session)
        for domain in ("Page", "Inspector"):
            self.command(f"{domain}.enable")
        self.command("Page.setLifecycleEventsEnabled", enabled=True)
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.resize(width, height, scale, phone)
        self.prefer(scheme)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._tools.command("Target.disposeBrowserContext", browserContextId=self._context)
        for session in self._sessions:
            del self._tools.listeners[session]

    def command(self, method, **parameters):
        """Send this page any command of the protocol, and return its result."""
        return self._tools.command(method, self._session, **parameters)

    def resize(self, width, height, scale=1, phone=False):
        """Make the view so large, in CSS pixels, each of which is ``scale`` pixels wide.

        A phone makes it wider than that, unless the page's ``<meta name=viewport>`` forbids it.
        """
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, scheme):
        """Make the reader one who prefers ``"light"`` or ``"dark"``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def open(self, path, limit_s=LIMIT_S):
        """Open a file, and wait until it is loaded with all that it needs."""
        url = Path(path).absolute().as_uri()
        answer = self.command("Page.navigate", url=url, limit_s=limit_s, what=f"{url} to open")
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        loader = answer["loaderId"]
        self._tools.wait_until(lambda: loader in self._loaded, f"{url} to load", limit_s)

    def evaluate(self, expression, limit_s=LIMIT_S):
        """Return what JavaScript makes of an expression, or a promise of it: a value of JSON."""
        answer = self.command(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            what=f"the value of {expression[:200]}",
            limit_s=limit_s,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(told(answer["exceptionDetails"]))
        result = answer["result"]
        if "unserializableValue" in result:
            raise BrowserError(f"{expression} is {result['unserializableValue']}: no value of JSON")
        return result.get("value")

    def problems(self):
        """Return what went wrong so far, a sentence each.

        These are errors and warnings of the console, exceptions that nothing caught, and requests
        for anything but files and what the page itself holds. Of ``preconnect``, ``dns-prefetch``
        and pages that open in other tabs it knows nothing.
        """
        self.evaluate("0")  # what was reported before the answer has been taken then
        return list(self._problems)

    def hover(self, selector, at=MIDDLE):
        """Move the mouse to a place of an element, in fractions of its width and height."""
        (point,) = self._places(selector, at)
        self._mouse("mouseMoved", point)

    def click(self, selector, at=MIDDLE, times=1):
        """Click an element; twice is a double click."""
        (point,) = self._places(selector, at)
        self._mouse("mouseMoved", point)
        for count in range(1, times + 1):
            self._mouse("mousePressed", point, button="left", buttons=1, clickCount=count)
            self._mouse("mouseReleased", point, button="left", clickCount=count)

    def drag(self, selector, start, end, steps=5):
        """Drag the mouse from one place of an element to another."""
        first, last = self._places(selector, start, end)
        self._mouse("mouseMoved", first)
        self._mouse("mousePressed", first, button="left", buttons=1, clickCount=1)
        for step in range(1, steps + 1):
            between = [a + (b - a) * step / steps for a, b in zip(first, last, strict=True)]
            self._mouse("mouseMoved", between, button="left", buttons=1)
        self._mouse("mouseReleased", last, button="left", clickCount=1)

    def press(self, keys):
        """Press a key by its name in JavaScript, as in ``"a"``, ``"Enter"`` or ``"Shift+Tab"``."""
        *held, key = keys.split("+") if len(keys) > 1 else [keys]
        if len(key) > 1 and key not in KEYS:
            raise BrowserError(f"there is no key {key}; there are {', '.join(KEYS)}")
        event = {
            "key": key,
            "modifiers": sum(MODIFIERS[each] for each in held),
            "windowsVirtualKeyCode": KEYS.get(key) or ord(key.upper()),
        }
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def picture(self, path, full_page=True):
        """Write a PNG of the page, or of what is in view."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=full_page)
        Path(path).write_bytes(b64decode(shot["data"]))

    def _places(self, selector, *places):
        found = self.evaluate(f"{PLACES}({json.dumps(selector)}, {json.dumps(places)})")
        if isinstance(found, str):
            raise BrowserError(f"{selector} {found}")
        return found

    def _mouse(self, kind, point, **more):
        self.command("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], **more)

    def _listen(self, session):
        """Hear of this page, or of a frame or worker of it that has a session of its own."""
        self._sessions.append(session)
        self._tools.listeners[session] = self._hear
        for domain in ("Runtime", "Log", "Network"):
            self._tools.send(f"{domain}.enable", session)
        waiting = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        self._tools.send("Target.setAutoAttach", session, **waiting)

    def _hear(self, method, facts):
        match method:
            case "Page.lifecycleEvent" if facts["name"] == "load":
                self._loaded.add(facts["loaderId"])
            case "Runtime.exceptionThrown":
                self._problems.append(f"exception: {told(facts['exceptionDetails'])}")
            case "Runtime.consoleAPICalled" if facts["type"] in ("error", "warning", "assert"):
                words = (each.get("value", each.get("description")) for each in facts["args"])
                self._problems.append(f"console {facts['type']}: {' '.join(map(str, words))}")
            case "Log.entryAdded" if facts["entry"]["level"] in ("error", "warning"):
                entry = facts["entry"]
                where = f" ({entry['url']})" if "url" in entry else ""
                self._problems.append(f"console {entry['level']}: {entry['text']}{where}")
            case "Network.requestWillBeSent":
                self._note_request(facts["request"]["url"])
            case "Network.webSocketCreated":
                self._note_request(facts["url"])
            case "Target.attachedToTarget":
                self._listen(facts["sessionId"])
                self._tools.send("Runtime.runIfWaitingForDebugger", facts["sessionId"])
            case "Inspector.targetCrashed":
                raise BrowserError("the page has crashed")

    def _note_request(self, url):
        if urlsplit(url).scheme not in OF_THE_PAGE:
            self._problems.append(f"request: {url}")


def told(details):
    """Return the text of an exception, with its trace."""
    thrown = details.get("exception", {})
    return str(thrown.get("description") or thrown.get("value", details["text"]))
