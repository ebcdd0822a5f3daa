"""What it costs to start: processor time, user and system, the median of some rounds in turn.

``PYTHONPATH=tests python tests/benchmarks/start_up.py [ROUNDS]`` measures the installed rmqbench.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from support.cost import cpu_s

PYTHON = [sys.executable, "-c"]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
COMMANDS = {
    "Python itself": [*PYTHON, "pass"],
    "import rmqbench": [*PYTHON, "import rmqbench"],
    "import typer": [*PYTHON, "import typer"],
    "rmqbench --help": [sys.executable, "-m", "rmqbench", "--help"],
    "rmqbench judge --help": [sys.executable, "-m", "rmqbench", "judge", "--help"],
    "rmqbench run stress --help": [sys.executable, "-m", "rmqbench", "run", "stress", "--help"],
    "pytest, one empty test": PYTEST,
    "the same with the plugin": [*PYTEST, "-p", "rmqbench.pytest_plugin"],
    "the same with pytest-benchmark": [*PYTEST, "-p", "pytest_benchmark.plugin"],
    "import numpy, pika": [*PYTHON, "import numpy, pika"],
    "a worker's imports": [
        *PYTHON,
        "import gc; gc.disable(); import rmqbench.runner.workers, rmqbench.clients.producer",
    ],
}


def main() -> None:
    """Print a line for each command."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    settings = {"OPENBLAS_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = os.environ | settings
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nothing is compiled after the first round
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "test_nothing.py").write_text("def test_nothing(): pass\n")
        taken_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(rounds + 1):
            for name, command in COMMANDS.items():
                taken_s[name].append(cpu_s(command, env=environment, cwd=directory))
    for name, each in taken_s.items():
        print(f"{name:32}{statistics.median(each[1:]):6.3f} s")


if __name__ == "__main__":
    main()
