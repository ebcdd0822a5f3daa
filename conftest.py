"""Settings of this repository's own tests; users of the plugin need none of it.

``python -m pytest`` is the quick lane: all but the deep suites, side by side. Those are asked
for by their marker, or by naming a file or a test.
"""

import os
import signal
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the dev extra brings it
    pass
else:  # how long an example takes is the machine's affair
    settings.register_profile(
        "rmqbench", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("rmqbench")

pytest_plugins = ["pytester"]

DEEP = ("brokers", "faults", "latency", "museum", "mutation", "random", "slow", "stress")
WORKERS = 4  # tests wait more than they compute


def pytest_addoption(parser):
    """Declare how to ask for everything."""
    parser.addoption("--deep", action="store_true", help="all tests, those of the deep suites too")
    parser.addoption(
        "--rmqbench-histories",
        type=int,
        default=1_000,
        metavar="N",
        help="how many simulated histories are tried",
    )
    parser.addoption(
        "--rmqbench-scripts",
        type=int,
        default=40,
        metavar="N",
        help="how many random scripts are played on the model and on a real broker, for each kind",
    )
    parser.addoption(
        "--rmqbench-seed", type=int, default=0, metavar="S", help="the first one's seed"
    )


def is_quick(config):
    """Whether nothing was asked for: no marker, no file, no test, not everything."""
    root = config.rootpath
    whole = {root, *(root / each for each in config.getini("testpaths"))}
    paths = {Path(config.invocation_params.dir, arg) for arg in config.args}
    return not config.option.markexpr and not config.option.deep and paths <= whole


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the quick lane in several processes, each with a broker of its own."""
    option = config.option
    in_one_process = (
        not config.pluginmanager.hasplugin("xdist")
        or hasattr(config, "workerinput")  # is one of the several
        or option.numprocesses is not None
        or option.usepdb
        or option.collectonly
        or option.capture == "no"
    )
    if is_quick(config) and not in_one_process:
        option.numprocesses = WORKERS
        option.dist = "worksteal"


def pytest_configure(config):
    """Know the mark of pytest-timeout, which the dev extra brings, also where that is missing."""
    config.addinivalue_line("markers", "timeout(seconds): the limit of a test that takes long")


def pytest_report_header(config):
    """Say what the quick lane leaves out."""
    if not is_quick(config):
        return None
    return f"quick lane: {', '.join(DEEP)} in samples only; -m NAME runs one of them, --deep all"


def pytest_collection_modifyitems(config, items):
    """Leave the deep suites out of the quick lane, but for the first case of a sample."""
    if not is_quick(config):
        return
    seen, kept, left_out = set(), [], []
    for item in items:
        function = item.nodeid.partition("[")[0]
        sample = item.get_closest_marker("quick") and function not in seen
        seen.add(function)
        deep = any(map(item.get_closest_marker, DEEP))
        (left_out if deep and not sample else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True, scope="session")
def runs_of_their_own(tmp_path_factory):
    """Runs for which no directory is named do not lie among those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def outer_xdist_is_unseen(request, monkeypatch):
    """A pytest within a test is no worker of the one around it, which would change what it does."""
    if "pytester" in request.fixturenames:
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
            monkeypatch.delenv(name, raising=False)


# A shell that starts something in the background has it ignore SIGINT, and so all that it starts:
# tests interrupt programs, which must be able to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With it nothing waits to be written when a program ends: output that is lost would be seen less.
os.environ.pop("PYTHONUNBUFFERED", None)
