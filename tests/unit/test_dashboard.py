"""The dashboard without a broker: what is made of answers, how it is drawn, what keys do."""

import io
import json
import re
import threading
import time

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

import rmqbench.monitor.source
from rmqbench.cli import app
from rmqbench.errors import AccessRefused, ManagementUnavailable, UsageError
from rmqbench.management.answers import (
    read_alarms,
    read_connections,
    read_consumers,
    read_nodes,
    read_queues,
)
from rmqbench.monitor.controls import Controls, after
from rmqbench.monitor.keys import _SEQUENCE, Keys
from rmqbench.monitor.model import (
    as_json,
    make_picture,
    matching,
    sorted_queues,
)
from rmqbench.monitor.screen import watch
from rmqbench.monitor.short import line, short, short_bytes, short_rate
from rmqbench.monitor.source import ask
from rmqbench.monitor.view import Dashboard, Scene, clock_time, render

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

TIME_S = 1_700_000_000.0
HOSTILE = ["\x1b[31mred\x1b]0;title\x07", "[bold red]x[/]", "two\nlines\r", "宽" * 90, "\u202eabc"]
HOSTILE += ["\ud800", "x" * 255, "", "e\u0301\ufe0f", "\x9b2J"]


def queue(name="work", ready=0, unacknowledged=0, publish=0, deliver=0, ack=0, **more):
    rates = {"publish": publish, "deliver_get": deliver, "ack": ack}
    return {
        "name": name,
        "vhost": "/",
        "type": "classic",
        "state": "running",
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
        "message_stats": {f"{key}_details": {"rate": rate} for key, rate in rates.items()},
    } | more


def connection(name="127.0.0.1:5000 -> 127.0.0.1:5672", given="billing", **more):
    return {
        "name": name,
        "user_provided_name": given,
        "peer_host": "127.0.0.1",
        "peer_port": 5000,
        "user": "ann",
        "vhost": "/",
        "state": "running",
        "channels": 2,
        "recv_oct_details": {"rate": 1500.0},
        "send_oct_details": {"rate": 0.0},
    } | more


def consumer(tag="tag-1", queue="work", **more):
    return {
        "consumer_tag": tag,
        "queue": {"name": queue, "vhost": "/"},
        "channel_details": {
            "connection_name": "127.0.0.1:5000 -> 127.0.0.1:5672",
            "peer_host": "127.0.0.1",
            "peer_port": 5000,
        },
        "prefetch_count": 1000,
        "ack_required": True,
        "activity_status": "up",
    } | more


NODE = {
    "name": "rabbit@here",
    "running": True,
    "mem_used": 150_000_000,
    "mem_limit": 10_000_000_000,
    "disk_free": 80_000_000_000,
    "disk_free_limit": 50_000_000,
}


def picture(*queues, connections=(), consumers=(), nodes=(NODE,), alarms=(), time_s=TIME_S):
    return make_picture(
        time_s,
        "4.1.2",
        queues=read_queues(queues),
        connections=read_connections(connections),
        consumers=read_consumers(consumers),
        nodes=None if nodes is None else read_nodes(nodes),
        alarms=None if alarms is None else read_alarms(alarms),
    )


def text(shown, width=100, **more):
    return render(Scene("http://b:15672", shown, **more), width=width, colour=False)


def on_a_screen(shown, columns, lines, **more):
    """Return the lines as the live dashboard draws them into this size."""
    console = Console(width=columns, height=lines, force_terminal=False, legacy_windows=False)
    scene = Scene("http://b:15672", shown, live=True, keys=True, **more)
    with console.capture() as captured:
        console.print(Dashboard(scene), end="")
    return captured.get().split("\n")


# --- short numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (1234, "1.2K"),
        (9_949, "9.9K"),
        (9_960, "10K"),
        (10_000, "10K"),
        (12_345, "12K"),
        (999_499, "999K"),
        (999_500, "1M"),
        (1_500_000, "1.5M"),
        (12_000_000_000, "12G"),
    ],
)
def test_numbers_are_short(number, words):
    assert short(number) == words


