"""``rmqbench monitor`` as a person sees it: in a pseudo-terminal, and as a script reads it."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from statistics import median

import pytest
from support.tools import IN_TERMINAL, rmqbench

from rmqbench.amqp.admin import admin

pyte = pytest.importorskip("pyte")
if sys.platform == "win32":
    pytest.skip("pseudo-terminals are of POSIX", allow_module_level=True)

import fcntl  # noqa: E402  (there is none on Windows)
import pty  # noqa: E402
import select  # noqa: E402
import struct  # noqa: E402
import termios  # noqa: E402

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
HOSTILE = "evil\x1b[31m[bold]\x07"


class Terminal:
    """A pseudo-terminal with the monitor in it, and the screen as a person sees it."""

    def __init__(self, *arguments, columns=100, lines=30, environment):
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, "monitor", *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env=environment | {"TERM": "xterm-256color"},
        )

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def lines(self):
        return [each.rstrip() for each in self.screen.display]

    @property
    def text(self):
        return "\n".join(self.lines)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            self.written += data
            self._stream.feed(data)

    def wait_for(self, told, within=60):
        """Read until ``told(text of the screen)``; return the seconds that it took."""
        started = time.monotonic()
        while not told(self.text):
            assert time.monotonic() - started < within, self.text
            self.read(0.05)
        took = time.monotonic() - started
        while select.select([self.master], [], [], 0.05)[0]:  # the rest of this picture
            self.read(0)
        return took

    def press(self, keys):
        os.write(self.master, keys.encode())

    def wait_end(self, within=30):
        started = time.monotonic()
        while self.process.poll() is None:
            assert time.monotonic() - started < within, self.text
            self.read(0.02)
        while select.select([self.master], [], [], 0.2)[0]:
            self.read(0)
        return self.process.returncode

    def require_restored(self):
        assert termios.tcgetattr(self.slave) == self.before
        assert self.written.count(ENTER) == self.written.count(LEAVE) > 0
        assert self.written.rindex(LEAVE) > self.written.rindex(ENTER)
        assert SHOW_CURSOR in self.written[self.written.rindex(b"\x1b[?25l") :]

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


def environment_of(endpoint):
    names = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    addresses = {
        "RMQBENCH_URL": endpoint.url(),
        "RMQBENCH_MANAGEMENT_URL": endpoint.management_url,
    }
    return kept | addresses | {"PYTHONIOENCODING": "utf-8"}


@contextmanager
def monitor_in_a_terminal(endpoint, *arguments, **more):
    environment = environment_of(endpoint) | more.pop("environment", {})
    terminal = Terminal(*arguments, environment=environment, **more)
    try:
        yield terminal
    finally:
        terminal.close()


def monitor(endpoint, *arguments, timeout=90, **environment):
    return rmqbench(
        *("monitor", *arguments),
        encoding="utf-8",
        timeout=timeout,
        env=environment_of(endpoint) | environment,
    )


def figures_are_out(management, vhost):
    """Whether each table of the broker's statistics has the figures that the tests look for."""
    queues = {each["name"]: each for each in management.queues(vhost)}
    return (
        sum(each.get("messages", 0) for each in queues.values()) >= 1242
        and queues["mails"].get("messages_unacknowledged") == 7
        and [each["consumer_tag"] for each in management.consumers(vhost)] == ["postman"]
        and management.connections(vhost)
        and all("mem_used" in node for node in management.nodes())
    )


@pytest.fixture(scope="module")
def endpoint(rmqbench_broker):
    """A virtual host with queues, messages and a consumer, whose figures have come out."""
    name = f"rmqbench-monitor-{uuid.uuid4().hex[:8]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        endpoint = rmqbench_broker.endpoint.in_virtual_host(name)
        with admin(endpoint, timeout_s=300) as channel:
            for queue, count in (("orders", 1234), ("mails", 7), (HOSTILE, 1)):
                channel.queue_declare(queue, durable=True)
                for _ in range(count):
                    channel.basic_publish("", queue, b"x")
            channel.basic_qos(prefetch_count=25)
            channel.basic_consume("mails", lambda *_: None, consumer_tag="postman")
            deadline = time.monotonic() + 60
            while not figures_are_out(management, name):
                assert time.monotonic() < deadline, "no figures within 60 s"
                channel.connection.process_data_events(0.2)
            yield endpoint
        management.delete_virtual_host(name)


