"""``rmqbench gui``: the feed at a real broker, the window on a display of its own, the command."""

import contextlib
import gc
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from statistics import median

import pika
import pytest
from typer.testing import CliRunner

import rmqbench.gui
from rmqbench.amqp.admin import admin
from rmqbench.amqp.connection import Connection
from rmqbench.amqp.topology import Queue, Topology, counts, declare, ready_count
from rmqbench.cli import app
from rmqbench.clients import recovery
from rmqbench.clients.recovery import Recovery
from rmqbench.errors import ConnectionLost, QueueLocked, QueueNotFound, RmqbenchError
from rmqbench.gui.feed import Activity, Feed
from rmqbench.message import Recipe
from rmqbench.proxy import Proxy

QUEUE = "work.queue"
RECIPE = Recipe(uuid.uuid4(), producer_id="alice", host="build-01")


@pytest.fixture
def vhost(rmqbench_broker):
    """A virtual host with the two queues."""
    name = f"rmqbench-user-{uuid.uuid4().hex[:8]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        endpoint = rmqbench_broker.endpoint.in_virtual_host(name)
        declare(endpoint, Topology(queues=(Queue(QUEUE),)), rmqbench_broker.version)
        yield endpoint
        management.delete_virtual_host(name)


def publish(endpoint, *bodies, **properties):
    with admin(endpoint) as channel:
        for body in bodies:
            channel.basic_publish("", QUEUE, body, pika.BasicProperties(**properties))


def numbered(count):
    return [b"%d" % number for number in range(count)]


def frames_of(body, properties):
    method = pika.spec.Basic.Publish(exchange="", routing_key=QUEUE)
    yield pika.frame.Method(1, method).marshal()
    yield pika.frame.Header(1, len(body), properties).marshal()
    yield pika.frame.Body(1, body).marshal()


