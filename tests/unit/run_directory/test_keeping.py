"""Old runs are removed as promised, and nothing else is."""

import json
import os
import shutil
import time

import pytest

from rmqbench.run_directory import RunDirectory, keeping
from rmqbench.run_directory.keeping import runs_directory, tidy

DAY_S = 24 * 60 * 60


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """The directory of the runs of a user who has none yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return runs_directory()


def a_run(runs, second, verdict=None, *, days_ago=0.0):
    """Make a run of this second; without a verdict it has not come to its end."""
    path = runs / f"2026-11-25T10-00-{second:02}Z-reliability-0a5816cd"
    path.mkdir(parents=True)
    (path / "run.json").write_text("{}")
    if verdict:
        (path / "result.json").write_text(json.dumps({"outcome": verdict}))
    written_s = time.time() - days_ago * DAY_S
    for each in (*path.iterdir(), path):
        os.utime(each, (written_s, written_s))
    return path


def left(runs):
    return sorted(int(path.name[17:19]) for path in runs.iterdir())


def test_of_runs_that_passed_the_newest_stay(runs):
    for second in (5, 1, 4, 2, 3):
        a_run(runs, second, "PASS")
    removed = tidy(keep=2, keep_days=30)
    assert left(runs) == [4, 5]
    assert sorted(int(path.name[17:19]) for path in removed) == [1, 2, 3]


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", None])
def test_a_run_that_did_not_pass_stays_for_its_days(runs, verdict):
    for second in range(3):
        a_run(runs, second, verdict, days_ago=29)
    for second in range(3, 6):
        a_run(runs, second, "PASS")
    a_run(runs, 6, verdict, days_ago=31)
    tidy(keep=1, keep_days=30)
    assert left(runs) == [0, 1, 2, 5]


def test_a_run_that_passed_is_old_after_its_days_too(runs):
    a_run(runs, 0, "PASS", days_ago=31)
    a_run(runs, 1, "PASS", days_ago=29)
    tidy(keep=10, keep_days=30)
    assert left(runs) == [1]


def test_a_run_that_is_under_way_stays_however_long_it_lasts(runs):
    path = a_run(runs, 0, days_ago=40)
    (path / "samples.jsonl").write_text("written a moment ago")
    os.utime(path, (0, 0))
    assert tidy(keep=1, keep_days=1) == []


def test_what_is_no_run_is_not_touched(runs, tmp_path):
    elsewhere = a_run(tmp_path / "elsewhere", 0, "PASS", days_ago=99)
    runs.mkdir(parents=True)
    (runs / "2026-11-25T10-00-01Z-a-link").symlink_to(elsewhere)
    (runs / "2026-11-25T10-00-02Z-empty").mkdir()
    (runs / "notes.txt").write_text("mine")
    a_run(runs / "archive", 3, "PASS", days_ago=99)
    before = sorted(runs.iterdir())
    assert tidy(keep=1, keep_days=1) == []
    assert sorted(runs.iterdir()) == before
    assert (elsewhere / "run.json").exists()


def test_a_result_that_cannot_be_read_is_no_pass(runs):
    for second, text in enumerate(["", "[]", "null", '{"outcome": ["PASS"]}']):
        (a_run(runs, second) / "result.json").write_text(text)
    for second in (5, 6):
        a_run(runs, second, "PASS")
    tidy(keep=1, keep_days=30)
    assert left(runs) == [0, 1, 2, 3, 6]


def test_without_any_run_there_is_nothing_to_tidy():
    assert tidy(keep=1, keep_days=1) == []


def test_a_new_run_lies_among_the_runs_and_sorts_by_its_time(runs):
    path = RunDirectory.make(None, "my/own scenario-0a5816cd").path
    assert path.parent == runs
    assert path.name.endswith("Z-my-own-scenario-0a5816cd")
    assert (
        abs(
            time.time()
            - time.mktime(time.strptime(path.name[:19], "%Y-%m-%dT%H-%M-%S"))
            + time.timezone
        )
        < 60
    )
    (path / "run.json").write_text("{}")
    os.utime(path / "run.json", (0, 0))
    os.utime(path, (0, 0))
    assert tidy(keep=1, keep_days=1) == [path]  # it has the name of a run


def test_a_user_without_a_home_gets_a_temporary_directory(runs, tmp_path):
    (tmp_path / "state").write_text("a file, where a directory cannot be made")
    path = RunDirectory.make(None, "reliability-0a5816cd").path
    assert path.is_dir()
    assert path.name.startswith("rmqbench-reliability-0a5816cd-")
    path.rmdir()


def test_a_run_that_another_one_removes_meanwhile_is_passed_over(runs, monkeypatch):
    gone = a_run(runs, 0, "PASS")
    a_run(runs, 1, "PASS", days_ago=31)
    has_passed = keeping._has_passed

    def and_is_removed(path):
        passed = has_passed(path)
        if path == gone:
            shutil.rmtree(path)
        return passed

    monkeypatch.setattr(keeping, "_has_passed", and_is_removed)
    tidy(keep=5, keep_days=30)
    assert left(runs) == []


def a_campaign(runs, second, code):
    """Make a campaign of this second, one of whose runs has its own verdict."""
    path = runs / f"2026-11-25T10-00-{second:02}Z-campaign-nightly"
    (path / "run").mkdir(parents=True)
    (path / "run" / "result.json").write_text(json.dumps({"verdict": "PASS"}))
    (path / "campaign.json").write_text(json.dumps({"exit_code": code}))


def test_a_campaign_counts_as_one_run_and_has_passed_if_all_of_it_did(runs):
    for second, code in enumerate([0, 1, 3, 0, 0]):
        a_campaign(runs, second, code)
    a_run(runs, 5, "PASS")
    tidy(keep=2, keep_days=30)
    assert left(runs) == [1, 2, 4, 5]
