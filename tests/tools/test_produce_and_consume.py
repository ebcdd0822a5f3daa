"""``rmqbench produce`` and ``rmqbench consume`` as people use them, one after the other."""

import json
import os
import re
import signal
import subprocess
import time
import uuid
from contextlib import suppress

import pika
import pytest
from support.tools import PROGRAM, rmqbench, start_rmqbench, wait_until

from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import counts, ready_counts
from rmqbench.management.client import Management
from rmqbench.proxy import Proxy


@pytest.fixture
def tool(vhost, monkeypatch):
    """Run a subcommand in the user's virtual host; the environment holds the login."""
    monkeypatch.setenv("RMQBENCH_URL", vhost.url())

    return rmqbench


@pytest.fixture
def begin(vhost, monkeypatch):
    """Begin a subcommand, to be interrupted."""
    monkeypatch.setenv("RMQBENCH_URL", vhost.url())
    begun = []

    def start(*arguments):
        begun.append(start_rmqbench(*arguments))
        return begun[-1]

    yield start
    for process in begun:
        with process:  # closes its pipes, and waits
            process.kill()


def last_line(ended):
    return ended.stdout.splitlines()[-1]


# --- together -----------------------------------------------------------------------------------


def test_ten_thousand_are_produced_and_then_consumed(tool, vhost):
    produced = tool("produce", "--count", "10000", "--durable", "--purge")
    assert produced.returncode == 0, produced.stderr
    line = last_line(produced)
    assert line.startswith("published=10000, confirmed=10000, in_queue_ready=10000")
    assert "publish: 10,000 of 10,000" in produced.stderr
    consumed = tool("consume", "--name", "Worker-1", "--expect", "10000")
    assert consumed.returncode == 0, consumed.stderr
    assert re.fullmatch(r"consumed=10000, time=\d+\.\d\ds", last_line(consumed))
    assert "from=" in consumed.stdout
    assert "Worker-1: 10,000 of 10,000" in consumed.stderr
    assert ready_counts(vhost, ["work.queue", "audit.queue"]) == {
        "work.queue": 0,
        "audit.queue": 10_000,
    }


@pytest.mark.slow
def test_a_disk_backed_backlog_is_shared_by_workers(tool, vhost):
    names = ("--queue", "work.queue.big", "--lazy")
    assert tool("produce", "--count", "30000", "--audit-queue", "a.big", *names).returncode == 0
    consumed = tool(
        *("consume", *names, "--prefetch", "5000", "--progress-every", "10000"),
        *("--workers", "3", "--expect", "30000", "--json"),
    )
    assert consumed.returncode == 0, consumed.stderr
    figures = json.loads(consumed.stdout)
    assert figures["consumed"] == sum(figures["from"].values()) == 30_000
    # A line for every 10,000, except where two of them passed between two looks.
    told = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) of 30,000", consumed.stderr)]
    assert told == sorted({*told, 30_000})
    assert ready_counts(vhost, ["work.queue.big"]) == {"work.queue.big": 0}


def test_no_more_is_acknowledged_than_expected(tool, vhost):
    tool("produce", "--count", "1000")
    assert last_line(tool("consume", "--expect", "123", "--workers", "2")).startswith(
        "consumed=123,"
    )
    wait_until(lambda: ready_counts(vhost, ["work.queue"])["work.queue"] == 877, "the rest")


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["line", "json"])
def test_a_closed_output_changes_no_exit_code_and_the_result_is_told(begin, vhost, form):
    for command, told in (
        (("produce", "--count", "5"), "published=5, confirmed=5, in_queue_ready=5, "),
        (("consume", "--expect", "5"), "consumed=5, "),
    ):
        process = begin(*command, *form)
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == 0, errors
        assert f"could not be written out (Broken pipe). {told}" in errors
        assert "Traceback" not in errors
    assert ready_counts(vhost, ["work.queue"]) == {"work.queue": 0}


def test_messages_that_nobody_sees_any_more_stay_in_the_queue(begin, tool, vhost):
    tool("produce", "--count", "5")
    process = begin("consume", "--expect", "5", "--show")
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(30) == 3
    assert "could not be shown (Broken pipe)" in errors
    wait_until(lambda: ready_counts(vhost, ["work.queue"])["work.queue"] == 5, "all to be back")


# --- produce ------------------------------------------------------------------------------------