@given(st.integers(0, 10**20))
def test_no_number_is_longer_than_four_characters(number):
    assert len(short(number)) <= 4


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0, "0/s"),
        (0.04, "<0.1/s"),
        (0.2, "0.2/s"),
        (9.96, "10/s"),
        (61.4, "61/s"),
        (1500, "1.5K/s"),
    ],
)
def test_a_slow_rate_is_not_nothing(rate, words):
    assert short_rate(rate) == words


def test_bytes_have_units():
    assert [short_bytes(each) for each in (0, 999, 1500, 2_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2 MB",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_one_printable_line(name):
    shown = line(name)
    assert shown.isprintable()
    assert "\ufe0f" not in shown


# --- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "unacknowledged", "colour"),
    [
        (0, 0, "green"),
        (999, 0, "green"),
        (0, 1000, "yellow"),
        (9_000, 999, "yellow"),
        (9_000, 1000, "red"),
        (10**7, 0, "red"),
    ],
)
def test_depth_is_a_colour(ready, unacknowledged, colour):
    (found,) = picture(queue(ready=ready, unacknowledged=unacknowledged)).queues
    assert found.depth == colour


@pytest.mark.parametrize(
    ("rates", "state"),
    [
        ({}, "idle"),
        ({"publish": 3}, "publishing"),
        ({"deliver": 3}, "consuming"),
        ({"ack": 0.2}, "consuming"),
        ({"publish": 3, "deliver": 3}, "publishing, consuming"),
    ],
)
def test_rates_tell_the_state(rates, state):
    assert picture(queue(**rates)).queues[0].state == state


@pytest.mark.parametrize("state", ["down", "crashed", "minority", "stopped"])
def test_a_queue_that_does_not_work_is_red_and_says_so(state):
    shown = picture(queue(state=state))
    assert shown.queues[0].depth == "red"
    assert f"│ {state} " in text(shown)


def test_a_consumer_is_found_with_its_connection():
    shown = picture(queue(), connections=[connection()], consumers=[consumer()])
    (found,) = shown.queues[0].consumers
    assert (found.tag, found.connection, found.host) == ("tag-1", "billing", "127.0.0.1:5000")
    assert shown.queues[0].consumer_count == 1


def test_the_summary_adds_up_what_is_there():
    shown = picture(
        queue("a", ready=5, publish=2), queue("b", unacknowledged=7), connections=[connection()]
    )
    summary = shown.summary
    assert (summary.queues, summary.active, summary.connections) == (2, 1, 1)
    assert (summary.ready, summary.unacknowledged, summary.publish_rate) == (5, 7, 2)


def test_an_alarm_of_the_health_check_goes_before_the_nodes_older_flag():
    raised = NODE | {"mem_alarm": True}
    assert picture(nodes=[raised], alarms=None).nodes[0].alarms == ("memory",)
    assert picture(nodes=[raised], alarms=[]).nodes[0].alarms == ()
    disk = [{"node": "rabbit@here", "resource": "disk"}]
    shown = picture(alarms=disk)
    assert shown.nodes[0].alarms == ("disk",)
    assert "disk alarm: publishers are blocked (rabbit@here)" in text(shown)
    assert "Nodes · alarm" in text(shown)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(sorted({*queue(), *connection(), *consumer(), *NODE, "rate"})), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JUNK, max_size=4))
def test_whatever_the_api_answers_is_a_picture(junk):
    queues, connections, consumers, nodes = (
        [*junk, *(whole | each for each in junk if isinstance(each, dict))]
        for whole in (queue(), connection(), consumer(), NODE)
    )
    shown = picture(*queues, connections=connections, consumers=consumers, nodes=nodes, alarms=junk)
    assert "figures of" in text(shown, width=60)
    json.dumps(as_json(shown, None, "depth"), allow_nan=False)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, ["Orders.eu", "orders.us", "a[1]"]),
        ("ORDERS", ["Orders.eu", "orders.us"]),
        ("*.us", ["orders.us"]),
        ("orders", ["Orders.eu", "orders.us"]),
        ("orders*", ["Orders.eu", "orders.us"]),
        ("orders.?u", ["Orders.eu"]),
        ("order?", []),
        ("[1]", ["a[1]"]),
    ],
)
def test_a_filter_is_a_part_of_the_name_or_a_pattern(pattern, names):
    shown = picture(queue("Orders.eu"), queue("orders.us"), queue("a[1]"))
    assert [each.name for each in matching(shown.queues, pattern)] == names


