"""The library that a report holds is what its page says, is shipped, and loads nothing."""

import re
import tomllib
from fnmatch import fnmatch
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

HERE = resources.files("rmqbench.report.html") / "uplot"
PAGE = (HERE / "README.md").read_text(encoding="utf-8")
SUMS = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", PAGE, re.MULTILINE))
ROOT = Path(__file__).parents[3]
LOADS = (
    r"https?:",
    r"wss?:",
    r"\burl\(",
    r"@import",
    r"\bimport\b",
    r"importScripts",
    r"\bfetch\b",
    r"XMLHttpRequest",
    r"WebSocket",
    r"EventSource",
    r"sendBeacon",
    r"\bImage\b",
    r"\bWorker\b",
    r"\.src\b",
    r"\.href\b",
    r"\beval\b",
    r"\bFunction\(",
)


def test_the_page_has_the_sum_of_every_file():
    sums = {each.name: sha256(each.read_bytes()).hexdigest() for each in HERE.iterdir()}
    del sums["README.md"]
    assert sums == SUMS


def test_the_page_has_the_version_of_the_files():
    (version,) = re.findall(r"\(v([\d.]+)\)", (HERE / "uPlot.iife.min.js").read_text("utf-8"))
    assert f"Version {version}," in PAGE
    assert f"npm pack uplot@{version}\n" in PAGE


def test_what_is_installed_has_every_file():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert [*build, *build["targets"]] == ["targets", "sdist"]  # a wheel holds all of rmqbench
    assert list(build["targets"]["sdist"]) == ["include"]
    assert "rmqbench" in build["targets"]["sdist"]["include"]
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()]
    parts = {"rmqbench", "report", "html", "uplot", "README.md", *SUMS}
    assert not [(part, each) for part in parts for each in ignored if fnmatch(part, each)]


@pytest.mark.parametrize("name", ["uPlot.iife.min.js", "uPlot.min.css"])
def test_it_loads_nothing_and_can_stand_in_a_page(name):
    text = re.sub(r"^/\*! https:\S+ \(v[\d.]+\) \*/", "", (HERE / name).read_text("utf-8"))
    assert not [each for each in LOADS if re.search(each, text)]
    assert not re.search(r"<!--|</", text)  # which would end the script or style around it
