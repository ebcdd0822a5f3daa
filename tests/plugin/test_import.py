"""What rmqbench costs those who have it installed and do not use it."""

import ast
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

import rmqbench

HEAVY = frozenset(
    {"docker", "numpy", "pika", "psutil", "requests", "rich", "testcontainers", "typer", "urllib3"}
)
OURS = frozenset(
    {
        "rmqbench",
        "rmqbench.endpoint",
        "rmqbench.errors",
        "rmqbench.pytest_plugin",
        "rmqbench.pytest_plugin.reporting",
        "rmqbench.pytest_plugin.session_broker",
        "rmqbench.pytest_plugin.settings",
        "rmqbench.text",
    }
)
ROUNDS = 3


def loaded_by(statement):
    """The modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def heavy_in(modules):
    return {module.partition(".")[0] for module in modules} & HEAVY


def ours_in(modules):
    return {module for module in modules if module.partition(".")[0] == "rmqbench"}


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
def test_the_cost_for_an_empty_suite_is_reported(pytester, no_settings_from_outside, request):
    """With and without the plugin, in turn; how much is too much is no affair of a busy machine."""

    def seconds(*arguments):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", *arguments],
            check=False,
            stdout=subprocess.DEVNULL,
            cwd=pytester.path,
        )
        return time.perf_counter() - began

    seconds()
    pairs = [(seconds(), seconds("-p", "no:rmqbench.pytest_plugin")) for _ in range(ROUNDS)]
    differences = [with_it - without for with_it, without in pairs]
    figures = f"{statistics.median(differences):.3f} s (median of {ROUNDS} pairs)"
    print(f"The plugin costs an empty suite {figures}: {pairs}")
    request.node.user_properties.append(("rmqbench_plugin_costs", figures))


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
