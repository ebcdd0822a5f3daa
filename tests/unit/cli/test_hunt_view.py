"""A terminal shows how far a hunt is, and what it has found; elsewhere its lines stand alone."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from rmqbench.cli.hunt_view import HuntView, tally
from rmqbench.hunt import Hunt
from rmqbench.hunt.signature import Signature
from rmqbench.runner.run import Progress

FOUND = SimpleNamespace(signature=Signature("lost", "classic", "work"))


@pytest.fixture
def hunt(tmp_path):
    hunt = Hunt(lambda *_: None, tmp_path, lambda: True)
    hunt.tried, hunt.messages, hunt.inconclusive = 12, 34_567, 2
    hunt.under_way = "schedule-11: 3,000 messages classic; kill-broker during drain"
    hunt.finds.append(FOUND)
    return hunt


def looked_at(hunt, width=80, steps=lambda view: None):
    """Return what stands beneath the lines."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    view = HuntView(console, lambda: "12:03 left")
    with view.shown(hunt):
        steps(view)
        shown = view._lines()
    plain = Console(file=io.StringIO(), width=width, color_system=None)
    plain.print(shown)
    return plain.file.getvalue().splitlines()


def test_it_shows_what_was_tried_found_and_is_under_way(hunt):
    watched = Progress("drain queue.0", 1200, 3000)
    assert looked_at(hunt, steps=lambda view: view.watch(watched)) == [
        "12 schedules tried, 34,567 messages judged: 1 found, 2 inconclusive; 12:03 left",
        "  lost in a classic queue",
        "schedule-11: 3,000 messages classic; kill-broker during drain",
        "  drain queue.0: 1,200 of 3,000",
    ]


def test_the_progress_of_a_run_that_is_over_is_not_that_of_the_next(hunt):
    def steps(view):
        view.watch(Progress("publish", 5, None))
        view.say("schedule-11: PASS")

    assert looked_at(hunt, steps=steps)[-1].startswith("schedule-11: 3,000")


def test_no_line_is_longer_than_the_terminal_is_wide(hunt):
    lines = looked_at(hunt, width=40)
    assert len(lines) == 3, "none is broken"
    assert max(map(len, lines)) <= 40


def test_what_a_message_says_is_not_obeyed(hunt):
    hunt.under_way = "schedule-1: \x1b[2Jgone"
    shown = "".join(looked_at(hunt, steps=lambda view: view.watch(Progress("\x1b[2J", 1, 2))))
    assert "\x1b" not in shown
    assert "gone" in shown


def test_where_there_is_no_terminal_nothing_stands_beneath(hunt):
    console = Console(file=io.StringIO(), force_terminal=False)
    with HuntView(console, lambda: "").shown(hunt):
        pass
    assert console.file.getvalue() == ""


def test_the_tally_says_what_is_open(hunt):
    hunt.finds.clear()
    hunt.errors.append("It does not start.")
    assert tally(hunt) == (
        "11 schedules tried, 34,567 messages judged: nothing found, 2 inconclusive, "
        "1 could not be run"
    )
