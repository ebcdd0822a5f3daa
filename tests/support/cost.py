"""What something costs: processor time, factors beside something else, what is imported."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence


def cpu_s(command: Sequence[str], **more: object) -> float:
    """Run a command to its end and return its processor time, user and system."""
    silent = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen(command, **silent, **more)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return used.ru_utime + used.ru_stime


def least_cpu_s(*commands: Sequence[str], rounds: int = 5, **more: object) -> list[float]:
    """Run commands in turn and return the least that each has cost: others only ever add to it."""
    all_rounds = [[cpu_s(each, **more) for each in commands] for _ in range(rounds)]
    return [min(each) for each in zip(*all_rounds, strict=True)]


def require_below(
    limits: Mapping[str, float], measure: Callable[[], Mapping[str, float]], rounds: int = 4
) -> None:
    """Fail where what ``measure`` returns under a name is below its limit in none of some rounds.

    What else the machine does only ever adds to it, so that one round is enough.
    """
    least = dict.fromkeys(limits, math.inf)
    for _ in range(rounds):
        found = measure()
        least = {name: min(each, found[name]) for name, each in least.items()}
        if all(least[name] < limit for name, limit in limits.items()):
            return
    raise AssertionError(f"at the least {least}, and the limits are {dict(limits)}")


def loaded_by(program: str, *arguments: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a program, which may exit with 0."""
    told = f"import atexit, sys\natexit.register(lambda: print('\\0', *sys.modules))\n{program}"
    ended = subprocess.run(
        [sys.executable, "-c", told, *arguments], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.rpartition("\0")[2].split())


def packages(modules: set[str]) -> set[str]:
    """Return the packages to which modules belong."""
    return {module.partition(".")[0] for module in modules}


def ours_in(modules: set[str]) -> set[str]:
    """Return the modules that are rmqbench's own."""
    return {module for module in modules if module.partition(".")[0] == "rmqbench"}
