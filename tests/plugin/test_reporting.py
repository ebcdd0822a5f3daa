"""What a user sees while the tests run, and at the end."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

LIMIT_S = 240

# A broker that takes long to get: it says so, and waits until it is let go.
SLOW_BROKER = """
    import contextlib
    import time
    from pathlib import Path

    import rmqbench.broker
    from rmqbench.errors import BrokerUnavailable


    @contextlib.contextmanager
    def open_slowly(spec, *, say, **_):
        say("fetching the packages")
        deadline = time.monotonic() + 240
        while not Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        raise BrokerUnavailable("Nothing was fetched.")
        yield


    rmqbench.broker.open_broker = open_slowly
"""

ASKS_AT_ONCE = """
    def test_with_a_broker(rmqbench_broker):
        pass
    """
ASKS_LATE = """
    def test_with_a_broker(request):
        request.getfixturevalue("rmqbench_broker")
    """

TWO_TESTS = """
    import time
    from pathlib import Path
    import rmqbench

    def test_first(rmqbench_run):
        rmqbench_run(rmqbench.reliability(messages=100)).verdict.require_pass()

    def test_second():
        deadline = time.monotonic() + 240
        while not Path("go").exists():
            assert time.monotonic() < deadline, "the first result was not shown"
            time.sleep(0.05)
    """


class Watched:
    """A pytest whose output is read while it runs."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text):
        deadline = time.monotonic() + LIMIT_S
        while not any(text in line for line in self.lines):
            assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {text}:\n{self.output}"
            time.sleep(0.05)
        return self.process.poll() is None

    @property
    def output(self):
        return "".join(self.lines)

    def end(self):
        """Wait until pytest has ended and all of its output is read."""
        self.reader.join(LIMIT_S)
        return self.process.wait(LIMIT_S)

    def close(self):
        self.process.kill()
        self.end()
        self.process.stdout.close()


