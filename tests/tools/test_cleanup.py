"""``rmqbench cleanup`` as a person or a script runs it, in a virtual host of the test's own."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import uuid
from dataclasses import replace

import pytest
import requests
from support.tools import IN_TERMINAL, rmqbench

from rmqbench.amqp.admin import admin
from rmqbench.cleanup import Candidate, Deletion, delete, find
from rmqbench.errors import BrokerUnavailable, ManagementUnavailable
from rmqbench.management.client import Management

HOSTILE = "evil\x1b[31m\x07 a,b/c 'ü' \u202e%2F\\n"
LONG = "long." + "x" * 250  # what the broker says of it is cut off


def command(endpoint, *words):
    where = ("--url", endpoint.url(), "--management-url", endpoint.management_url)
    return ["cleanup", *where, *words]


def cleanup(endpoint, *words):
    return rmqbench(*command(endpoint, *words))


def put(endpoint, **messages):
    """Declare queues with so many messages each."""
    put_named(endpoint, messages)


def put_named(endpoint, messages, kind="classic"):
    with admin(endpoint) as channel:
        channel.confirm_delivery()
        for name, count in messages.items():
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
            for _ in range(count):
                channel.basic_publish("", name, b"x")


def queues(broker, endpoint):
    with broker.management as management:
        return {each["name"] for each in management.queues(endpoint.virtual_host)}


def exchanges(broker, endpoint):
    """Return the names of those that are not built in."""
    with broker.management as management:
        names = {each["name"] for each in management.exchanges(endpoint.virtual_host)}
    return {name for name in names if name and not name.startswith("amq.")}


# --- names -------------------------------------------------------------------------------------


def test_named_queues_are_listed_with_their_counts_and_deleted(vhost, rmqbench_broker):
    put(vhost, a=0, b=2, c=0, d=0)
    put_named(vhost, {"quorum": 0}, "quorum")
    with admin(vhost, timeout_s=60) as channel:
        channel.basic_consume("c", lambda *_: None)
        ended = cleanup(vhost, "a,b", "c", "quorum", "a", "--yes")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith(f"To be deleted from virtual host '{vhost.virtual_host}' at ")
    assert "! queue 'b': 2 ready," in ended.stdout
    assert "HOLDS MESSAGES" in next(line for line in lines if "'b'" in line)
    assert "1 consumer  <-- IS CONSUMED" in next(line for line in lines if "'c'" in line)
    assert next(line for line in lines if "'a'" in line).startswith("  queue 'a': 0 ready,")
    assert "! 2 queues hold messages or have consumers" in ended.stdout
    assert lines[-1] == "deleted 4 queues"
    assert queues(rmqbench_broker, vhost) == {"d"}


def test_names_need_no_management_api_and_quorum_queues_neither(vhost, rmqbench_broker):
    put(vhost, a=0, full=1)
    put_named(vhost, {"quorum": 0, "quorum.2": 0}, "quorum")
    alone = replace(vhost, management_url="http://127.0.0.1:1")
    ended = cleanup(alone, "quorum,a", "quorum.2", "full", "--yes", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "1 ready, ? unacknowledged" in ended.stderr
    assert "Unacknowledged messages are not known" in ended.stderr
    assert [each["name"] for each in json.loads(ended.stdout)["deleted"]] == [
        *("quorum", "a", "quorum.2", "full")
    ]
    assert queues(rmqbench_broker, vhost) == set()


def test_all_and_exchanges_without_the_management_api_say_what_to_do(vhost):
    alone = replace(vhost, management_url="http://127.0.0.1:1")
    ended = cleanup(alone, "all", "--yes")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "rabbitmq-plugins enable rabbitmq_management" in ended.stderr
    assert "Or name the queues" in ended.stderr
    with pytest.raises(ManagementUnavailable, match="'exchanges' needs the Management API"):
        find(alone, ["exchanges"])


def test_unacknowledged_messages_are_those_that_the_management_api_tells(vhost, monkeypatch):
    put(vhost, a=0)
    answer = [{"name": "a", "type": "classic", "messages_unacknowledged": 3, "messages_ready": 9}]
    monkeypatch.setattr(Management, "queues", lambda *_: answer)
    assert find(vhost, ["a"]).candidates == (Candidate("queue", "a", "classic", 0, 3, 0),)


def test_the_consumers_of_a_stream_are_those_that_the_management_api_tells(vhost, monkeypatch):
    put_named(vhost, {"s": 0}, "stream")
    put(vhost, q=0)
    answer = [
        {"name": "s", "type": "stream", "consumers": 2},
        {"name": "q", "type": "classic", "consumers": 2},
    ]
    monkeypatch.setattr(Management, "queues", lambda *_: answer)
    stream, classic = find(vhost, ["s", "q"]).candidates
    assert (stream.consumers, classic.consumers) == (2, 0)


def test_names_that_are_not_there_are_all_told_before_anything_is_deleted(vhost, rmqbench_broker):
    put(vhost, a=0)
    ended = cleanup(vhost, "a", "nope,neither", "--queue", LONG, "--yes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"There are no queues 'nope', 'neither', '{LONG}' in virtual host" in ended.stderr
    assert queues(rmqbench_broker, vhost) == {"a"}


def test_hostile_names_are_found_shown_and_not_obeyed(vhost, rmqbench_broker):
    put_named(vhost, {HOSTILE: 1, "evil\x1b[31m\x07 a": 0, "x,y": 0, "x": 0, "y": 0})
    put_named(vhost, {"all": 0, "exchanges": 0, " ": 0, LONG: 0, ".": 0, "all,x": 0})
    words = (HOSTILE, "x,y", "all,x", " ", LONG, ".", "--queue", "all", "--queue", "exchanges")
    ended = cleanup(vhost, *words, "--yes")
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "\u202e" not in ended.stdout + ended.stderr
    assert "\\x1b[31m\\x07 a,b/c" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "deleted 8 queues"
    assert queues(rmqbench_broker, vhost) == {"evil\x1b[31m\x07 a", "x", "y"}
    ended = cleanup(vhost, "x,all", "--yes")
    assert ended.returncode == 2
    assert "'all' cannot be combined with names" in ended.stderr


# --- all ---------------------------------------------------------------------------------------


def make_everything(channel):
    channel.exchange_declare("bound", "fanout")
    channel.exchange_declare("target", "fanout")
    channel.exchange_declare("source", "fanout", arguments={"alternate-exchange": "alternate"})
    for name in ("alternate", "dead", "by.policy", "idle", HOSTILE):
        channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "dead"})
    channel.queue_bind("q", "bound")
    channel.exchange_bind("target", "bound")
    return channel.queue_declare("", durable=False).method.queue


def test_all_is_every_queue_and_every_exchange_that_is_not_built_in(vhost, rmqbench_broker):
    with admin(vhost, timeout_s=60) as channel:
        own = make_everything(channel)
        theirs = channel.queue_declare("", exclusive=True).method.queue
        would = cleanup(vhost, "all", "--dry-run", "--json")
        assert would.returncode == 0, would.stderr
        assert queues(rmqbench_broker, vhost) == {"q", own, theirs}
        ended = cleanup(vhost, "all", "--yes", "--json")
        assert queues(rmqbench_broker, vhost) == {theirs}
    assert ended.returncode == 3
    assert exchanges(rmqbench_broker, vhost) == set()
    done, planned = json.loads(ended.stdout), json.loads(would.stdout)
    assert (done["dry_run"], planned["dry_run"]) == (False, True)
    for each in done["deleted"] + planned["deleted"]:
        each.pop("unacknowledged", None)  # of a new queue it is not known at first
    assert done["deleted"] == planned["deleted"]
    assert {each["name"] for each in done["deleted"] if each["kind"] == "queue"} == {"q", own}
    assert HOSTILE in {each["name"] for each in done["deleted"] if each["kind"] == "exchange"}
    (kept,) = done["kept"]
    assert (kept["name"], kept["kind"]) == (theirs, "queue")
    assert "another connection" in kept["reason"]
    ended = cleanup(vhost, "all", "--yes")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "deleted nothing"


def test_exchanges_are_those_of_no_use(vhost, rmqbench_broker):
    with rmqbench_broker.management as management:
        definition = {"alternate-exchange": "by.policy"}
        management.set_policy(
            "p", "^main$", definition, vhost=vhost.virtual_host, apply_to="exchanges"
        )
    with admin(vhost) as channel:
        make_everything(channel)
    ended = cleanup(vhost, "exchanges", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "deleted 3 exchanges"
    used = {"bound", "target", "alternate", "dead", "by.policy"}
    assert exchanges(rmqbench_broker, vhost) == used
    assert len(queues(rmqbench_broker, vhost)) == 2


def test_all_of_a_broker_elsewhere_needs_its_host_once_more(vhost, rmqbench_broker):
    put(vhost, a=0)
    elsewhere = replace(vhost, host="127.1")  # resolves to this machine, and does not say so
    ended = cleanup(elsewhere, "all", "--yes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--yes-really 127.1" in ended.stderr
    assert queues(rmqbench_broker, vhost) == {"a"}
    ended = cleanup(elsewhere, "all", "--yes-really", "127.1")
    assert ended.returncode == 0, ended.stderr
    assert queues(rmqbench_broker, vhost) == set()


def test_without_a_terminal_and_yes_nothing_is_deleted(vhost, rmqbench_broker):
    put(vhost, a=0)
    ended = cleanup(vhost, "a")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no terminal to ask at; nothing was deleted" in ended.stderr
    assert queues(rmqbench_broker, vhost) == {"a"}


def test_a_list_that_cannot_be_written_deletes_nothing(vhost, rmqbench_broker):
    put(vhost, a=0)
    program = [sys.executable, "-m", "rmqbench", *command(vhost, "a", "--yes")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(program, **pipes)
    process.stdout.close()
    with process.stderr as errors:
        told = errors.read()
    assert process.wait(60) == 3
    assert "so nothing was deleted" in told
    assert "Traceback" not in told
    assert queues(rmqbench_broker, vhost) == {"a"}


def test_a_closed_output_after_the_list_changes_no_exit_code(vhost, rmqbench_broker):
    put(vhost, a=0)
    program = [sys.executable, "-m", "rmqbench", *command(vhost, "a", "--yes", "--json")]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()  # the list goes to stderr
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert "could not be written out (Broken pipe). deleted 1 queue" in told
    assert queues(rmqbench_broker, vhost) == set()


# --- what may not be deleted -------------------------------------------------------------------


@pytest.fixture
def guest(vhost):
    """A user who may change only what is named ``mine…``, and may use the Management API."""
    name, login = f"guest-{uuid.uuid4().hex[:8]}", (vhost.username, vhost.password)
    user = f"{vhost.management_url}/api/users/{name}"
    rights = f"{vhost.management_url}/api/permissions/{vhost.virtual_host}/{name}"
    body = {"password": "s3cret", "tags": "management"}
    requests.put(user, json=body, auth=login, timeout=10).raise_for_status()
    body = {"configure": "^mine", "write": ".*", "read": ".*"}
    requests.put(rights, json=body, auth=login, timeout=10).raise_for_status()
    yield replace(vhost, username=name, password="s3cret")
    requests.delete(user, auth=login, timeout=10).raise_for_status()


def test_what_may_not_be_deleted_is_kept_and_the_rest_is_deleted(vhost, guest, rmqbench_broker):
    put_named(vhost, {"mine.1": 0, "boss": 0, "mine.2": 1})
    with admin(vhost) as channel:
        channel.exchange_declare("boss", "fanout")
        channel.exchange_declare("mine", "fanout")
    ended = cleanup(guest, "all", "--yes")
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.splitlines()[-1] == "deleted 2 queues, 1 exchange, kept 2"
    assert "Kept: queue 'boss': " in ended.stderr
    assert "Kept: exchange 'boss': " in ended.stderr
    assert "permission for queue 'boss'" in ended.stderr
    assert queues(rmqbench_broker, vhost) == exchanges(rmqbench_broker, vhost) == {"boss"}


def test_exchanges_need_no_more_than_the_tag_management(guest, vhost):
    with admin(vhost) as channel:
        channel.exchange_declare("mine", "fanout")
    assert [each.name for each in find(guest, ["exchanges"]).to_delete] == ["mine"]


# --- between the list and the deletion ---------------------------------------------------------


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self, *arguments):
        pty = pytest.importorskip("pty")
        pytest.importorskip("termios")
        self.text = ""
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)

    def wait_question(self):
        deadline = time.monotonic() + 30
        while not self.text.endswith("[y/N] "):
            assert time.monotonic() < deadline, self.text
            self._read()

    def answer(self, keys):
        """Type, and return the exit code."""
        os.write(self.master, keys.encode())
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read()
        self._read()
        return self.process.returncode

    def _read(self):
        with contextlib.suppress(OSError):  # that nobody holds the other end any more
            while select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65536).decode()


@pytest.mark.parametrize(
    ("keys", "code"), [("\n", 3), ("what?\nN\n", 3), ("\x04", 3), ("\x03", 130)]
)
def test_without_a_yes_nothing_is_deleted(vhost, rmqbench_broker, keys, code):
    put(vhost, a=0)
    with Terminal(*command(vhost, "a")) as terminal:
        terminal.wait_question()
        assert "Delete this queue of virtual host" in terminal.text
        assert terminal.answer(keys) == code, terminal.text
    assert "Traceback" not in terminal.text
    assert ("Nothing was deleted" in terminal.text) is (code == 3)
    assert terminal.text.count("[y/N]") == (2 if "?" in keys else 1)
    assert queues(rmqbench_broker, vhost) == {"a"}


def test_after_the_answer_only_what_was_listed_and_is_still_idle_goes(vhost, rmqbench_broker):
    put(vhost, gone=0, filled=0, used=0, full=3, empty=0)
    put_named(vhost, {"quorum.filled": 0, "quorum.empty": 0}, "quorum")
    with admin(vhost) as channel:
        channel.exchange_declare("x", "fanout")
    with admin(vhost, timeout_s=60) as channel, Terminal(*command(vhost, "all")) as terminal:
        terminal.wait_question()
        place = f"virtual host '{vhost.virtual_host}' at {vhost.host}:{vhost.port}"
        assert f"Delete these 7 queues and 1 exchange of {place}? [y/N] " in terminal.text
        assert "! queue 'full': 3 ready" in terminal.text
        put_named(vhost, {"filled": 2, "new": 0, "full": 1})
        put_named(vhost, {"quorum.filled": 1}, "quorum")
        channel.basic_consume("used", lambda *_: None)
        channel.queue_delete("gone")
        channel.exchange_declare("new", "fanout")
        assert terminal.answer("y\n") == 3, terminal.text
    kept = {"filled", "used", "quorum.filled"}
    assert "Kept: queue 'filled': it holds 2 messages now" in terminal.text
    assert "Kept: queue 'used': it has 1 consumer now" in terminal.text
    assert "Kept: queue 'quorum.filled': it holds 1 message now" in terminal.text
    assert "Gone already: queue 'gone'" in terminal.text
    last = "deleted 3 queues, 1 exchange, 1 gone already, kept 3"
    assert terminal.text.splitlines()[-1] == last
    assert queues(rmqbench_broker, vhost) == kept | {"new"}
    assert exchanges(rmqbench_broker, vhost) == {"new"}


def test_an_exchange_that_got_a_binding_stays(vhost, rmqbench_broker):
    put(vhost, q=0)
    with admin(vhost) as channel:
        for name in ("a", "b", "c"):
            channel.exchange_declare(name, "fanout")
        plan = find(vhost, ["exchanges"])
        channel.queue_bind("q", "b")
        channel.exchange_delete("c")
    a, b, c = plan.to_delete
    kept = Deletion(b, "kept", "it has a binding now")
    assert list(delete(plan)) == [Deletion(a, "deleted"), kept, Deletion(c, "gone")]


def test_a_broker_that_is_gone_by_then_is_unavailable(vhost):
    put(vhost, a=0)
    plan = find(vhost, ["a"])
    with pytest.raises(BrokerUnavailable):
        list(delete(replace(plan, endpoint=replace(vhost, host="127.0.0.1", port=1))))