def wait_until(condition, what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def wait_for_rest(endpoint, count):
    """Wait until nobody consumes the queue any more, and just so many messages are in it."""
    wait_until(lambda: counts(endpoint, QUEUE) == (count, 0), f"{count} messages to be left")


def taken(feed, count):
    """Take until so many are there, and mark nothing."""
    batches = []
    wait_until(
        lambda: batches.append(feed.next_batch(1000)) or sum(map(size, batches)) >= count,
        f"{count} messages",
    )
    return [batch for batch in batches if batch is not None]


def size(batch):
    return 0 if batch is None else len(batch.messages)


def bodies(batches):
    return [message.body for batch in batches for message in batch.messages]


# --- the feed ------------------------------------------------------------------------------------


@pytest.fixture
def patient_stop(monkeypatch):
    """A feed that stops has all the time to acknowledge what is due."""
    monkeypatch.setattr("rmqbench.gui.feed._STOP_S", 60.0)


@pytest.mark.usefixtures("patient_stop")
def test_everything_is_handed_over_in_order(vhost):
    publish(vhost, *numbered(2500))
    seen = []
    with Feed(vhost, QUEUE, prefetch=100) as feed:
        while len(seen) < 2500:
            for batch in taken(feed, 1):
                seen += bodies([batch])
                feed.mark_shown(batch)
    assert seen == numbered(2500)
    assert feed.shown == feed.acknowledged == 2500
    wait_for_rest(vhost, 0)


def test_only_what_was_shown_is_acknowledged(vhost):
    publish(vhost, *numbered(30))
    with Feed(vhost, QUEUE, prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        first, second = feed.next_batch(4), feed.next_batch(1000)
        assert (size(first), size(second), feed.next_batch(1000)) == (4, 6, None)
        time.sleep(0.3)
        assert (feed.waiting, feed.acknowledged) == (0, 0)
        feed.mark_shown(first)
        wait_until(lambda: feed.waiting == 4, "as many again")
    assert (feed.shown, feed.acknowledged) == (4, 4)
    wait_for_rest(vhost, 26)


def test_what_is_not_taken_is_held_by_the_prefetch_and_goes_back(vhost):
    publish(vhost, *numbered(30))
    with Feed(vhost, QUEUE, prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        time.sleep(0.3)
        assert feed.waiting == 10
        wait_until(lambda: ready_count(vhost, QUEUE) == 20, "the others to be ready")
    assert feed.acknowledged == 0
    wait_for_rest(vhost, 30)


@pytest.mark.usefixtures("patient_stop")
def test_after_a_lost_connection_it_goes_on_and_nothing_is_lost(
    vhost, rmqbench_broker, monkeypatch
):
    monkeypatch.setattr(recovery, "_FIRST_PAUSE_S", 2.0)  # long enough to be seen
    publish(vhost, *numbered(20))
    with Feed(vhost, QUEUE, name="Auditor", prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        feed.mark_shown(feed.next_batch(10))
        wait_until(lambda: feed.acknowledged == 10, "the acknowledgement")
        stale = taken(feed, 1)
        with rmqbench_broker.management as management:
            # Both are listed some seconds late, the consumer by its tag.
            named, tags = [], []

            def listed():
                named[:] = [
                    each["name"]
                    for each in management.connections(vhost.virtual_host)
                    if each.get("client_properties", {}).get("connection_name") == "Auditor"
                ]
                tags[:] = [e["consumer_tag"] for e in management.consumers(vhost.virtual_host)]
                return named and tags

            wait_until(listed, "the connection and its consumer to be listed")
            assert tags == ["Auditor"]
            management.close_connection(named[0], "for a test")
        seen = []
        wait_until(
            lambda: seen.append(feed.state) or seen[-1].activity is Activity.RECONNECTING,
            "the loss",
        )
        assert "for a test" in seen[-1].why
        wait_until(lambda: feed.state.activity is Activity.CONSUMING, "a new connection")
        feed.mark_shown(stale[0])  # over a channel that is gone: nothing to acknowledge
        assert feed.acknowledged == 10
        again = taken(feed, 10)
        assert bodies(again) == numbered(20)[10:]
        assert again[0].messages[0].redelivered
        for batch in again:
            feed.mark_shown(batch)
    assert feed.acknowledged == 20
    wait_for_rest(vhost, 0)


def test_a_queue_that_goes_and_comes_back_is_shown_again(vhost, rmqbench_broker):
    with Feed(vhost, QUEUE) as feed:
        with admin(vhost) as channel:
            channel.queue_delete(QUEUE)
        wait_until(lambda: feed.state.activity is Activity.NO_QUEUE, "the queue to be missed")
        assert QUEUE in feed.state.why
        declare(vhost, Topology(queues=(Queue(QUEUE),)), rmqbench_broker.version)
        publish(vhost, b"new")
        assert bodies(taken(feed, 1)) == [b"new"]
        wait_until(lambda: feed.state.activity is Activity.CONSUMING, "it to be told")


def test_a_queue_that_was_never_there_is_an_error(vhost):
    with pytest.raises(QueueNotFound, match=r"no\.queue"), Feed(vhost, "no.queue"):
        pass


def test_a_queue_that_another_consumes_alone_is_an_error(vhost):
    feed = Feed(vhost, QUEUE)
    with admin(vhost) as channel:
        channel.basic_consume(QUEUE, lambda *_: None, exclusive=True)
        with pytest.raises(QueueLocked, match=QUEUE), feed:
            pass
    assert feed.state.activity is Activity.ENDED


def test_a_connection_that_ends_before_anything_is_consumed_is_an_error(vhost, monkeypatch):
    connected = Recovery.connected
    with Proxy(vhost) as proxy:

        def connected_once(recovery):
            connected(recovery)
            assert proxy.cut_inside_frame() == 1  # of the channel's opening
            monkeypatch.undo()

        monkeypatch.setattr(Recovery, "connected", connected_once)
        feed = Feed(proxy.endpoint, QUEUE)
        with pytest.raises(ConnectionLost), feed:
            pass
    assert feed.state.activity is Activity.ENDED


def test_of_a_huge_body_the_beginning_is_kept(vhost):
    publish(vhost, b"x" * 8_000_000)
    with Feed(vhost, QUEUE) as feed:
        message = taken(feed, 1)[0].messages[0]
    assert (message.size_bytes, len(message.body)) == (8_000_000, 16_384)


def test_a_message_that_cannot_be_read_ends_it_and_is_not_acknowledged(vhost):
    """It has a header with a time that Python cannot hold."""
    frames = b"".join(frames_of(b"x", pika.BasicProperties(headers={"x": 2**63 - 1})))
    with Connection(vhost, name="hostile") as connection:
        connection.channel()
        connection.send(frames.replace(b"\x01xl", b"\x01xT"))
    feed = Feed(vhost, QUEUE)
    with contextlib.suppress(Exception), feed:
        wait_until(lambda: feed.failure, "the failure")
    assert "that the broker sent cannot be read" in str(feed.failure)
    assert feed.state.activity is Activity.ENDED
    wait_for_rest(vhost, 1)


# --- the window ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def display():
    """A display of our own; where there is no Xvfb, the one that is there."""
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    server = shutil.which("Xvfb")
    if server is None:
        if not os.environ.get("DISPLAY"):
            pytest.skip("there is no Xvfb, and no DISPLAY either")
        yield os.environ["DISPLAY"]
        return
    process = subprocess.Popen(
        [server, "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        name = f":{process.stdout.readline().strip()}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", name)
            yield name
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def opened(vhost, display):
    """A function that opens a window on the queue; the feed is stopped and Tk let go of here.

    Tk's objects may only be collected in the thread that made them.
    """
    module = pytest.importorskip("rmqbench.gui.window")
    windows = []
    with contextlib.ExitStack() as stack:

        def open_window(keep=1000, **options):
            feed = stack.enter_context(Feed(vhost, QUEUE, **options))
            windows.append(module.Window(module.open_root(), feed, keep=keep))
            return windows[-1]

        yield open_window
    windows.clear()
    gc.collect()


def play(window, script, timeout_s=90):
    """Run the window, and beside it a generator that yields each condition it waits for."""
    deadline = time.monotonic() + timeout_s
    met = [lambda: True]

    def step():
        assert time.monotonic() < deadline, "the script came to no end"
        if met[0]():
            try:
                met[0] = next(script)
            except StopIteration:
                window.close()
                return
        window.root.after(10, step)

    window.root.after(0, step)
    window.run()


def after(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def texts(window):
    return [str(window.table.set(name, "text")) for name in window.table.get_children()]


def text_of(page):
    return page.get("1.0", "end")


def test_messages_are_shown_and_then_acknowledged(vhost, opened):
    publish(vhost, *numbered(10), headers={"producer_id": "alice", "host": "build-01"})
    window = opened(name="Watcher")

    def script():
        yield lambda: window.feed.acknowledged == 10
        assert window.root.title() == "Watcher: work.queue"
        assert texts(window) == [str(number) for number in range(10)]
        row = window.table.item(window.table.get_children()[0], "values")
        assert row[1:3] == ("alice", "build-01")
        yield lambda: "10 received" in window.counter.cget("text")
        yield lambda: window.state_label.cget("text").startswith("Connected to amqp://")

    play(window, script())
    wait_until(lambda: ready_count(vhost, QUEUE) == 0, "the queue to be empty")


def test_pause_holds_and_goes_on(vhost, opened):
    publish(vhost, *numbered(5))
    window = opened(prefetch=10)

    def script():
        yield lambda: window.feed.acknowledged == 5
        window.pause_button.invoke()
        publish(vhost, *numbered(30))
        yield lambda: window.feed.waiting == 10
        yield after(0.3)
        assert len(texts(window)) == window.feed.acknowledged == 5
        yield lambda: window.state_label.cget("text").startswith("Paused: 10 messages are held")
        assert window.pause_button.cget("text") == "Resume"
        yield lambda: ready_count(vhost, QUEUE) == 20
        press(window, "p")
        yield lambda: window.feed.acknowledged == 35
        assert len(texts(window)) == 35

    play(window, script())


def press(window, key, **more):
    window.root.focus_force()
    window.root.update()
    window.root.event_generate(f"<KeyPress-{key}>", **more)


def test_clear_empties_the_table_and_the_counter_goes_on(vhost, opened):
    publish(vhost, *numbered(5))
    window = opened()

    def script():
        yield lambda: window.feed.shown == 5
        window.table.selection_set(window.table.get_children()[0])
        press(window, "c", state=0x04)  # with Control it copies
        assert len(texts(window)) == 5
        press(window, "c")
        assert texts(window) == []
        assert "Choose a message" in text_of(window.about)
        publish(vhost, b"next")
        yield lambda: window.feed.shown == 6
        assert texts(window) == ["next"]
        yield lambda: "6 received" in window.counter.cget("text")

    play(window, script())


def test_a_chosen_message_is_shown_whole_and_stays_when_it_leaves_the_table(vhost, opened):
    publish(
        vhost,
        b"{[exec false]}\x1b[31m $x \\",
        headers={"producer_id": "eve", "nested": {"a": [1, b"\xff"]}},
        correlation_id="c-1",
    )
    window = opened(keep=3)

    def script():
        yield lambda: window.feed.shown == 1
        window.table.selection_set(window.table.get_children()[0])
        yield lambda: "eve" in text_of(window.about)
        for word in ("eve", "{a: [1, binary, 1 byte: ff]}", "c-1", "(default exchange)", QUEUE):
            assert word in text_of(window.about)
        assert "{[exec false]}\\x1b[31m $x \\" in text_of(window.contents)
        assert texts(window) == ["{[exec false]}\\x1b[31m $x \\"]
        publish(vhost, *numbered(5))
        yield lambda: window.feed.shown == 6
        assert texts(window) == ["2", "3", "4"]
        assert "eve" in text_of(window.about)

    play(window, script())


HOSTILE = [
    "😀 \u202e \ud800".encode("utf-8", "surrogatepass"),
    "a😀b".encode(),
    "\u202eabc".encode(),
    b"\0" * 100,
    b"\xff\xfe",
    b"x" * 300_000,
    b"\n" * 5000,
    "ก็็็็็็็็็็็็็็็็็็็็".encode() * 50,
    bytes(range(256)) * 100,
    b"RMQB",
    b"",
]


def test_no_message_stops_the_window(vhost, opened):
    publish(vhost, *HOSTILE, headers={"producer_id": ["😀", {"x": None}], "host": 7, "": "\0"})
    window = opened()

    def script():
        yield lambda: window.feed.acknowledged == len(HOSTILE)
        for name in window.table.get_children():
            window.table.selection_set(name)
            yield after(0.03)
            yield lambda: "host" in text_of(window.about)

    play(window, script())


def test_it_follows_the_newest_until_one_scrolls_up(vhost, opened):
    publish(vhost, *numbered(100))
    window = opened(keep=200)

    def in_sight():
        return window.table.set(window.table.identify_row(40), "text")

    def script():
        table = window.table
        yield lambda: window.feed.shown == 100
        yield lambda: table.yview()[1] == 1.0
        for _ in range(5):
            table.event_generate("<Button-4>", x=50, y=50)
        yield lambda: not window.following
        yield after(0.05)
        seen = in_sight()
        publish(vhost, *numbered(150))
        yield lambda: window.feed.shown == 250
        yield after(0.05)
        assert in_sight() == seen, "what one reads stays where it is, though 50 lines went"
        yield lambda: "F follows them" in window.hint.cget("text")
        window.follow_button.invoke()
        yield lambda: table.yview()[1] == 1.0
        publish(vhost, b"last")
        yield lambda: window.feed.shown == 251
        yield lambda: table.yview()[1] == 1.0

    play(window, script())


def test_an_interruption_is_told(vhost, opened, rmqbench_broker):
    window = opened()

    def script():
        with admin(vhost) as channel:
            channel.queue_delete(QUEUE)
        yield lambda: window.state_label.cget("text").startswith("The queue is not there since")
        declare(vhost, Topology(queues=(Queue(QUEUE),)), rmqbench_broker.version)
        yield lambda: window.state_label.cget("text").startswith("Connected")

    play(window, script())


def flood(endpoint, rate, seconds, stop):
    """Publish at a steady rate, so cheaply that it takes nothing from the window."""
    frames = []
    for number in range(rate // 20):
        body = RECIPE.body(0, number, time.time_ns())
        properties = RECIPE.properties(0, number, time.time_ns())
        frames += frames_of(body, properties)
    burst = b"".join(frames)
    with Connection(endpoint, name="flood") as connection:
        connection.channel()
        due = time.monotonic()
        for _ in range(20 * seconds):
            connection.send(burst)
            due += 0.05
            while time.monotonic() < due and not stop.is_set():
                connection.turn()


def test_at_5000_messages_a_second_it_still_reacts(vhost, opened, record_property):
    window = opened()
    stop = threading.Event()
    thread = threading.Thread(target=flood, args=(vhost, 5000, 3, stop))
    ticks = []

    def tick():
        ticks.append(time.monotonic())
        window.root.after(10, tick)

    def script():
        tick()
        thread.start()
        started, used = time.monotonic(), time.process_time()
        yield lambda: window.feed.shown >= 10_000
        window.table.selection_set(window.table.get_children()[-1])
        yield lambda: window.feed.acknowledged == 15_000
        took, used = time.monotonic() - started, time.process_time() - used
        record_property("seconds", round(took, 2))
        print(f"15,000 messages in {took:.2f} s, {used:.2f} s of them on a processor")
        # Feed, window and flood share a processor with whatever else is going on.
        assert took < 60
        assert used < 4
        assert len(window.table.get_children()) == 1000
        assert "alice" in text_of(window.about)

    try:
        play(window, script(), timeout_s=120)
    finally:
        stop.set()
        thread.join(60)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    record_property("longest_gap_s", round(max(gaps), 3))
    print(f"longest gap between ticks {max(gaps):.3f} s, median {median(gaps):.3f}")
    assert median(gaps) < 0.3


def test_it_can_be_seen(vhost, opened, display, tmp_path):
    image_grab = pytest.importorskip("PIL.ImageGrab", reason="a picture needs Pillow")
    colleague = Recipe(RECIPE.run, "Invoice 2093 sent", producer_id="bob", host="laptop-7")
    with admin(vhost) as channel:
        for number in range(12):
            recipe = colleague if number % 3 == 1 else RECIPE
            sent_ns = time.time_ns()
            properties = recipe.properties(0, number, sent_ns)
            channel.basic_publish("", QUEUE, recipe.body(0, number, sent_ns), properties)
    window = opened()
    pictures = []

    def script():
        yield lambda: window.feed.shown == 12
        window.table.selection_set(window.table.get_children()[7])
        yield lambda: "Choose a message" not in text_of(window.about)
        yield after(0.3)
        root = window.root
        root.update()
        left, top = root.winfo_rootx(), root.winfo_rooty()
        box = (left, top, left + root.winfo_width(), top + root.winfo_height())
        pictures.append(image_grab.grab(bbox=box, xdisplay=display))

    play(window, script())
    picture = pictures[0].convert("L")
    picture.save(tmp_path / "gui.png")
    assert picture.width >= 640
    dark = picture.histogram()[:100]
    assert sum(dark) > 3000, "there is hardly any text in it"
    table = picture.crop((20, 120, 400, 400))
    assert sum(table.histogram()[:100]) > 500, "the table is empty"


# --- the command ---------------------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, "-m", "rmqbench", "gui", *arguments]


def ended(*arguments, **more):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=90, check=False, **more
    )


@contextlib.contextmanager
def running(*arguments):
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        with process:  # closes its pipes, and waits
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="signals are not sent to processes there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_soon_and_the_sums_are_right(vhost, display, name):
    """In the middle of its work: what was acknowledged is gone, all else is in the queue."""
    prefetch = 50
    with Connection(vhost, name="publisher") as connection:
        connection.channel()
        connection.send(b"".join(frames_of(b"x", pika.BasicProperties())) * 20_000)
        connection.wait_until(lambda: not connection.unsent_bytes, 60, "everything to be sent")
    wait_until(lambda: ready_count(vhost, QUEUE) == 20_000, "all to be in the queue")
    with running("--url", vhost.url(), "--prefetch", str(prefetch)) as process:
        wait_until(lambda: ready_count(vhost, QUEUE) < 18_000, "it to begin", 90)
        process.send_signal(getattr(signal, name))
        started = time.monotonic()
        out, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 15
    assert (process.returncode, errors) == (0, "")
    shown, acknowledged = map(int, re.fullmatch(r"shown=(\d+), acknowledged=(\d+)\n", out).groups())
    assert 0 < shown <= 20_000
    # Where its second is not enough for the last acknowledgements, their messages come again.
    assert 0 <= shown - acknowledged <= prefetch
    most = 20_000 - acknowledged + (prefetch if acknowledged < shown else 0)

    def as_told():
        ready, consumers = counts(vhost, QUEUE)
        return not consumers and 20_000 - shown <= ready <= most

    wait_until(as_told, "all that was not acknowledged to be in the queue")


@pytest.mark.skipif(os.name == "nt", reason="signals are not sent to processes there")
def test_a_closed_output_changes_no_exit_code(vhost, display):
    publish(vhost, *numbered(20))
    with running("--url", vhost.url(), "--prefetch", "5") as process:
        process.stdout.close()
        wait_until(lambda: ready_count(vhost, QUEUE) < 15, "some to be shown")
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        assert process.wait(10) == 0, errors
    assert "could not be written out (Broken pipe). shown=" in errors


def test_a_queue_that_is_not_there_is_told_before_a_window_opens(vhost, display):
    told = ended("--url", vhost.url(), "--queue", "no.queue")
    assert (told.returncode, told.stdout) == (2, "")
    assert "There is no queue 'no.queue'" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only there a display may be missing")
def test_no_display_is_told(vhost):
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    publish(vhost, b"x")
    without = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    told = ended("--url", vhost.url(), env=without)
    assert (told.returncode, told.stdout) == (3, "")
    assert "no display" in told.stderr
    assert "DISPLAY" in told.stderr
    assert "Traceback" not in told.stderr
    assert ready_count(vhost, QUEUE) == 1


def test_a_python_without_tk_is_told_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "rmqbench.gui.window", raising=False)
    monkeypatch.delattr(rmqbench.gui, "window", raising=False)
    monkeypatch.setitem(sys.modules, "tkinter", None)
    result = CliRunner().invoke(app, ["gui"])
    assert isinstance(result.exception, RmqbenchError)
    assert "apt install python3-tk" in result.exception.remedy


def test_the_help_says_that_messages_are_taken():
    assert "It consumes like a worker" in CliRunner().invoke(app, ["gui", "--help"]).stdout