def test_in_a_terminal_the_picture_is_live_and_keys_act(endpoint):
    with monitor_in_a_terminal(endpoint, "--vhost", endpoint.virtual_host) as terminal:
        words = ("orders", "1.2K", "postman", "prefetch 25", r"evil\x1b[31m[bold]\x07")
        hints = "q quit   p pause   + - every 3 s   s sorted by depth"
        terminal.wait_for(
            lambda text: (
                all(word in text for word in words)
                and terminal.lines[0].startswith("╭─ RabbitMQ ")
                and hints in terminal.lines[-1]
            )
        )
        waits = []
        for key, seen in (
            ("s", "sorted by rate"),
            ("s", "sorted by name"),
            ("+", "every 5 s"),
            ("-", "every 3 s"),
            ("-", "every 2 s"),
            ("\x1b[A", "every 2 s"),
            ("p", "PAUSED"),
            ("p", "p pause"),
        ):
            terminal.press(key)
            waits.append(terminal.wait_for(lambda text, seen=seen: seen in text))
        assert median(waits) < 1.5
        terminal.press("q")
        assert terminal.wait_end() == 0
        terminal.require_restored()
        assert terminal.written.count(b"\x1b[2J") <= 1  # nothing is wiped in between: no flicker


def test_a_resize_is_followed(endpoint):
    with monitor_in_a_terminal(endpoint, "--vhost", endpoint.virtual_host) as terminal:
        terminal.wait_for(lambda text: "orders" in text)
        for columns, lines in ((60, 20), (140, 45), (40, 8), (1, 1), (80, 24)):
            terminal.resize(columns, lines)
            terminal.wait_for(
                lambda _, columns=columns: (
                    any(len(each) >= columns - 1 for each in terminal.lines)
                    and (columns < 10 or "depth" in terminal.lines[-1])
                )
            )
            assert terminal.process.poll() is None
        terminal.wait_for(lambda text: "orders" in text)
        terminal.press("q")
        assert terminal.wait_end() == 0
        terminal.require_restored()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_terminal_as_before(endpoint, number, code):
    with monitor_in_a_terminal(endpoint) as terminal:
        terminal.wait_for(lambda text: "orders" in text)
        if number == signal.SIGINT:
            terminal.press("\x03")
        else:
            terminal.process.send_signal(number)
        assert terminal.wait_end() == code
        terminal.require_restored()
        assert "Traceback" not in terminal.text
        assert "Abort" not in terminal.text


def test_a_suspended_monitor_leaves_the_terminal_in_order_and_comes_back(endpoint):
    with monitor_in_a_terminal(endpoint) as terminal:
        terminal.wait_for(lambda text: "orders" in text)
        terminal.press("\x1a")
        terminal.wait_for(lambda _: terminal.written.count(ENTER) == 2)
        terminal.wait_for(lambda text: "orders" in text)
        terminal.press("q")
        assert terminal.wait_end() == 0
        terminal.require_restored()


def test_a_wrong_password_ends_it_with_the_error_on_the_ordinary_screen(endpoint):
    arguments = ("--username", "nobody", "--password", "not-the-password")
    with monitor_in_a_terminal(endpoint, *arguments) as terminal:
        assert terminal.wait_end(60) == 4
        terminal.require_restored()
        shown = terminal.written[terminal.written.rindex(LEAVE) :].decode()
        assert "refused the login of user 'nobody'" in shown
        assert "Traceback" not in shown
        assert "not-the-password" not in shown


def test_once_into_a_pipe_is_plain_text(endpoint):
    ended = monitor(endpoint, "--once", "--vhost", endpoint.virtual_host, FORCE_COLOR="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert "\x07" not in ended.stdout
    assert "orders" in ended.stdout
    assert "1.2K" in ended.stdout
    assert "postman" in ended.stdout
    assert r"evil\x1b[31m[bold]\x07" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 120


def test_json_is_one_object_with_the_names_as_they_are(endpoint):
    ended = monitor(endpoint, "--once", "--json", "--vhost", endpoint.virtual_host)
    picture = json.loads(ended.stdout)
    queues = {each["name"]: each for each in picture["queues"]}
    assert list(queues) == ["orders", "mails", HOSTILE]
    assert queues["orders"]["total"] == 1234
    assert queues["orders"]["status"] == "yellow"
    assert queues["mails"]["unacknowledged"] == 7
    (consumer,) = queues["mails"]["consumers"]
    assert (consumer["tag"], consumer["prefetch"], consumer["manual_ack"]) == ("postman", 25, True)
    assert picture["summary"]["queues"] == 3
    assert picture["nodes"][0]["memory_used"] > 0


def test_watching_into_a_pipe_gives_one_picture_after_another_until_interrupted(endpoint):
    process = subprocess.Popen(
        [sys.executable, "-m", "rmqbench", "monitor", "--watch", "0.2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment_of(endpoint),
    )
    try:
        seen = 0
        for line in process.stdout:
            seen += set(line) == {"─", "\n"}
            if seen == 2:
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait(10)
    assert (process.returncode, errors) == (0, "")
    assert "\x1b" not in rest


def test_nobody_who_reads_is_the_end(endpoint):
    command = f"{sys.executable} -m rmqbench monitor --watch 0.1 | head -1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment_of(endpoint),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "RabbitMQ" in ended.stdout


def test_a_trouble_is_one_paragraph(endpoint):
    ended = monitor(endpoint, "--once", "--password", "wrong-one")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.startswith("Error: ")
    assert "refused the login of user 'guest'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "wrong-one" not in ended.stderr
