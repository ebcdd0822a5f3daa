"""The plugin in a user's own project."""

import re
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from rmqbench import pytest_plugin

USERS_TEST = """
    import rmqbench

    def test_my_broker_loses_nothing(rmqbench_run):
        result = rmqbench_run(rmqbench.reliability(queue_kind="quorum", messages=500))
        result.verdict.require_pass()
        assert result.messages == {messages}
"""


def test_a_users_test_passes_and_shows_its_table(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(USERS_TEST.format(messages=500))
    ended = run_pytest(*on_the_broker)
    ended.assert_outcomes(passed=1)
    ended.stdout.fnmatch_lines(
        [
            "rmqbench: *broker amqp://*:[*][*][*]@*",
            "rmqbench: RabbitMQ * at amqp://*",
            f"PASS test_my_broker_loses_nothing: 500 *evidence in {pytester.path}/*/run-1",
            "*= rmqbench =*",
            "RabbitMQ * at amqp://*: named by its URL",
            "verdict *messages *published/s *consumed/s *confirm p99 *found *run*",
            "PASS * 500 * ms * - *test_my_broker_loses_nothing*",
        ]
    )


@pytest.mark.parametrize("required", ["", "1"])
def test_a_test_of_a_fault_that_cannot_be_had_is_skipped_unless_that_is_forbidden(
    pytester, run_pytest, on_the_broker, monkeypatch, required
):
    monkeypatch.setenv("RMQBENCH_REQUIRE_BROKER", required)
    pytester.makeconftest(
        """
        import rmqbench.runner.run
        from rmqbench.errors import FaultUnavailable

        def run(*_, **__):
            raise FaultUnavailable("No power can be cut here: it needs root.")

        rmqbench.runner.run.run = run
        """
    )
    pytester.makepyfile(USERS_TEST.format(messages=500))
    ended = run_pytest(*on_the_broker, "-rs")
    ended.assert_outcomes(**{"failed" if required else "skipped": 1})
    ended.stdout.fnmatch_lines(["*No power can be cut here: it needs root."])


@pytest.fixture
def secret_user(rmqbench_broker):
    """A user with all rights, whose password is like nothing else."""
    name, password = (f"{what}-{secrets.token_hex(8)}" for what in ("user", "secret"))
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    with rmqbench_broker.management as management:
        for path, body in (
            (f"users/{name}", {"password": password, "tags": "administrator"}),
            (f"permissions/%2F/{name}", everything),
        ):
            management._check(management._request("PUT", path, body=body), path)
        yield name, password
        management._request("DELETE", f"users/{name}")


def test_the_password_is_nowhere_in_the_output(pytester, run_pytest, rmqbench_broker, secret_user):
    name, password = secret_user
    endpoint = replace(rmqbench_broker.endpoint, username=name, password=password)
    pytester.makepyfile(USERS_TEST.format(messages=1))
    ended = run_pytest(
        f"--rmqbench-broker={endpoint.url()}",
        f"--rmqbench-management-url={endpoint.management_url}",
        *("-vv", "--showlocals"),
    )
    ended.assert_outcomes(failed=1)
    output = ended.stdout.str() + ended.stderr.str()
    assert name in output
    assert password not in output


def test_a_run_has_as_many_messages_as_are_asked_for(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(USERS_TEST.format(messages=123))
    ended = run_pytest(*on_the_broker, "--rmqbench-messages=123")
    ended.assert_outcomes(passed=1)


ASKED = {
    "broker": "container",
    "image": "rabbitmq:0-none",
    "management-url": "http://127.0.0.1:2",
    "executor": "tcp://127.0.0.1:9",
    "markdown": "summary.md",
    "report": "page.html",
    "messages": 123,
    "rate": "5@1s",
    "p99-ms": 12.5,
    "min-publish-rate": 456.5,
    "min-consume-rate": 789.5,
}
OTHERWISE = {name: 7 if isinstance(asked, int | float) else "7" for name, asked in ASKED.items()}


@pytest.mark.parametrize(
    "ways",
    [("option", "environment", "ini"), ("environment", "ini"), ("ini",)],
    ids=" over ".join,
)
def test_option_environment_and_ini_mean_the_same_and_the_first_wins(
    pytester, run_pytest, monkeypatch, ways
):
    assert ASKED.keys() == pytest_plugin.settings.OPTIONS.keys()
    given = {way: OTHERWISE for way in ways[1:]} | {ways[0]: ASKED}
    for name, value in given.get("environment", {}).items():
        monkeypatch.setenv(f"RMQBENCH_{name.replace('-', '_').upper()}", str(value))
    ini = [f"rmqbench_{n.replace('-', '_')} = {value}" for n, value in given["ini"].items()]
    pytester.makeini("\n".join(["[pytest]", *ini]))
    options = [f"--rmqbench-{name}={value}" for name, value in given.get("option", {}).items()]
    asked = {name.replace("-", "_"): value for name, value in ASKED.items()}
    pytester.makepyfile(
        f"""
        from rmqbench.pytest_plugin import Settings

        def test_settings(rmqbench_settings):
            assert rmqbench_settings == Settings(**{asked!r})
        """
    )
    run_pytest(*options).assert_outcomes(passed=1)


def test_an_image_for_what_is_no_container_is_refused(pytester, run_pytest):
    pytester.makepyfile("def test_nothing(): pass")
    ended = run_pytest("--rmqbench-broker=amqp://me:secret@host", "--rmqbench-image=rabbitmq:4")
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines(["*--rmqbench-image is for a container, and the broker is *@host*"])
    assert "secret" not in ended.stderr.str()


def test_an_image_of_the_ini_file_does_not_bind_who_names_another_broker(
    pytester, run_pytest, on_the_broker
):
    pytester.makeini("[pytest]\nrmqbench_image = rabbitmq:0-none")
    pytester.makepyfile(USERS_TEST.format(messages=10))
    run_pytest(*on_the_broker, "--rmqbench-messages=10").assert_outcomes(passed=1)


def test_an_executor_that_is_none_fails_with_a_sentence(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(USERS_TEST.format(messages=10))
    ended = run_pytest(*on_the_broker, "--rmqbench-executor=scheduler:8786")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["'scheduler:8786' is not the address of a Dask scheduler. *"])
    ended.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("option", ["messages", "min-publish-rate", "min-consume-rate"])
@pytest.mark.parametrize("value", ["0", "-5", "many", "inf"])
def test_a_number_that_makes_no_sense_is_a_usage_error(pytester, run_pytest, option, value):
    pytester.makepyfile(USERS_TEST.format(messages=0))
    ended = run_pytest("--rmqbench-broker=local", f"--rmqbench-{option}={value}")
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines([f"*--rmqbench-{option} is '{value}'*above 0*"])


def test_a_named_broker_that_is_not_there_fails_and_does_not_skip(pytester, run_pytest):
    pytester.makepyfile(USERS_TEST.format(messages=500))
    ended = run_pytest("--rmqbench-broker=amqp://127.0.0.1:1")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["rmqbench: no broker. *127.0.0.1:1*", "Nothing listens at *"])
    ended.stdout.no_fnmatch_line("*Traceback*")
    ended.stdout.no_fnmatch_line("*exception*")


@pytest.fixture
def nothing_to_be_had(monkeypatch, tmp_path):
    """No engine, no RabbitMQ, no packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")


@pytest.mark.usefixtures("nothing_to_be_had")
def test_auto_skips_where_there_is_nothing_and_says_why(pytester, run_pytest):
    pytester.makepyfile(USERS_TEST.format(messages=500))
    ended = run_pytest("-rs")
    ended.assert_outcomes(skipped=1)
    ended.stdout.fnmatch_lines(["*No RabbitMQ is available*"])


@pytest.mark.usefixtures("nothing_to_be_had")
def test_auto_fails_where_there_is_nothing_and_a_broker_is_required(
    pytester, run_pytest, monkeypatch
):
    monkeypatch.setenv("RMQBENCH_REQUIRE_BROKER", "1")
    pytester.makepyfile(USERS_TEST.format(messages=500))
    run_pytest().assert_outcomes(errors=1)


def test_a_project_that_wants_no_broker_gets_none(pytester, run_pytest):
    pytester.makepyfile("def test_nothing(): pass")
    ended = run_pytest("--rmqbench-broker=amqp://127.0.0.1:1")
    ended.assert_outcomes(passed=1)
    ended.stdout.no_fnmatch_line("*no broker*")


def test_a_bad_verdict_is_the_assertions_text(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(
        """
        import rmqbench

        def test_loss(rmqbench_run):
            scenario = rmqbench.reliability(messages=500, routing_key="work", stall_s=2)
            result = rmqbench_run(scenario)
            lost = rmqbench.Finding("lost", 1, "fails", "work.queue")
            rmqbench.Verdict("FAIL", (lost,), ("1 lost",), "the directory").require_pass()
        """
    )
    ended = run_pytest(*on_the_broker)
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(
        ["*VerdictError: FAIL: 1 lost", "*The evidence lies in the directory"]
    )


def test_several_brokers_are_tested_one_after_the_other_and_compared(
    pytester, run_pytest, rmqbench_broker, on_the_broker
):
    """The same broker by two addresses: each test runs on both, and a table has both."""
    pytester.makepyfile(USERS_TEST.format(messages=50))
    url = rmqbench_broker.endpoint.url()
    other = url.replace("127.0.0.1", "localhost")
    assert other != url, "the broker of the tests has an address of this host"
    ended = run_pytest(
        *on_the_broker,
        f"--rmqbench-broker={other}",
        "--rmqbench-messages=50",
        "--rmqbench-report=page.html",
        "--rmqbench-markdown=summary.md",
    )
    ended.assert_outcomes(passed=2)
    told = ended.stdout.str()
    port = rmqbench_broker.endpoint.port
    for name in ("127.0.0.1", "localhost"):
        assert re.search(rf"PASS test_my_broker_loses_nothing\[{name}:{port}[^\]]*\]: 50 m", told)
    ended.stdout.fnmatch_lines(
        [
            "rmqbench: a page about 2 runs: page.html",
            "broker 1: RabbitMQ *127.0.0.1*",
            "broker 2: RabbitMQ *localhost*",
            "verdict *broker *messages *",
            "PASS *1 * 50 *",
            "PASS *2 * 50 *",
            "published/s, by broker",
            f"127.0.0.1:{port}* localhost:{port}* run*",
            "* test_my_broker_loses_nothing*",
        ]
    )
    assert rmqbench_broker.endpoint.password not in told
    assert "2 runs" in (pytester.path / "page.html").read_text()
    assert (pytester.path / "summary.md").read_text().count("| ✅ PASS |") == 2


@pytest.mark.slow
def test_images_and_brokers_are_multiplied_out_as_they_belong_together(pytester, run_pytest):
    pytester.makepyfile("def test_it(rmqbench_broker): pass")
    images = ("--rmqbench-image=rabbitmq:4.0", "--rmqbench-image=rabbitmq:4.3")
    for brokers, expected in (
        ((), ["rabbitmq:4.0", "rabbitmq:4.3"]),
        (("local", "container"), ["local", "rabbitmq:4.0", "rabbitmq:4.3"]),
        (("amqp://u:secret@h:5", "auto"), ["h:5", "rabbitmq:4.0", "rabbitmq:4.3"]),
    ):
        options = [f"--rmqbench-broker={each}" for each in brokers]
        ended = run_pytest("--collect-only", "-q", *options, *images)
        found = re.findall(r"::test_it\[(.*)\]", ended.stdout.str())
        assert found == expected
        assert "secret" not in ended.stdout.str()


def test_the_properties_of_a_run_are_in_junit_s_xml(pytester, run_pytest, on_the_broker):
    pytester.makepyfile(USERS_TEST.format(messages=50))
    run_pytest(*on_the_broker, "--rmqbench-messages=50", "--junit-xml=junit.xml").assert_outcomes(
        passed=1
    )
    text = (pytester.path / "junit.xml").read_text()
    found = dict(re.findall(r'<property name="rmqbench_(\w+)" value="([^"]*)"', text))
    assert (found["outcome"], found["verdict"], found["messages"]) == ("PASS", "PASS", "50")
    assert float(found["publish_rate_per_s"]) > 0
    assert Path(found["run"]).is_dir()
