"""``rmqbench run`` as a person or a script runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.tools import PROGRAM, rmqbench, start_rmqbench

from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import Queue, Topology, declare, ready_counts
from rmqbench.faults import FAULTS
from rmqbench.management.client import Management

NAMES = {"lost", "redelivered after ack", "nacked but delivered", "unsent", "stuck", "foreign"}


def run_in(endpoint, *more, messages=2000):
    return rmqbench(
        *("run", "reliability", "--url", endpoint.url()),
        *("--management-url", endpoint.management_url),
        *("--messages", str(messages)),
        *more,
    )


def start_in_place(endpoint, directory, *more):
    return start_rmqbench(
        *("run", "reliability", "--in-place", "--directory", str(directory), *more),
        *("--url", endpoint.url(), "--management-url", endpoint.management_url),
    )


def wait_for_publishing(process, directory):
    deadline = time.monotonic() + 30
    journal = directory / "producer-0" / "journal.jsonl"
    while not (journal.exists() and '"started"' in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no publishing within 30 s"
        time.sleep(0.02)


def test_a_pass_exits_with_0_and_writes_json(vhost, tmp_path):
    ended = run_in(vhost, "--json", str(tmp_path / "out.json"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("PASS reliability, classic queues, 1 consumer")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["verdict"] == "PASS"
    assert result["messages"] == result["confirmed"] == 2000
    assert set(result["findings"]) > NAMES
    assert set(result["findings"].values()) == {0}
    assert set(result["queues"]) == {"work.queue", "audit.queue"}
    for half in ("publish", "consume"):
        assert result[half]["rate_per_s"] > 0
        assert result[half]["seconds"] > 0
        assert result[half]["cpu_us_per_message"] > 0
    assert result["peak_rss_mib"] > 10


@pytest.mark.slow
def test_runs_that_passed_make_room_for_new_ones_unless_they_have_a_place(
    vhost, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    runs = tmp_path / "rmqbench" / "runs"
    first = run_in(vhost, "--json", "-", messages=100)
    (old,) = runs.iterdir()
    assert json.loads(first.stdout)["directory"] == str(old)
    assert (
        run_in(vhost, "--keep", "1", "--directory", str(tmp_path / "mine"), messages=100).returncode
        == 0
    )
    assert old.exists()
    second = run_in(vhost, "--keep", "1", "--json", "-", messages=100)
    assert [json.loads(second.stdout)["directory"]] == [str(path) for path in runs.iterdir()]
    assert not old.exists()
    assert f"1 earlier run was removed from {runs}." in second.stderr
    assert (tmp_path / "mine" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kept"), [("200", 200), ("100:300", "100:300")])
def test_stress_with_several_processes_has_all_its_figures(vhost, tmp_path, size, kept):
    ended = rmqbench(
        *("run", "stress", "--url", vhost.url(), "--management-url", vhost.management_url),
        *("--messages", "20000", "--producers", "2", "--consumers", "2", "--size", size),
        *("--window", "500", "--prefetch", "300", "--queue-kind", "quorum"),
        *("--json", str(tmp_path / "out.json")),
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["verdict"], result["messages"], result["confirmed"]) == ("PASS", 20000, 20000)
    assert set(result["findings"].values()) == {0}
    assert set(result["queues"]) == {"work.queue.1m", "audit.queue.1m"}
    for queue in result["queues"].values():
        assert queue["ready_after_publish"] == queue["delivered"] == 20000
        assert queue["backlog"]["memory_bytes"] > 0
    assert result["scenario"]["size_bytes"] == kept


def test_messages_that_are_consumed_while_they_are_published_are_judged_alike(vhost):
    ended = rmqbench(
        *("run", "online", "--url", vhost.url(), "--management-url", vhost.management_url),
        *("--messages", "2000", "--queue-kind", "quorum", "--consumers", "2"),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("PASS online, quorum queues")


def test_without_the_vector_path_the_verdict_is_the_same(vhost, monkeypatch, tmp_path):
    monkeypatch.setenv("RMQBENCH_VECTOR", "0")
    ended = run_in(vhost, "--json", "-", "--directory", str(tmp_path / "run"), messages=1000)
    result = json.loads(ended.stdout)
    assert (result["verdict"], result["confirmed"]) == ("PASS", 1000)
    assert set(result["findings"].values()) == {0}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["vector"] is False


def test_json_to_standard_output_is_json_alone(vhost):
    ended = run_in(vhost, "--json", "-", messages=10)
    assert json.loads(ended.stdout)["verdict"] == "PASS"


def test_progress_is_plain_lines_where_there_is_no_terminal(vhost):
    ended = run_in(vhost)
    assert "publish: 2,000 of 2,000" in ended.stderr
    assert "drain audit.queue: 2,000 of 2,000" in ended.stderr
    assert "\x1b" not in ended.stderr + ended.stdout


def test_a_run_leaves_nothing_behind(vhost, rmqbench_broker):
    before = virtual_hosts(rmqbench_broker)
    assert run_in(vhost).returncode == 0
    assert virtual_hosts(rmqbench_broker) == before
    with rmqbench_broker.management as management:
        assert management.queues(vhost.virtual_host) == []


def test_without_a_management_api_the_names_carry_the_run(vhost):
    ended = rmqbench(
        *("run", "reliability", "--url", vhost.url(), "--messages", "100"),
        *("--management-url", "http://127.0.0.1:1"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "No virtual host of its own could be created" in ended.stdout
    assert re.search(r"drain work\.queue\.rmqbench-[0-9a-f]{12}: 100 of 100", ended.stderr)


def virtual_hosts(broker):
    with broker.management as management:
        return {queue["vhost"] for queue in management.queues()} | {
            exchange["vhost"] for exchange in management.exchanges()
        }


@pytest.mark.slow
def test_what_a_policy_drops_exits_with_1_and_the_messages_are_named(vhost, tmp_path):
    """A policy of the user keeps 500 messages at the most: overflow drops the oldest."""
    with Management(vhost) as management:
        management.set_policy("limit", "^work", {"max-length": 500}, vhost=vhost.virtual_host)
    ended = run_in(vhost, "--in-place", "--json", str(tmp_path / "out.json"))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.startswith("FAIL reliability, classic queues, 1 consumer")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["verdict"] == "FAIL"
    assert {name: queue["removed"] for name, queue in result["queues"].items()} == {
        "work.queue": 1500,
        "audit.queue": 0,
    }
    assert re.search(r"1,?500 removed in work\.queue: max-length=500 .*limit", ended.stdout)
    assert "sequence 0" in ended.stdout


def test_a_queue_with_other_arguments_is_a_mismatch_and_no_loss(vhost, rmqbench_broker):
    queues = tuple(
        Queue(name, arguments={"x-max-length": 500}) for name in ("work.queue", "audit.queue")
    )
    declare(vhost, Topology(queues=queues), rmqbench_broker.version)
    ended = run_in(vhost, "--in-place")
    assert ended.returncode == 2
    assert "x-max-length" in ended.stderr
    assert "it has '500', and none was requested" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def of_our_own(rmqbench_broker, monkeypatch):
    """Make faults strike a broker like that of the tests; the environment names one elsewhere."""
    if rmqbench_broker.kind == "external":
        pytest.skip("a fault needs a broker of our own")
    monkeypatch.setenv("RMQBENCH_BROKER", rmqbench_broker.kind)
    monkeypatch.setenv("RMQBENCH_URL", "amqp://127.0.0.1:1")


def run_under_a_reset(*more):
    return rmqbench(
        *("run", "faults", "--fault", "reset-connection", "--during", "publish"),
        *("--messages", "2000", *more),
    )


@pytest.mark.slow
def test_a_fault_strikes_and_its_verdict_is_the_exit_code(of_our_own, tmp_path):
    ended = run_under_a_reset("--json", str(tmp_path / "out.json"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("PASS ")
    assert "reset-connection" in ended.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["scenario"]["faults"][0]["name"] == "reset-connection"
    assert result["confirmed"] + result["findings"]["indeterminate"] == 2000
    assert result["findings"]["lost"] == 0


@pytest.mark.slow
def test_what_is_published_again_is_not_left_indeterminate(of_our_own, tmp_path):
    ended = run_under_a_reset("--publish-again", "--json", str(tmp_path / "out.json"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["confirmed"] == 2000
    assert result["findings"]["indeterminate"] == 0


def test_the_faults_are_listed_with_their_phases():
    ended = rmqbench("run", "faults", "--list")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == list(FAULTS)
    assert any(line.startswith("kill-newborn (publish): ") for line in lines)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_the_shell_can_be_installed(shell, monkeypatch, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    monkeypatch.setenv("HOME", str(tmp_path))  # nothing is written into the user's
    program = Path(sys.executable).with_name("rmqbench")

    def typed(option):
        """Run it as a child of the shell: the parent process tells it which shell that is."""
        return subprocess.run(
            [shell, "-c", f"'{program}' {option}; true"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    assert "_RMQBENCH_COMPLETE" in typed("--show-completion").stdout
    assert f"{shell} completion installed" in typed("--install-completion").stdout
    assert any("rmqbench" in path.name for path in tmp_path.rglob("*") if path.is_file())


def test_messages_of_a_user_are_not_touched(vhost, rmqbench_broker):
    topology = Topology()
    declare(vhost, topology, rmqbench_broker.version)
    with admin(vhost) as channel:
        channel.basic_publish(topology.exchange, topology.routing_key, b"mine")
    ended = run_in(vhost, "--in-place")
    assert ended.returncode == 2
    assert "'work.queue'" in ended.stderr
    assert "1 message" in ended.stderr
    assert set(ready_counts(vhost, topology.queue_names).values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_in_place_a_queue_with_a_message_of_somebody_else_is_not_deleted(
    vhost, queue_kind, tmp_path
):
    """The run makes the queues; in its middle somebody else finds them, and trusts one."""
    directory = tmp_path / "run"
    process = start_in_place(vhost, directory, "--messages", "40000", "--queue-kind", queue_kind)
    try:
        wait_for_publishing(process, directory)
        with admin(vhost) as channel:
            channel.confirm_delivery()
            channel.basic_publish("", "work.queue", b"precious")
        out, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 3, out
    assert "1 foreign in work.queue" in out
    assert ready_counts(vhost, ["work.queue"]) == {"work.queue": 1}
    assert "Warning: a queue of the run is left behind" in errors
    assert "Traceback" not in errors
    with admin(vhost) as channel:
        assert channel.basic_get("work.queue")[2] == b"precious"


def test_in_place_keeps_what_was_there_before(vhost, rmqbench_broker):
    topology = Topology()
    declare(vhost, Topology(queues=topology.queues[:1]), rmqbench_broker.version)
    assert run_in(vhost, "--in-place").returncode == 0
    with rmqbench_broker.management as management:
        assert [q["name"] for q in management.queues(vhost.virtual_host)] == ["work.queue"]


@pytest.mark.slow
def test_a_consumer_of_somebody_else_makes_the_run_inconclusive(vhost, rmqbench_broker, tmp_path):
    declare(vhost, Topology(), rmqbench_broker.version)
    process = start_in_place(vhost, tmp_path / "run", "--messages", "40000")
    try:
        wait_for_publishing(process, tmp_path / "run")
        with admin(vhost, timeout_s=80) as channel:
            channel.basic_qos(prefetch_count=3)
            channel.basic_consume("work.queue", lambda *_: None)
            out, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 3, out + errors
    assert "INCONCLUSIVE" in out
    assert "1 consumer that is not ours" in out


def test_a_queue_that_somebody_else_consumes_gets_no_message(vhost, rmqbench_broker, tmp_path):
    """His consumer would take what is published to it, and acknowledge it as its own."""
    declare(vhost, Topology(), rmqbench_broker.version)
    came = []
    with admin(vhost, timeout_s=80) as channel:
        channel.basic_consume("audit.queue", lambda *each: came.append(each))
        ended = run_in(vhost, "--in-place", "--directory", str(tmp_path / "run"))
        channel.connection.process_data_events(0)
    assert ended.returncode == 2, ended.stdout
    assert "Queue 'audit.queue' in virtual host " in ended.stderr
    assert "has 1 consumer." in ended.stderr
    assert not came
    assert not (tmp_path / "run").exists(), "a run that has not begun is no evidence"


@pytest.mark.slow
@pytest.mark.parametrize("vector", ["1", "0"])
def test_a_run_of_mixed_sizes_is_judged_and_judged_again(vhost, monkeypatch, tmp_path, vector):
    monkeypatch.setenv("RMQBENCH_VECTOR", vector)
    path = tmp_path / "run"
    ended = run_in(
        vhost, "--size", "100:16384", "--directory", str(path), "--json", "-", messages=2000
    )
    result = json.loads(ended.stdout)
    assert (result["verdict"], result["confirmed"]) == ("PASS", 2000)
    assert set(result["findings"].values()) == {0}
    assert json.loads((path / "run.json").read_text())["recipe"]["size_bytes"] == "100:16384"
    assert rmqbench("judge", str(path)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--url", "amqp://127.0.0.1:1"], 4, "127.0.0.1:1"),
        (["--url", "http://127.0.0.1"], 2, "amqp://user:password@host"),
        (["--broker", "cotnainer"], 2, "container"),
        (["--broker", "local", "--messages", "0"], 2, "messages is 0"),
        (["--broker", "local", "--messages", "-5"], 2, "messages is -5"),
        (["--broker", "local", "--queue-kind", "stream"], 2, "classic, lazy, quorum"),
        (["--broker", "local", "--size", "3"], 2, "too small"),
        (["--broker", "local", "--size", "10:1000"], 2, "too small"),
        (["--broker", "local", "--size", "100-1000"], 2, "'100-1000' is no size"),
        (["--broker", "local", "--prefetch", "70000"], 2, "65,535"),
        (["--broker", "local", "--url", "amqp://127.0.0.1"], 2, "two brokers"),
        (["--broker", "local", "--image", "rabbitmq:4"], 2, "local is no container"),
        (["--url", "amqp://127.0.0.1", "--image", "rabbitmq:4"], 2, "is no container"),
    ],
)
def test_bad_input_is_one_paragraph_within_seconds(arguments, code, words):
    started = time.monotonic()
    ended = rmqbench("run", "reliability", *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert words in ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.splitlines()) == 1
    assert time.monotonic() - started < 15


def test_a_wrong_password_is_not_shown_again(vhost):
    wrong = vhost.url().replace(vhost.password, "not-the-password")
    ended = rmqbench("run", "reliability", "--url", wrong)
    assert ended.returncode == 4
    assert "user" in ended.stderr
    assert "not-the-password" not in ended.stderr


def test_a_virtual_host_that_is_not_there_is_named(vhost):
    ended = rmqbench("run", "reliability", "--url", vhost.in_virtual_host("nowhere").url())
    assert ended.returncode == 4
    assert "'nowhere'" in ended.stderr


def test_ctrl_c_ends_a_run_with_all_that_it_started_and_says_so(vhost, rmqbench_broker, tmp_path):
    before = virtual_hosts(rmqbench_broker)
    process = start_rmqbench(
        *("run", "reliability", "--url", vhost.url(), "--messages", "5000000"),
        *("--management-url", vhost.management_url, "--directory", str(tmp_path / "run")),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_publishing(process, tmp_path / "run")
        family = psutil.Process(process.pid).children(recursive=True)
        assert family, "no worker is there"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 130
    assert "rmqbench: interrupted: deleting what the run made. A second Ctrl-C leaves it" in errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert virtual_hosts(rmqbench_broker) == before
    judged = rmqbench("judge", str(tmp_path / "run"))
    assert judged.returncode == 3
    assert "The run was interrupted." in judged.stdout


def test_what_an_interrupted_run_leaves_in_place_is_named(vhost, tmp_path):
    process = start_in_place(vhost, tmp_path / "run", "--messages", "5000000")
    try:
        wait_for_publishing(process, tmp_path / "run")
        deadline = time.monotonic() + 30
        while not all(ready_counts(vhost, Topology().queue_names).values()):
            assert time.monotonic() < deadline, "no messages within 30 s"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.search(
        "left behind at .*: Queue 'work.queue' .* messages; queue 'audit.queue' .* messages", errors
    ), errors


LOST = ["2>&-", ">&- 2>&-", "| true", "2>&1 | true"]
LOST += [">/dev/full", "2>/dev/full"] if os.path.exists("/dev/full") else []


def code_where_output_is_lost(vhost, leading):
    command = [*PROGRAM, "run", "reliability", "--url", vhost.url(), "--in-place"]
    command += ["--management-url", vhost.management_url, "--messages", "100"]
    script = f'"$@" {leading}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=90,
        check=False,
    ).returncode


@pytest.mark.quick
@pytest.mark.slow
@pytest.mark.parametrize("leading", LOST)
def test_lost_output_makes_nothing_else_of_a_pass(vhost, leading):
    assert code_where_output_is_lost(vhost, leading) == 0


@pytest.mark.quick
@pytest.mark.slow
@pytest.mark.parametrize("leading", LOST[:3])
def test_lost_output_makes_nothing_else_of_a_fail(vhost, leading):
    with Management(vhost) as management:
        management.set_policy("limit", "^work", {"max-length": 50}, vhost=vhost.virtual_host)
    assert code_where_output_is_lost(vhost, leading) == 1


@pytest.mark.quick
@pytest.mark.slow
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"])
def test_json_goes_to_a_stream_by_its_name(vhost, name):
    ended = run_in(vhost, "--json", name, messages=10)
    assert ended.returncode == 0, ended.stderr
    if name.endswith(("out", "1")):  # as for -: JSON alone
        assert json.loads(ended.stdout)["verdict"] == "PASS"
    else:
        assert ended.stdout.startswith("PASS ")
        assert json.loads(ended.stderr[ended.stderr.index("{") :])["verdict"] == "PASS"


def test_what_the_terminal_cannot_show_does_not_change_the_exit_code(vhost, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COLUMNS", "40")
    ended = run_in(vhost, messages=100)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)


@pytest.mark.quick
@pytest.mark.slow
@pytest.mark.parametrize("columns", ["20", "40", "60", "80", "200"])
def test_a_narrow_terminal_drops_no_figure(vhost, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    ended = run_in(vhost, messages=100)
    words = ended.stdout.replace("\n", " ").split()
    text = " ".join(word.strip(",:") for word in words)
    for word in ("work.queue", "audit.queue", "delivered", "lost", "duplicated", "corrupted"):
        assert word in text, ended.stdout


def test_no_broker_is_4_also_with_a_traceback():
    ended = rmqbench("--traceback", "run", "reliability", "--url", "amqp://127.0.0.1:1")
    assert ended.returncode == 4
    assert "Traceback" in ended.stderr


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    ended = rmqbench(
        "run", "reliability", "--broker", "local", "--json", str(tmp_path / "no" / "x")
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "RabbitMQ" not in ended.stderr


def test_a_result_that_could_not_be_written_is_said_and_no_success(vhost):
    ended = run_in(vhost, "--json", "/dev/full", messages=100)
    assert ended.stdout.startswith("PASS ")
    assert ended.returncode == 3
    assert "could not be written out" in ended.stderr


def test_an_option_wins_over_the_environment(vhost, monkeypatch):
    monkeypatch.setenv("RMQBENCH_BROKER", "amqp://127.0.0.1:1")
    assert run_in(vhost, messages=10).returncode == 0
    monkeypatch.setenv("RMQBENCH_URL", vhost.url())
    assert rmqbench("run", "reliability", "--messages", "10").returncode == 0
