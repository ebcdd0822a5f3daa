"""A user of few permissions: the refusal is the result, at once, and no verdict on messages."""

import contextlib
import re
import time
import uuid
from dataclasses import replace

import pytest
import requests
from support.tools import rmqbench as run_command

import rmqbench
from rmqbench.errors import AccessRefused

MAY_NOT_PUBLISH = {"configure": ".*", "write": r"^(work|audit)\.queue", "read": ".*"}
REFUSED = r"has no (write )?permission for exchange 'direct\.exchange.*Grant it: rabbitmqctl"
SOON_S = 12.0  # before, it took the 30 s after which a producer gives up


MAY_NOT_READ = {"configure": ".*", "write": ".*", "read": r"^direct\.exchange"}


@contextlib.contextmanager
def as_a_user(rmqbench_broker, permissions):
    """Yield the broker as a user sees it who has these permissions and no tag."""
    name, password = f"rmqbench-{uuid.uuid4().hex[:8]}", "a password"
    with rmqbench_broker.management as management:
        user = f"{management.url}/api/users/{name}"
        login = management._session.auth
        host = f"rmqbench-user-{uuid.uuid4().hex[:8]}"
        management.create_virtual_host(host)
        requests.put(
            user, json={"password": password, "tags": ""}, auth=login, timeout=30
        ).raise_for_status()
        where = f"{management.url}/api/permissions/{host}/{name}"
        requests.put(where, json=permissions, auth=login, timeout=30).raise_for_status()
        endpoint = rmqbench_broker.endpoint.in_virtual_host(host)
        yield replace(endpoint, username=name, password=password)
        requests.delete(user, auth=login, timeout=30).raise_for_status()
        management.delete_virtual_host(host)


@pytest.fixture
def may_not_publish(rmqbench_broker):
    """The broker as a user sees it who may declare and bind, and publish to no exchange."""
    with as_a_user(rmqbench_broker, MAY_NOT_PUBLISH) as endpoint:
        yield endpoint


@pytest.fixture
def may_not_read(rmqbench_broker):
    """The broker as a user sees it who may declare, bind and publish, and read no queue."""
    with as_a_user(rmqbench_broker, MAY_NOT_READ) as endpoint:
        yield endpoint


@pytest.mark.parametrize("more", [{}, {"publish_rate": 500.0}, {"consume": "during"}])
def test_a_user_who_may_not_publish_is_told_so_and_nothing_is_judged(
    may_not_publish, more, tmp_path
):
    scenario = rmqbench.reliability(messages=3000, **more)
    with rmqbench.open_broker(
        may_not_publish.url(), management_url=may_not_publish.management_url
    ) as broker:
        began = time.monotonic()
        with pytest.raises(AccessRefused, match=REFUSED):
            rmqbench.run(scenario, broker, directory=tmp_path / "run")
        assert time.monotonic() - began < SOON_S
    assert not (tmp_path / "run" / "result.json").exists()
    with pytest.raises(AccessRefused, match=REFUSED):  # the directory says the same
        rmqbench.judge(tmp_path / "run")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "names of its own"])
def test_a_user_who_may_not_read_is_told_so_before_anything_is_published(
    rmqbench_broker, may_not_read, kind, in_place, tmp_path
):
    scenario = rmqbench.reliability(messages=3000, queue_kind=kind)
    with rmqbench.open_broker(
        may_not_read.url(), management_url=may_not_read.management_url
    ) as broker:
        began = time.monotonic()
        with pytest.raises(AccessRefused, match=r"no (read )?permission for queue 'work\.queue"):
            rmqbench.run(scenario, broker, directory=tmp_path / "run", in_place=in_place)
        assert time.monotonic() - began < SOON_S
    with rmqbench_broker.management as management:  # nothing is left behind
        assert management.queues(may_not_read.virtual_host) == []


@pytest.mark.slow
def test_what_a_policy_takes_that_the_user_may_not_see_is_not_called_lost(
    rmqbench_broker, tmp_path
):
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    with as_a_user(rmqbench_broker, everything) as endpoint:
        with rmqbench_broker.management as management:
            host = endpoint.virtual_host
            management.set_policy("limit", "^work", {"max-length": 100}, vhost=host)
        with rmqbench.open_broker(endpoint.url(), management_url=endpoint.management_url) as broker:
            scenario = rmqbench.reliability(messages=500)
            verdict = rmqbench.run(scenario, broker, directory=tmp_path / "run").verdict
    assert verdict.outcome == "INCONCLUSIVE", verdict
    assert verdict.count("lost") == 0
    assert "400 messages are missing, and " in str(verdict)
    assert "nor which policies apply (" in str(verdict)


def test_the_command_says_it_in_one_line_with_the_exit_code_of_a_refused_login(may_not_publish):
    ended = run_command(
        *("run", "reliability", "--messages", "3000", "--url", may_not_publish.url()),
        *("--management-url", may_not_publish.management_url),
        timeout=40,
    )
    assert (ended.returncode, ended.stdout) == (4, "")
    (error,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert re.search(REFUSED, error)
    assert "indeterminate" not in ended.stderr


def test_in_pytest_it_is_the_error_of_the_test(may_not_publish, pytester):
    pytester.makepyfile(
        "import rmqbench\n"
        "def test_ours(rmqbench_run):\n"
        "    rmqbench_run(rmqbench.reliability(messages=3000)).verdict.require_pass()\n"
    )
    result = pytester.runpytest_subprocess(
        *("--rmqbench-broker", may_not_publish.url()),
        *("--rmqbench-management-url", may_not_publish.management_url),
    )
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*AccessRefused: .* has no (write )?permission for exchange "])
    result.stdout.no_re_match_line(".*indeterminate")
