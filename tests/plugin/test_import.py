"""What rmqbench costs those who have it installed and do not use it."""

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.cost import least_cpu_s, loaded_by, ours_in, packages, require_below

import rmqbench

HEAVY = frozenset(
    {
        *("docker", "numpy", "pickle", "pika", "psutil", "requests", "rich", "testcontainers"),
        *("typer", "urllib3"),
    }
)
OURS = frozenset(
    {
        "rmqbench",
        "rmqbench.errors",
        "rmqbench.pytest_plugin",
        "rmqbench.pytest_plugin.reporting",
        "rmqbench.pytest_plugin.settings",
    }
)


def heavy_in(modules):
    return packages(modules) & HEAVY


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_what_is_called_heavy_is_there_and_would_be_seen(name):
    assert heavy_in(loaded_by(f"import {name}")) >= {name}


def test_importing_the_package_or_its_plugin_imports_nothing_heavy():
    assert ours_in(loaded_by("import rmqbench")) == {"rmqbench"}
    loaded = loaded_by("import rmqbench.pytest_plugin")
    assert heavy_in(loaded) == set()
    assert ours_in(loaded) == OURS


def test_a_session_that_uses_nothing_of_it_imports_nothing_heavy(pytester, run_pytest):
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            with open("loaded.txt", "w") as file:
                print(*sys.modules, file=file)
        """
    )
    pytester.makepyfile("def test_nothing(): pass\ndef test_failing(): assert False")
    run_pytest().assert_outcomes(passed=1, failed=1)
    loaded = set((pytester.path / "loaded.txt").read_text().split())
    assert heavy_in(loaded) == set()
    assert ours_in(loaded) == OURS


@pytest.mark.slow
def test_a_suite_that_uses_nothing_of_it_costs_little_more(
    pytester, no_settings_from_outside, monkeypatch
):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # pytest alone, and with it alone
    pytester.makepyfile("def test_nothing(): pass")
    alone = [sys.executable, "-m", "pytest"]
    both = alone, [*alone, "-p", "rmqbench.pytest_plugin"]

    def measure():
        without, with_it = least_cpu_s(*both, cwd=pytester.path)
        return {"with it": with_it / without}

    require_below({"with it": 1.25}, measure)


def test_every_public_name_is_there_and_in_dir():
    for name in rmqbench.__all__:
        assert getattr(rmqbench, name) is getattr(import_module(rmqbench._HOMES[name]), name)
    assert set(dir(rmqbench)) >= {*rmqbench.__all__, "__version__", "faults", "testing"}


def test_type_checkers_see_the_names_where_python_finds_them():
    tree = ast.parse(Path(rmqbench.__file__).read_text(encoding="utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == rmqbench._HOMES
    assert sorted(seen) == sorted(rmqbench.__all__)


def test_run_is_the_function_whatever_was_imported_before():
    loaded = (
        "import rmqbench.runner.run, rmqbench.cli.run, rmqbench\n"
        "assert rmqbench.run is rmqbench.runner.run.run, rmqbench.run"
    )
    assert "rmqbench.cli.run" in loaded_by(loaded)


def test_modules_for_users_are_there_without_an_import_of_their_own():
    loaded_by("import rmqbench; rmqbench.faults.FAULTS, rmqbench.testing.Proxy")


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rmqbench' has no attribute 'relaibility'"):
        rmqbench.relaibility  # noqa: B018  # the access is the test