@pytest.fixture
def watch(pytester, no_settings_from_outside):
    started = []

    def start(*arguments):
        started.append(Watched(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize(
    ("asks", "options"),
    [
        pytest.param(ASKS_AT_ONCE, (), id="before the first test"),
        pytest.param(ASKS_LATE, ("-q",), id="in a test"),
        pytest.param(ASKS_AT_ONCE, ("-n", "2"), id="in a worker"),
    ],
)
def test_what_the_broker_is_waited_for_is_seen_while_it_is_waited_for(
    pytester, watch, asks, options
):
    pytester.makeconftest(SLOW_BROKER)
    pytester.makepyfile(asks)
    watched = watch("--rmqbench-broker=local", *options)
    assert watched.wait_for("fetching the packages"), "pytest had ended by then"
    Path("go").touch()
    assert watched.end() == pytest.ExitCode.TESTS_FAILED
    where = r"rmqbench \(gw[01]\)" if "-n" in options else "rmqbench"
    for text in (r"waiting for the broker \(local\)", r"no broker\. Nothing was fetched\."):
        assert re.search(f"^{where}: {text}$", watched.output, re.MULTILINE)


@pytest.mark.parametrize("options", [("-v",), ("-n", "2")], ids=" ".join)
def test_a_result_is_shown_as_soon_as_its_test_has_ended(pytester, watch, on_the_broker, options):
    pytester.makepyfile(TWO_TESTS)
    watched = watch(*on_the_broker, *options)
    assert watched.wait_for("PASS test_first: 100 messages, "), "pytest had ended by then"
    Path("go").touch()
    assert watched.end() == pytest.ExitCode.OK
    line = next(line for line in watched.lines if line.startswith("PASS test_first: "))
    directory = Path(line.split("; evidence in ")[1].strip())
    assert (directory / "result.json").exists()


SEVERAL = """
    import pytest
    import rmqbench

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_each(rmqbench_run, number):
        result = rmqbench_run(rmqbench.reliability(messages=100 * number))
        result.verdict.require_pass()
    """


def tables(output):
    return output.partition("= rmqbench =")[2]


def test_the_results_of_workers_reach_the_summary(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(SEVERAL)
    ended = run_pytest(*on_the_broker, "-n", "2")
    ended.assert_outcomes(passed=3)
    shown = tables(ended.stdout.str())
    for number in (1, 2, 3):
        assert re.search(rf"^PASS +{number}00 .* test_each\[{number}\]", shown, re.M)
    assert "The evidence lies in " not in shown, "that is for what did not pass"


@pytest.mark.slow
def test_quiet_means_a_line_of_each_run_and_no_table(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(SEVERAL)
    ended = run_pytest(*on_the_broker, "-q")
    ended.assert_outcomes(passed=3)
    shown = [line for line in ended.outlines if line.startswith("PASS ")]
    assert [line.split(":")[0] for line in shown] == [f"PASS test_each[{n}]" for n in (1, 2, 3)]
    ended.stdout.no_fnmatch_line("*delivered*")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["", "-n 2"])
def test_without_a_terminal_all_works_and_nothing_is_shown(
    pytester, run_pytest, on_the_broker, options
):
    pytester.makepyfile(SEVERAL)
    ended = run_pytest(*on_the_broker, "-p", "no:terminal", *options)
    assert ended.ret == pytest.ExitCode.OK
    assert ended.stdout.str() == ""


REMARKS = """
    import pytest
    import rmqbench

    LOSSY = rmqbench.reliability(
        name="full", messages=200, queue_arguments={"x-max-length": 50}
    )

    def test_too_slow(rmqbench_run):
        assert rmqbench_run(rmqbench.reliability(messages=100)).publish.rate_per_s > 1e9

    def test_nobody_looks(rmqbench_run):
        rmqbench_run(LOSSY)

    def test_looked_at(rmqbench_run):
        rmqbench_run(LOSSY).verdict.require_pass()

    def test_good(rmqbench_run):
        rmqbench_run(rmqbench.reliability(messages=100)).verdict.require_pass()

    @pytest.mark.xfail(strict=True)
    def test_expected(rmqbench_run):
        rmqbench_run(LOSSY).verdict.require_pass()

    @pytest.fixture
    def broken_afterwards():
        yield
        raise OSError

    def test_of_a_fixture(broken_afterwards, rmqbench_run):
        rmqbench_run(rmqbench.reliability(messages=100)).verdict.require_pass()
    """


@pytest.mark.slow
def test_a_verdict_does_not_hide_what_became_of_its_test(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(REMARKS)
    ended = run_pytest(*on_the_broker)
    ended.assert_outcomes(failed=2, passed=3, xfailed=1, errors=1)
    wanted = [
        "PASS (the test failed) test_too_slow",
        "FAIL (the test passed) test_nobody_looks",
        "FAIL test_looked_at",
        "PASS test_good",
        "FAIL test_expected",
        "PASS (the test failed) test_of_a_fixture",
    ]
    lines = [line.rstrip() for line in ended.outlines if line.startswith(("PASS", "FAIL "))]
    assert [line.split(": ")[0] for line in lines if ": " in line and "test_" in line] == wanted
    rows = [re.sub(r"  +.*  +", " ", line) for line in lines if re.search(r"  \d+  ", line)]
    assert rows == wanted
    whole = [each for each in wanted if each != "PASS test_good"]
    assert [line for line in lines if line in whole] == whole
    assert ended.stdout.str().count("The evidence lies in ") >= len(whole)
    found = next(line for line in lines if line.startswith("FAIL test_looked_at: "))
    assert "; 300 removed; evidence in " in found


@pytest.mark.slow
def test_a_result_is_shown_though_its_test_was_interrupted(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(
        """
        import rmqbench

        def test_long(rmqbench_run):
            rmqbench_run(rmqbench.reliability(messages=100))
            raise KeyboardInterrupt
        """
    )
    ended = run_pytest(*on_the_broker)
    assert ended.ret == pytest.ExitCode.INTERRUPTED
    ended.stdout.fnmatch_lines(
        [
            "PASS (the test did not end) * 100 * test_long*",
            "PASS (the test did not end) test_long",
            "published 100, *",
        ]
    )


@pytest.mark.slow
def test_a_failing_test_shows_what_it_logs_itself_and_nothing_of_ours(
    pytester, run_pytest, on_the_broker
):
    pytester.makepyfile(
        """
        import logging
        import rmqbench

        def test_fails(rmqbench_run):
            logging.getLogger("pika.channel").warning("before")
            rmqbench_run(rmqbench.reliability(messages=100))
            logging.getLogger("pika.channel").warning("after")
            assert False
        """
    )
    ended = run_pytest(*on_the_broker)
    ended.assert_outcomes(failed=1)
    logged = [line for line in ended.outlines if line.startswith(("WARNING", "ERROR"))]
    assert [line.split()[-1] for line in logged] == ["before", "after"]


@pytest.mark.slow
def test_pika_logs_as_the_user_has_asked(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(
        """
        import logging
        import rmqbench

        def test_logs(rmqbench_run, caplog):
            with caplog.at_level(logging.WARNING, logger="pika"):
                rmqbench_run(rmqbench.reliability(messages=100))
            assert "pika.channel" in {record.name for record in caplog.records}
        """
    )
    run_pytest(*on_the_broker).assert_outcomes(passed=1)
