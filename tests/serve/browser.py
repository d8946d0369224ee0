"""Chromium without a window, controlled through chromedriver (the WebDriver protocol of the W3C)."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key for the id of an element
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio")
_FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


class Browser:
    """A browser with one or more tabs. Calls raise AssertionError with the browser's message if they fail.

    Args:
        folder: of its profile and log, and of the files that it downloads.
    """

    def __init__(self, folder):
        self.downloads = folder / "downloads"
        self._log = (folder / "chromedriver.log").open("w+")
        self._driver = subprocess.Popen([DRIVER, "--port=0"], stdout=self._log, stderr=self._log)
        self._address = f"http://127.0.0.1:{self._port(folder / 'chromedriver.log')}"
        options = {
            "binary": CHROMIUM,
            "args": [*_FLAGS, *_FAKE_CAMERA, f"--user-data-dir={folder / 'profile'}"],
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._address += f"/session/{session['sessionId']}"

    def _port(self, log):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            _, found, rest = log.read_text().partition("successfully on port ")
            if found and "." in rest:
                return int(rest.partition(".")[0])
            time.sleep(0.05)
        raise AssertionError(f"chromedriver does not start: {log.read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait()
            self._log.close()

    def _call(self, method, path, content=None):
        body = None if method != "POST" else json.dumps(content or {}).encode()
        request = urllib.request.Request(self._address + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def resize(self, width, height=900, *, dark=False):
        """Show pages as on a screen of this size; below 600 pixels, as on a phone."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def run(self, script, *args):
        """What a script returns in the page; it may be a promise."""
        body = f"const go = async (...args) => {{ {script} }}; return go(...arguments);"
        return self._call("POST", "/execute/sync", {"script": body, "args": list(args)})

    def wait(self, script, *args, seconds=30):
        """Wait until a script returns something true, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := self.run(script, *args):
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"not within {seconds} s: {script}\n{self.run('return document.body.innerText')}"
        )

    def element(self, selector):
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def click(self, selector):
        self._call("POST", f"/element/{self.element(selector)}/click")

    def type(self, selector, text):
        """Type into an element; for a file input, the text is a path."""
        self._call("POST", f"/element/{self.element(selector)}/value", {"text": str(text)})

    def press(self, *keys):
        """Press keys one after the other, by their codes in WebDriver."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def hover(self, selector, x, y):
        """Move the pointer to a point of an element, relative to its centre in pixels."""
        origin = {_ELEMENT: self.element(selector)}
        move = {"type": "pointerMove", "origin": origin, "x": x, "y": y, "duration": 0}
        self._call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def new_tab(self):
        """Open a tab and switch to it. Returns its handle."""
        handle = self._call("POST", "/window/new", {"type": "tab"})["handle"]
        self.switch(handle)
        return handle

    def close_tab(self):
        self._call("DELETE", "/window")

    def switch(self, handle):
        self._call("POST", "/window", {"handle": handle})

    def tab(self):
        return self._call("GET", "/window")

    def log(self):
        """What pages have logged since the last call, as text."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def download(self, action, pattern):
        """The file that an action downloads."""
        self.downloads.mkdir(exist_ok=True)
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        action()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := [path for path in self.downloads.glob(pattern) if path.stat().st_size]:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no {pattern} in {list(self.downloads.iterdir())}")

    def screenshot(self, path):
        """Write a picture of the whole page."""
        picture = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(picture["data"]))