def test_each_message_carries_who_and_where_and_its_text(tool, vhost):
    tool("produce", "--count", "3", "--producer-id", "alice", "--text", "Grüße", "--size", "300")
    with admin(vhost) as channel:
        method, properties, body = channel.basic_get("work.queue")
    assert method is not None
    assert properties.headers["producer_id"] == "alice"
    assert properties.headers["host"]
    assert uuid.UUID(properties.message_id).version == 8
    assert abs(properties.timestamp - time.time()) < 60
    assert properties.delivery_mode == 2
    assert len(body) == 300
    assert body[44:].startswith("Grüße".encode())


def test_messages_of_mixed_sizes_are_published_and_taken(tool, vhost):
    tool("produce", "--count", "300", "--producer-id", "alice", "--size", "100:1000*9,200000")
    ended = tool("consume", "--expect", "300", "--json")
    told = json.loads(ended.stdout)
    assert (told["consumed"], told["from"]) == (300, {"alice": 300})
    assert ready_counts(vhost, ["work.queue"]) == {"work.queue": 0}


def test_purge_empties_both_queues_first(tool, vhost):
    for _ in range(2):
        ended = tool("produce", "--count", "50", "--purge", "--json")
    assert json.loads(ended.stdout)["in_queue_ready"] == 50
    assert "50 messages purged from work.queue" in ended.stderr
    assert "50 messages purged from audit.queue" in ended.stderr


