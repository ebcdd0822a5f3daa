"""A process may open as many files as its clients need, or says that it may not."""

import resource
import subprocess
import sys

import pytest

from rmqbench.errors import UsageError
from rmqbench.open_files import open_files_of_a_node, require_open_files

CODE = """
import resource, sys
from rmqbench.errors import UsageError
from rmqbench.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
try:
    allow_open_files(int(sys.argv[1]))
except UsageError as error:
    print(error)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("needed", "soft"), [(50, 100), (100, 100), (150, 150), (200, 200)])
def test_the_limit_is_raised_where_it_is_too_low_and_never_lowered(needed, soft):
    assert said(needed) == f"{soft} 200"


def test_more_than_the_system_allows_is_a_clear_error():
    error = said(10_000)
    assert "needs 10,000 open files and sockets in one process, and may have 200" in error
    assert "ulimit -n" in error
    assert error.endswith("100 200")


def said(needed):
    return subprocess.run(
        [sys.executable, "-c", CODE, str(needed)], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_whether_a_process_may_have_so_many_can_be_asked_before(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 200))
    require_open_files(200)
    with pytest.raises(UsageError, match=r"needs 201 open files .* and may have 200"):
        require_open_files(201)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, resource.RLIM_INFINITY))
    require_open_files(1_000_000)


@pytest.mark.parametrize(
    ("hard", "allowed"), [(4096, 4096), (1 << 30, 65_536), (resource.RLIM_INFINITY, 65_536)]
)
def test_a_node_gets_what_it_can_use_and_no_billion(monkeypatch, hard, allowed):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    assert open_files_of_a_node() == allowed