def test_queues_are_sorted_by_depth_rate_or_name():
    shown = picture(
        queue("b", ready=1), queue("c", publish=9), queue("a", ready=1), queue("d", ready=5)
    )
    names = {by: "".join(q.name for q in sorted_queues(shown.queues, by)) for by in after_sorts()}
    assert names == {"depth": "dabc", "rate": "cabd", "name": "abcd"}


def after_sorts():
    controls = Controls()
    for _ in range(3):
        yield controls.sort
        controls = after(controls, "s")
    assert controls == Controls()


# --- the view -----------------------------------------------------------------------------------


def test_a_card_tells_all_of_a_queue():
    shown = text(
        picture(
            queue(ready=12_345, unacknowledged=55, publish=61.4, deliver=50, ack=49),
            connections=[connection()],
            consumers=[consumer(), consumer("tag-2", prefetch_count=0, ack_required=False)],
        )
    )
    for words in (
        "■ work",
        "publishing, consuming",
        "2 consumers",
        r"ready +12K   publish +61/s",
        r"unacked +55   deliver +50/s",
        r"total +12K   ack +49/s",
        r"→ tag-1 +prefetch 1,000",
        r"127\.0\.0\.1:5000 billing +manual ack",
        r"→ tag-2 +no prefetch",
        r"127\.0\.0\.1:5000 billing +auto ack",
        r"billing +127\.0\.0\.1:5000 +ann +running +2 +1\.5 kB/s +0 B/s",
        "RabbitMQ 4.1.2 at http://b:15672",
        r"rabbit@here +150 MB   2% +10 GB +80 GB",
    ):
        assert re.search(words, shown), shown


def test_an_idle_queue_shows_no_rates():
    shown = text(picture(queue(ready=3)))
    card = shown[shown.index("● work") :]
    assert "no consumers" in card
    assert "/s" not in card


def test_many_consumers_are_counted():
    consumers = [consumer(f"tag-{number}") for number in range(40)]
    shown = text(picture(queue(), consumers=consumers))
    assert "40 consumers" in shown
    assert "… and 37 more consumers" in shown


def test_colours_tell_the_depth_and_no_color_takes_them_away(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for ready, code in ((0, "32"), (1000, "33"), (10_000, "31")):
        scene = Scene("http://b", picture(queue(ready=ready)))
        colours = set(re.findall(r"\x1b\[[0-9;]*?(3[123])m", render(scene, width=80, colour=True)))
        assert code in colours
        assert colours <= {code, "32"}  # the node is green
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", render(scene, width=80, colour=True))


@pytest.mark.parametrize("width", [1, 5, 20, 40, 41, 59, 60, 79, 80, 100, 119, 120, 160, 200])
@pytest.mark.parametrize("count", [0, 3, 50])
def test_no_line_is_wider_than_the_width(width, count):
    queues = [queue(name, 10**number) for number, name in enumerate(HOSTILE)][:count]
    queues += [queue(f"q{number}", vhost="/team") for number in range(count - len(queues))]
    connections = [connection(given=name, user=name) for name in HOSTILE]
    consumers = [consumer(name, queue=HOSTILE[1]) for name in HOSTILE]
    shown = text(picture(*queues, connections=connections, consumers=consumers), width=width)
    assert max(cell_len(each) for each in shown.splitlines()) <= width
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("columns", [1, 12, 40, 80, 150])
@pytest.mark.parametrize("lines", [1, 2, 5, 12, 24, 60])
def test_a_screen_is_filled_exactly(columns, lines):
    queues = [queue(name, 10**number) for number, name in enumerate(HOSTILE)]
    shown = on_a_screen(picture(*queues, connections=[connection()] * 7), columns, lines)
    assert len(shown) == lines
    assert {cell_len(each) for each in shown} == {columns}
    if columns >= 40:
        assert "depth" in shown[-1]
        assert clock_time(TIME_S) in shown[-1]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.integers(40, 130), st.integers(1, 40))