@pytest.fixture
def in_a_terminal(vhost, monkeypatch):
    """Run a command in a pseudo-terminal; return its exit code and all that it wrote there."""
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of POSIX")
    for name in ("NO_COLOR", "FORCE_COLOR", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RMQBENCH_URL", vhost.url())

    def run(*arguments):
        master, slave = pty.openpty()
        process = subprocess.Popen([*PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        written = b""
        try:
            with suppress(OSError):  # that nobody holds the other end any more
                while data := os.read(master, 65536):
                    written += data
            return process.wait(60), written.decode()
        finally:
            os.close(master)
            process.kill()
            process.wait(10)

    return run


SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def test_on_a_terminal_a_bar_with_a_rate_lives_until_the_last_line(in_a_terminal):
    code, written = in_a_terminal("produce", "--count", "2000", "--rate", "1500")
    assert code == 0, written
    assert COLOURS.search(written)
    pictures = re.findall(
        r"publish .*?([\d,]+)/2,?000 +(?:([\d,]+)/s)?", SEQUENCES.sub("", written)
    )
    counts = [int(done.replace(",", "")) for done, _ in pictures]
    assert counts == sorted(counts)
    assert len(set(counts)) > 5, "it lives"
    assert counts[-1] == 2000
    assert any(500 < int(rate.replace(",", "")) < 3000 for _, rate in pictures if rate)
    assert "publish: " not in written, "a line is for where there is no bar"
    last = SEQUENCES.sub("", written).splitlines()[-1]
    assert last.startswith("published=2000, confirmed=2000, in_queue_ready=2000, time=")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is back"


def test_with_no_color_the_bar_has_no_colours(in_a_terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    code, written = in_a_terminal("produce", "--count", "500", "--rate", "1000")
    assert code == 0, written
    assert "500/500" in written
    codes = {each for sequence in COLOURS.findall(written) for each in sequence[2:-1].split(";")}
    assert codes <= {"", "0", "1", "2", "3", "4"}, "bold and the like are no colours"


def test_without_purge_what_is_there_stays(tool):
    tool("produce", "--count", "50")
    assert "in_queue_ready=80" in last_line(tool("produce", "--count", "30"))


def test_a_rate_is_kept(tool):
    ended = tool("produce", "--count", "300", "--rate", "200", "--confirm-window", "10", "--json")
    assert 1.3 < json.loads(ended.stdout)["seconds"] < 3


def test_a_queue_with_other_arguments_is_told_with_the_ways_out(tool):
    tool("produce", "--count", "1")
    ended = tool("produce", "--count", "1", "--no-durable", timeout=30)
    assert ended.returncode == 2
    assert "exists with another durable" in ended.stderr
    assert "use another name" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_interrupted_it_waits_for_its_confirms_and_tells_the_truth(begin, vhost, number, code):
    process = begin("produce", "--count", "1000000", "--rate", "2000", "--progress-every", "500")
    assert process.stderr is not None
    while "publish: " not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code
    found = re.match(r"published=(\d+), confirmed=(\d+), in_queue_ready=(\d+)", output)
    assert found, output
    assert len(set(found.groups())) == 1, "all that was published is confirmed and there"
    assert 0 < int(found[1]) < 1_000_000


@pytest.mark.parametrize("command", ["produce", "consume"])
def test_one_ctrl_c_ends_it_at_once_also_while_it_reconnects(begin, tool, vhost, command):
    arguments = {
        "produce": ("--count", "1000000", "--rate", "2000"),
        "consume": ("--expect", "1000000"),
    }[command]
    tool("produce", "--count", "1000")
    with Proxy(vhost) as proxy:
        process = begin(
            *(command, *arguments, "--progress-every", "500", "--url", proxy.endpoint.url())
        )
        while " of 1,000,000" not in process.stderr.readline():
            assert process.poll() is None
    time.sleep(1)  # nobody listens there any more, and the pauses between attempts have grown
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert "Nothing listens" in errors
    assert "Traceback" not in errors
    if command == "produce":
        assert process.returncode == 130
        assert re.match(r"published=\d+, confirmed=\d+, .*in_queue_ready=\?, ", output)
    else:
        assert process.returncode == 4
        assert output.splitlines()[-1].startswith("consumed=1000, ")


def test_a_full_queue_that_rejects_exits_with_1(tool, vhost):
    with admin(vhost) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
        for queue in ("work.queue", "audit.queue"):
            limit = {"x-queue-type": "classic"}
            channel.queue_declare(queue, durable=True, arguments=limit)
    vhost_policy(vhost, {"max-length": 10, "overflow": "reject-publish"})
    ended = tool("produce", "--count", "100", "--confirm-window", "1", "--json")
    figures = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert figures["nacked"] > 0
    assert figures["confirmed"] + figures["nacked"] == 100


def vhost_policy(vhost, definition):
    with Management(vhost) as management:
        management.set_policy("limit", "^work", definition, vhost=vhost.virtual_host)


# --- consume ------------------------------------------------------------------------------------


def test_messages_of_any_origin_are_taken_and_shown_and_not_obeyed(tool, vhost):
    tool("produce", "--count", "2", "--producer-id", "alice")
    strange = [
        (b"plain \xe2\x9c\x93", pika.BasicProperties()),
        (b"\x00\xff\x1b[31mred", pika.BasicProperties(headers={"producer_id": "\x1b[2J"})),
        (b"", pika.BasicProperties(headers={"producer_id": 7})),
        (b"x" * 100_000, None),
        (b"two\nlines", None),
    ]
    with admin(vhost) as channel:
        for body, properties in strange:
            channel.basic_publish("", "work.queue", body, properties)
    ended = tool("consume", "--show", "--expect", "7")
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines.count("from=alice Hello World") == 2
    assert "from=- plain ✓" in lines
    assert "from=\\x1b[2J \\x00\\xff\\x1b[31mred" in lines
    assert any(line.endswith("xxx… (100000 bytes)") for line in lines)
    assert "from=- two\\nlines" in lines
    assert lines[-1].startswith("consumed=7, ")


def test_a_senders_line_feed_forges_no_line(tool):
    tool("produce", "--count", "1", "--producer-id", "x\nconsumed=99999, time=0.01s")
    ended = tool("consume", "--expect", "1")
    forged = "from=x\\nconsumed=99999, time=0.01s"
    assert ended.stdout.splitlines()[:-1] == [f"{forged}: 1"]
    assert last_line(ended).startswith("consumed=1, ")
    assert f"Worker: {forged}" in ended.stderr.splitlines()


def test_senders_are_told_apart(tool):
    for sender, count in (("alice", 300), ("bob", 200)):
        tool("produce", "--count", str(count), "--producer-id", sender)
    ended = tool("consume", "--expect", "500", "--json")
    assert json.loads(ended.stdout)["from"] == {"alice": 300, "bob": 200}


def test_ctrl_c_acknowledges_what_was_handled_and_nothing_else(begin, tool, vhost):
    tool("produce", "--count", "5000")
    process = begin("consume", "--show", "--prefetch", "100")
    assert process.stdout is not None
    for _ in range(50):
        assert process.stdout.readline().startswith("from=")
    process.send_signal(signal.SIGINT)
    output = process.stdout.read()  # communicate() would lose what readline() has read ahead
    assert process.wait(20) == 0
    consumed = int(re.search(r"^consumed=(\d+)", output, re.MULTILINE)[1])
    shown = 50 + sum(1 for line in output.splitlines() if line.startswith("from=") and " H" in line)
    assert consumed == shown
    wait_until(
        lambda: ready_counts(vhost, ["work.queue"])["work.queue"] == 5000 - consumed,
        "what was not handled to be back",
    )


def test_a_queue_that_another_consumes_alone_is_told_at_once(tool, vhost):
    tool("produce", "--count", "10")
    began = time.monotonic()
    with admin(vhost) as channel:
        channel.basic_consume("work.queue", lambda *_: None, exclusive=True)
        ended = tool("consume", "--expect", "10")
    assert "has an exclusive consumer" in ended.stderr
    assert (ended.returncode, ended.stdout.split(",")[0]) == (3, "consumed=0")
    assert time.monotonic() - began < 15, "it is not tried again and again"


def test_sigterm_before_what_was_expected_is_told_by_the_exit_code(begin, tool, vhost):
    tool("produce", "--count", "10")
    process = begin("consume", "--expect", "11", "--progress-every", "10")
    assert process.stderr is not None
    while "10 of 11" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert output.splitlines()[-1].startswith("consumed=10, ")


def test_its_name_is_shown_by_the_broker(begin, tool, vhost, rmqbench_broker):
    tool("produce", "--count", "1")
    begin("consume", "--name", "Worker-7", "--workers", "2")
    wait_until(lambda: counts(vhost, "work.queue") == (0, 2), "both consumers to be there")
    with rmqbench_broker.management as management:

        def tags():
            consumers = management.consumers(vhost.virtual_host)
            return {consumer["consumer_tag"] for consumer in consumers}

        wait_until(lambda: tags() == {"Worker-7-1", "Worker-7-2"}, "both names")


@pytest.mark.slow
def test_a_lost_connection_is_made_again_and_counts_nothing_twice(begin, tool, vhost):
    tool("produce", "--count", "2000")
    process = begin("consume", "--expect", "4000", "--prefetch", "50")
    wait_until(lambda: counts(vhost, "work.queue") == (0, 1), "the first half to be taken")
    close_connections(vhost)
    wait_until(lambda: counts(vhost, "work.queue")[1] == 1, "the consumer to be back")
    tool("produce", "--count", "2000")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert output.splitlines()[-1].startswith("consumed=4000, ")


def close_connections(vhost):
    with Management(vhost) as management:
        names = []

        def listed():
            connections = management.connections(vhost.virtual_host)
            names[:] = [c["name"] for c in connections if c.get("user_provided_name") == "Worker"]
            return names

        wait_until(listed, "the connection to be listed")
        for name in names:
            management.close_connection(name, "a test")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("consume", "--queue", "nowhere"), 2, "no queue 'nowhere'"),
        (("consume", "--host", "127.0.0.1", "--port", "1"), 4, "Nothing listens"),
        (("produce", "--host", "127.0.0.1", "--port", "1"), 4, "Nothing listens"),
        (("produce", "--url", "amqp://localhost", "--vhost", "x"), 2, "both say where"),
        (("produce", "--count", "0"), 2, "--count"),
        (("produce", "--size", "20"), 2, "too small"),
        (("produce", "--size", "1000:100"), 2, "1000 is more than 100"),
        (("produce", "--queue", "same", "--audit-queue", "same"), 2, "names one queue twice"),
        (("consume", "--prefetch", "0"), 2, "--prefetch"),
        (("consume", "--name", "x" * 256, "--expect", "1"), 2, "no name for a consumer"),
        (("consume", "--name", "x" * 254, "--workers", "2"), 2, "no name for a consumer"),
        (("consume", "--queue", "x" * 256), 2, "no name for a queue"),
        (("consume", "--queue", "\udcff"), 2, "no name for a queue"),
        (("produce", "--queue", "\udcff"), 2, "no name for a queue"),
        (("produce", "--text", "\udcff"), 2, "The text cannot be written as UTF-8"),
        (("produce", "--producer-id", "\udcff"), 2, "The producer_id cannot be written"),
        (("produce", "--vhost", "\udcff"), 2, "The virtual host cannot be"),
        (("produce", "--password", "\udcff"), 2, "The password cannot be"),
    ],
)
def test_bad_input_is_one_paragraph_within_seconds(tool, arguments, code, words):
    ended = tool(*arguments, timeout=20)
    assert ended.returncode == code
    assert words in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
