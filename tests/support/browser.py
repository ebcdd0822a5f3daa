"""A real browser, without a window and without a network: Chromium opens the pages of a test."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from rmqbench.errors import DeadlineExceeded
from rmqbench.waiting import wait_until
from support.devtools import BrowserError, DevTools
from support.page import Page

OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no host is found, this machine neither
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-startup-window",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--lang=en-US",
)
# Chromium reads commands from descriptor 3 and writes to 4: those are our pipes.
SHELL = 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2'
END_S = 10.0


def find_chromium():
    """Return the program, None where there is none."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """A context manager: a browser with a profile of its own, of which nothing is left."""

    def __init__(self, program):
        self._program = program
        self._ending = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as ending:
            name = ending.enter_context(tempfile.TemporaryDirectory(prefix="rmqbench-browser-"))
            self.directory = Path(name)
            self._log = ending.enter_context(Path(name, "log").open("w+b"))
            self.process = subprocess.Popen(
                ["sh", "-c", SHELL, "sh", self._program, *OPTIONS, f"--user-data-dir={name}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                env={**os.environ, "HOME": name},
                start_new_session=True,  # and so a group, which ends as one
            )
            self.tools = DevTools(self.process.stdin, self.process.stdout, self._last_words)
            ending.callback(self._end)
            self.tools.command("Browser.getVersion", what="the browser to start")
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *error):
        self._ending.close()

    def page(self, **how):
        """Return a new page, which shares nothing with others; :class:`Page` says how it may be."""
        return Page(self.tools, **how)

    def _end(self):
        """Ask it to end, end what is left, and take back what it is made of."""
        try:
            with contextlib.suppress(BrowserError, DeadlineExceeded):
                self.tools.command("Browser.close", limit_s=END_S)
                self._wait_for_the_end()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._wait_for_the_end()
            self.process.communicate(timeout=END_S)

    def _wait_for_the_end(self):
        wait_until(lambda: not self._running(), END_S, "the browser's processes to end")

    def _running(self):
        """Whether a process of the group runs; its first one stays a zombie until it is taken."""
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                ours = os.getpgid(process.pid) == self.process.pid
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def _last_words(self):
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-1000:]