def test_no_name_breaks_the_screen(name, columns, lines):
    shown = picture(queue(name), connections=[connection(given=name)], consumers=[consumer(name)])
    drawn = on_a_screen(shown, columns, lines)
    assert len(drawn) == lines
    assert {cell_len(each) for each in drawn} == {columns}
    assert "".join(drawn).isprintable()


def test_where_cards_do_not_fit_there_are_lines_and_the_rest_is_counted():
    few = picture(*(queue(f"q{number}") for number in range(4)))
    many = picture(*(queue(f"q{number:03}", number) for number in range(300)))
    assert sum("no consumers" in each for each in on_a_screen(few, 80, 24)) == 2  # two by two
    drawn = on_a_screen(many, 80, 24)
    assert "Queues · 300" in "\n".join(drawn)
    assert "● q299" in "\n".join(drawn)
    (more,) = (each for each in drawn if "more (sorted by depth; --filter narrows)" in each)
    shown = sum("● q" in each for each in drawn)
    assert f"… and {300 - shown} more" in more
    assert shown >= 8


def test_thousands_of_queues_are_drawn_in_time():
    many = picture(*(queue(f"q{number}", number) for number in range(5000)))
    started = time.process_time()
    on_a_screen(many, 120, 50)
    assert time.process_time() - started < 5


def test_into_a_pipe_every_queue_is_written():
    many = text(picture(*(queue(f"q{number:03}") for number in range(300))))
    assert len(re.findall(r"● q\d{3}", many)) == 300


def test_virtual_hosts_are_told_apart_where_there_are_several():
    assert "classic · " not in text(picture(queue()))
    assert "classic · team" in text(picture(queue(), queue(vhost="team")))


def test_a_filter_without_a_match_says_so():
    assert "No queue matches x*." in text(picture(queue()), pattern="x*")
    assert "There are no queues." in text(picture())


def test_where_the_output_is_ascii_all_of_it_is():
    scene = Scene("http://b", picture(queue(ready=10_000), consumers=[consumer()]))
    shown = render(scene, width=70, colour=False, encoding="ascii")
    assert shown.isascii()
    assert "# work" in shown
    assert "?" not in shown


def test_nodes_that_one_may_not_see_are_explained():
    assert "tag 'monitoring'" in text(picture(queue(), nodes=None))


# --- keys and the live screen -------------------------------------------------------------------


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


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch):
    """Run the command in this process, on a picture, and give what it wrote."""
    for name in ("RMQBENCH_URL", "RMQBENCH_MANAGEMENT_URL", "RMQBENCH_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    shown = picture(queue("orders", ready=1234), queue("mails"))
    monkeypatch.setattr(rmqbench.monitor.source, "ask", lambda *_: shown)
    return lambda *arguments: CliRunner().invoke(app, ["monitor", *arguments])


@pytest.mark.parametrize(("pattern", "names"), [("RDE", ["orders"]), ("m*s", ["mails"])])
def test_json_holds_what_the_filter_leaves(command, pattern, names):
    shown = json.loads(command("--json", "--filter", pattern).stdout)
    assert [each["name"] for each in shown["queues"]] == names
    assert shown["time"] == "2023-11-14T22:13:20.000+00:00"
    assert shown["summary"]["queues"] == 2


@pytest.mark.parametrize("arguments", [["--once"], ["--watch", "0"]])
def test_once_is_one_picture(command, arguments):
    ended = command(*arguments)
    assert ended.exit_code == 0
    assert ended.stdout.count("RabbitMQ 4.1.2") == 1
    assert "\x1b" not in ended.stdout


def test_a_negative_interval_is_refused(command):
    assert command("--watch", "-1").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--host", "127.0.0.1:1"], ManagementUnavailable, "answers at http://127.0.0.1:1"),
        (
            ["--management-url", "amqp://127.0.0.1"],
            UsageError,
            "not the address of a Management API",
        ),
        (["--host", "127.0.0.1:x"], UsageError, "not the address of a broker"),
    ],
)
def test_a_trouble_is_an_error_of_ours(command, monkeypatch, arguments, kind, words):
    monkeypatch.setattr(rmqbench.monitor.source, "ask", ask)
    with pytest.raises(kind, match=words):
        raise command("--once", *arguments).exception
