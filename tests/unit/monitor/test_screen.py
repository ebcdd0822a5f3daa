"""Keys, and the live screen."""

import io
import threading
import time

import pytest
from rich.console import Console
from support.pictures import TIME_S, picture, queue

from rmqbench.errors import AccessRefused, ManagementUnavailable
from rmqbench.monitor.controls import Controls, after
from rmqbench.monitor.keys import _SEQUENCE, Keys
from rmqbench.monitor.screen import watch
from rmqbench.monitor.source import ask
from rmqbench.monitor.view import Scene, clock_time

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")


def test_keys_set_the_controls():
    controls = Controls(interval_s=3)
    assert after(controls, "+").interval_s == after(controls, "=").interval_s == 5
    assert after(controls, "-").interval_s == 2
    assert after(Controls(interval_s=0.2), "-").interval_s == 0.2
    assert after(Controls(interval_s=500), "+").interval_s == 500
    assert after(controls, "p").paused
    assert not after(after(controls, "p"), "P").paused
    assert after(controls, "q").ended
    assert after(controls, "x") == controls


@pytest.mark.parametrize("pressed", ["\x1b[A", "\x1bOP", "\x1b[15~", "\x1bq", "\x1b", "\x1b[1;5D"])
def test_special_keys_are_not_taken_for_letters(pressed):
    assert _SEQUENCE.sub("", f"s{pressed}p") == "sp" if len(pressed) > 1 else "s"


def test_without_a_terminal_there_are_no_keys():
    with Keys() as keys:
        assert not keys.on
        assert keys.wait(0.01) == ""


class Script:
    """Stands in for the keys: each step waits for words on the screen, then presses."""

    on = True

    def __init__(self, console, *steps):
        pyte = pytest.importorskip("pyte")
        self._console = console
        self._steps = list(steps)
        self.screen = pyte.Screen(console.width, console.height)
        self._stream = pyte.Stream(self.screen)
        self._end = time.monotonic() + 60
        self.restored = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restored = True

    def wait(self, _timeout_s):
        time.sleep(0.005)
        file = self._console.file
        self._stream.feed(file.getvalue().replace("\n", "\r\n"))
        file.seek(0)
        file.truncate()
        shown = "\n".join(self.screen.display)
        assert time.monotonic() < self._end, shown
        words, act = self._steps[0]
        if words not in shown:
            return ""
        self._steps.pop(0)
        return act(shown) or "" if callable(act) else act


@pytest.fixture
def console(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(
        file=io.StringIO(), width=90, height=24, force_terminal=True, legacy_windows=False
    )


def test_a_lost_api_is_told_and_found_again(console):
    lost = ManagementUnavailable("No Management API answers at http://b.", "Enable it.")
    answers = [picture(queue("before")), lost, lost, picture(queue("after"))]
    go_on = threading.Event()

    def fetch():
        if len(answers) == 1:
            go_on.wait(50)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def look(shown):
        assert "before" in shown  # the last picture stays
        assert f"since {clock_time(TIME_S)}: No Management API answers at http://b." in shown
        go_on.set()

    def look_again(shown):
        assert "has not answered" not in shown

    script = Script(
        console,
        ("● before", ""),
        ("The Management API has not answered since", look),
        ("● after", look_again),
        ("", "q"),
    )
    scene = Scene("http://b", controls=Controls(interval_s=0.01))
    watch(console, fetch, scene, keys=script, wall_clock=lambda: TIME_S)
    assert script.restored


def test_an_error_at_the_very_start_is_raised(console):
    def fetch():
        raise AccessRefused("The login was refused.")

    script = Script(console, ("never", "q"))
    with pytest.raises(AccessRefused):
        watch(console, fetch, Scene("http://b"), keys=script)
    assert script.restored
    assert console.file.getvalue().endswith("\x1b[?25h\x1b[?1049l")


def test_while_the_api_hangs_keys_act_and_quitting_is_immediate(console):
    hang = threading.Event()
    started = time.monotonic()
    script = Script(console, ("Asking http://b", "s"), ("sorted by rate", "p"), ("PAUSED", "q"))
    watch(console, lambda: hang.wait(20), Scene("http://b"), keys=script)
    assert time.monotonic() - started < 10
    hang.set()


def test_a_paused_picture_stays_and_nothing_is_asked(console):
    asked = []

    def fetch():
        asked.append(None)
        return picture(queue(f"queue-{len(asked)}"))

    counts = []

    def look(_shown):
        counts.append(len(asked))
        time.sleep(0.1)

    script = Script(
        console,
        ("queue-1", "p"),
        *[("PAUSED", look)] * 8,
        ("PAUSED", "p"),
        ("p pause", lambda _: counts.append(len(asked))),
        ("queue-4", "q"),
    )
    watch(console, fetch, Scene("http://b", controls=Controls(interval_s=0.02)), keys=script)
    assert counts[7] - counts[0] <= 1  # one may have been under way, and comes whenever it comes


def test_a_mistake_in_the_code_is_not_taken_for_a_lost_api(console):
    answers = [picture(queue())]
    script = Script(console, ("never", "q"))
    with pytest.raises(IndexError):
        watch(
            console,
            answers.pop,
            Scene("http://b", controls=Controls(interval_s=0)),
            keys=script,
        )
    assert script.restored


class Api:
    """Stands in for Management: gives what it is told to, and counts."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def answer(*_):
            self.calls.append(name)
            if name in ("nodes", "alarms"):
                raise AccessRefused("Not monitor user.")
            return {} if name == "overview" else []

        return answer


def test_a_user_without_the_tag_monitoring_sees_the_rest():
    api = Api()
    assert ask(api, None, lambda: 1.0).nodes is None
    assert len(api.calls) <= 6
