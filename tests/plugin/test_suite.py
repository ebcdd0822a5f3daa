"""The scenarios ship in the package: whoever has installed it can run them."""

import pytest

import rmqbench

RELIABILITY = [
    *(
        f"test_every_message_arrives_once_in_order_and_unharmed[{kind}-{consumers}]"
        for kind in ("classic", "lazy", "quorum")
        for consumers in (1, 3)
    ),
    *(
        f"test_what_is_consumed_while_it_is_published_arrives_once_and_unharmed[{kind}]"
        for kind in ("classic", "quorum")
    ),
]
STRESS = [
    f"{test}[{kind}]" for kind in ("lazy", "quorum") for test in ("test_publish", "test_drain")
]


def collected(ended):
    return [line.rpartition("::")[2] for line in ended.outlines if "::" in line]


@pytest.mark.parametrize(("marker", "tests"), [("reliability", RELIABILITY), ("stress", STRESS)])
def test_the_suite_is_found_by_its_package_in_an_empty_directory(run_pytest, marker, tests):
    ended = run_pytest("--pyargs", "rmqbench.suite", "-m", marker, "--collect-only", "-q")
    assert ended.ret == pytest.ExitCode.OK
    assert collected(ended) == tests


@pytest.mark.slow
def test_the_suite_passes_by_its_package_in_an_empty_directory(run_pytest, on_the_broker):
    ended = run_pytest(
        *("--pyargs", "rmqbench.suite", "-m", "reliability", "-k", "quorum-1"),
        *on_the_broker,
        "--rmqbench-messages=200",
    )
    ended.assert_outcomes(passed=1)
    ended.stdout.fnmatch_lines(["PASS test_every_message_arrives_*[[]quorum-1[]]: 200 messages, *"])


def test_the_repository_runs_the_same(pytestconfig):
    assert "rmqbench/suite" in pytestconfig.getini("testpaths")
    assert (pytestconfig.rootpath / "rmqbench" / "suite" / "test_reliability.py").samefile(
        f"{rmqbench.__path__[0]}/suite/test_reliability.py"
    )
