"""What is printed of the progress of a run where there is no terminal."""

import io
from itertools import count

import pytest
from rich.console import Console

from rmqbench.cli.progress import shown_progress
from rmqbench.runner.live import Live, Progress


@pytest.fixture
def told(capsys):
    """Show progress, a second apart, and return the lines that were printed."""

    def show(*seen, every=10):
        with shown_progress(
            Console(file=io.StringIO()), every=every, clock=count().__next__
        ) as watch:
            for each in seen:
                watch(Progress(*each))
        return capsys.readouterr().err.splitlines()

    return show


def test_every_so_many_messages_there_is_a_line_and_one_in_the_end(told):
    seen = [("publish", done, 25) for done in (0, 3, 9, 10, 19, 20, 21, 25, 25)]
    assert [line.split(",")[0] for line in told(*seen)] == [
        f"publish: {done} of 25" for done in (10, 20, 25)
    ]


def test_a_line_tells_what_is_done_then_not_the_mark_that_was_passed(told):
    assert told(("publish", 0, 40), ("publish", 33, 40), ("publish", 40, 40)) == [
        "publish: 33 of 40, 33/s",
        "publish: 40 of 40, 20/s",
    ]


def test_without_an_end_it_counts_on(told):
    assert told(("Worker", 0, None), ("Worker", 10, None), ("Worker", 25, None)) == [
        "Worker: 10, 10/s",
        "Worker: 25, 12/s",
    ]


def test_each_phase_begins_anew(told):
    seen = [("publish", 10, 10), ("drain", 0, 10), ("drain", 10, 10)]
    assert [line.split(",")[0] for line in told(*seen)] == [
        "publish: 10 of 10",
        "drain: 10 of 10",
    ]


def test_phases_at_the_same_time_each_have_their_own_lines(told):
    both = ("publish", "drain")
    seen = [(phase, done, 20) for done in (0, 5, 10, 15, 20, 20, 20) for phase in both]
    assert [line.split(",")[0] for line in told(*seen)] == [
        f"{phase}: {done} of 20" for done in (10, 20) for phase in both
    ]


def test_what_was_found_so_far_is_a_line_of_its_own(told):
    seen = ("publish", 3, None, "after 1 min: nothing that fails"), ("publish", 12, None)
    assert told(*seen) == ["after 1 min: nothing that fails", "publish: 12, 12/s"]


def test_on_a_terminal_it_stands_above_the_bar():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=100)
    with shown_progress(console, every=10) as watch:
        watch(Progress("publish", 3, None, "after 1 min: [bold]nothing[/] that fails"))
    assert "after 1 min: [bold]nothing[/] that fails" in screen.getvalue()


def test_on_a_terminal_the_live_figures_stand_beneath_the_bars():
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    live = Live(confirm=(1.25, 9.5), depth=1234)
    with shown_progress(screen, every=10) as watch:
        watch(Progress("publish", 3, 10, live=live))
        watch(Progress("publish", 4, 10))
    *_, last, _ = screen.file.getvalue().splitlines()
    assert "confirmed p50 1.25, p99 9.5 ms; in queues 1,234; so far nothing wrong" in last
