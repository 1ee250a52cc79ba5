"""Chromium without a window, driven by the DevTools protocol over two pipes; nothing but the standard library.

A page's complaints are gathered from its start: what it logs as an error, exceptions that nobody caught, what its
Content-Security-Policy refused.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from tests.harness.timing import seconds, wait_until

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe", "--window-size=1280,900")
WATCH_POLICY = """window.refused = [];
document.addEventListener("securitypolicyviolation",
    (event) => window.refused.push(`${event.violatedDirective} ${event.blockedURI}`));"""


def chromium():
    """The path of the browser; a test that needs one fails where there is none."""
    path = shutil.which("chromium")
    if not path:
        raise AssertionError("there is no chromium; scripts/dependencies test installs it")
    return path


def _high(descriptor):
    """The same descriptor with a number that the browser's own 3 and 4 cannot collide with."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy


class Browser:
    """One chromium, in a directory of its own; close() ends all of it."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="twinpool-browser-", ignore_cleanup_errors=True)
        to_read, self._write = map(_high, os.pipe())
        self._read, to_write = map(_high, os.pipe())
        shell = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._log = open(os.path.join(self._directory.name, "log"), "w+b")
        try:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", shell, chromium(), *OPTIONS, f"--user-data-dir={self._directory.name}/profile"],
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(to_read, to_write),
                env={**os.environ, "HOME": self._directory.name}, start_new_session=True)
        finally:
            os.close(to_read)
            os.close(to_write)
        self._pending = b""
        self._last = 0
        self._pages = {}

    def close(self):
        """Asks it to leave, and ends it, with all its processes, if it does not."""
        try:
            self.call("Browser.close", deadline=5)
            self._process.wait(seconds(5))
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._log.close()
        self._directory.cleanup()

    def page(self, url, **options):
        """A new page, and loads url in it."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session, target)
        self._pages[session] = page
        page.begin(url, **options)
        return page

    def call(self, method, params=None, session=None, deadline=20):
        """Sends a command and answers its result; events that come meanwhile go to their pages."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds(deadline)
        while True:
            answer = self._receive(end, method)
            if answer.get("id") != self._last:
                self._pass_on(answer)
            elif "error" in answer:
                raise AssertionError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def _receive(self, end, what):
        while b"\0" not in self._pending:
            readable, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            data = os.read(self._read, 1 << 20) if readable else b""
            if not data:
                raise AssertionError(f"chromium {'does not answer' if not readable else 'has ended'}: {what}; "
                                     f"{self._said()}")
            self._pending += data
        message, self._pending = self._pending.split(b"\0", 1)
        return json.loads(message)

    def _said(self):
        self._log.seek(0)
        return self._log.read()[-2000:].decode("utf-8", "replace")

    def _pass_on(self, event):
        page = self._pages.get(event.get("sessionId"))
        if page:
            page.take(event)


class Page:
    """One page of a Browser. `complaints` is what went wrong in it so far; see refused() as well."""

    def __init__(self, browser, session, target):
        self._browser = browser
        self._session = session
        self._target = target
        self.complaints = []

    def call(self, method, **params):
        """A command of the protocol, to this page."""
        return self._browser.call(method, params, self._session)

    def close(self):
        """Closes it; nothing more of it is heard."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def begin(self, url, width=1280, height=900, first=None):
        """Starts to listen, then loads url; the script `first` runs before those of each page."""
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH_POLICY)
        if first:
            self.call("Page.addScriptToEvaluateOnNewDocument", source=first)
        self.resize(width, height)
        self.call("Page.navigate", url=url)

    def take(self, event):
        """Notes an event if it is a complaint."""
        name, params = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(value.get("value")) for value in params["args"]))
        elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def resize(self, width, height):
        """The size of the view, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features):
        """Media features, such as prefers_color_scheme="dark"."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def run(self, script):
        """The value of an expression, a promise awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def wait(self, script, what=None, deadline=20):
        """Waits until the expression is truthy, as an element is; answers its value."""
        watched = f"Promise.resolve({script}).then((value) => value instanceof Node || value)"
        try:
            return wait_until(lambda: self.run(watched), what or script, deadline)
        except AssertionError as late:
            shown = self.run("document.body.innerText")
            raise AssertionError(f"{late}; {self.complaints}; the page says: {shown}") from None

    def text(self, selector="main"):
        """The text that is to be seen in the first such element; "" if there is none."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector):
        """A click of the mouse in the middle of the first such element, which must be what is hit there."""
        place = self.run(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            if (!node) return null;
            node.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = node.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = document.elementFromPoint(x, y);
            return hit && (node.contains(hit) || hit.contains(node)) ? [x, y] : null;
        }})()""")
        if not place:
            raise AssertionError(f"{selector} is not there, or covered")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def fill(self, selector, text):
        """Puts the focus there, and text in the place of what is there, as if it were typed."""
        if not self.run(f"(() => {{ const node = document.querySelector({json.dumps(selector)}); "
                        "node?.focus(); node?.select?.(); return node === document.activeElement; })()"):
            raise AssertionError(f"{selector} does not take the focus")
        self.call("Input.insertText", text=text)

    def choose(self, selector, value):
        """Chooses an option of a select."""
        self.run(f"""(() => {{ const node = document.querySelector({json.dumps(selector)});
            node.value = {json.dumps(value)};
            if (node.value !== {json.dumps(value)}) throw new Error("no such option");
            node.dispatchEvent(new Event("input", {{bubbles: true}}));
            node.dispatchEvent(new Event("change", {{bubbles: true}})); }})()""")

    def bring_to_front(self):
        """Makes it the page that is to be seen; others are hidden then."""
        self.call("Page.bringToFront")

    def press(self, key, code=0, text=""):
        """One key, such as Tab or Enter."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def refused(self):
        """What the page's Content-Security-Policy has refused."""
        return self.run("window.refused")

    def tree(self):
        """The accessibility tree: (role, name) of each node that is not ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
                if not node.get("ignored") and "role" in node]

    def screenshot(self, path):
        """Writes a PNG of the whole page, which is made as high as it needs for that."""
        self.bring_to_front()
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        width = self.run("innerWidth")
        height = self.run("innerHeight")
        self.resize(width, max(height, size["height"]))
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        data = self.call("Page.captureScreenshot", format="png")["data"]
        self.resize(width, height)
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
