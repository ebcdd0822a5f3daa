"""A campaign's directory: what came of its runs is there as soon as it is known, and goes on."""

import json

import pytest
from support.campaigns import LOST, a_campaign, a_result

from rmqbench.campaign.directory import CampaignDirectory
from rmqbench.campaign.result import RunOutcome, RunState
from rmqbench.errors import BrokerUnavailable, UsageError
from rmqbench.run_directory.keeping import CAMPAIGN_FILE, runs_directory


def opened(path, campaign, *, resume=False):
    return CampaignDirectory.opened(path, campaign, resume=resume)


def states(path):
    written = json.loads((path / CAMPAIGN_FILE).read_text())
    return [each["state"] for each in written["runs"]]


def test_what_came_of_a_run_is_written_at_once_and_read_again(tmp_path):
    campaign = a_campaign(repeats=2)
    with opened(tmp_path, campaign) as place:
        assert states(tmp_path) == ["NOT RUN", "NOT RUN"]
        judged = RunOutcome.judged(campaign.runs[0], a_result(LOST), "now", 1.5)
        place.note(judged)
        assert states(tmp_path) == ["FAIL", "NOT RUN"]
    with opened(tmp_path, campaign, resume=True) as place:
        assert place.outcome(campaign.runs[0]) == judged
        assert place.outcome(campaign.runs[1]).state is RunState.NOT_RUN
    assert not list(tmp_path.glob("*.part"))


def test_what_came_to_no_verdict_is_to_be_run_when_it_goes_on(tmp_path):
    campaign = a_campaign(repeats=2)
    with opened(tmp_path, campaign) as place:
        first, second = campaign.runs
        place.note(RunOutcome.failed(first, BrokerUnavailable("There is none."), "now", 1.0))
        place.note(RunOutcome.of(second, state=RunState.INTERRUPTED))
    with opened(tmp_path, campaign, resume=True):
        assert states(tmp_path) == ["NOT RUN", "NOT RUN"]


def test_a_run_of_a_changed_file_keeps_what_came_of_it_under_its_new_name(tmp_path):
    before = a_campaign()
    with opened(tmp_path, before) as place:
        place.note(RunOutcome.judged(before.runs[0], a_result(), "now", 1.5))
    after = a_campaign(run=[{}, {"queue_kind": "quorum"}])
    with opened(tmp_path, after, resume=True) as place:
        old, new = place.result().runs
    assert (old.state, old.name) == (RunState.PASS, "reliability")
    assert (new.state, new.name) == (RunState.NOT_RUN, "reliability, quorum")
    other = a_campaign(messages=5)
    with opened(tmp_path, other, resume=True) as place:
        assert [each.state for each in place.result().runs] == [RunState.NOT_RUN]


def test_a_campaign_that_is_there_is_gone_on_with_only_if_that_is_wanted(tmp_path):
    with opened(tmp_path, a_campaign()):
        pass
    refused = pytest.raises(UsageError, match=r"holds a campaign\. .*--resume")
    with refused, opened(tmp_path, a_campaign()):
        pass


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_with_something_else_in_it_is_refused(tmp_path, resume):
    (tmp_path / "mine").touch()
    with (
        pytest.raises(UsageError, match="is not empty"),
        opened(tmp_path, a_campaign(), resume=resume),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match="cannot be made"),
        opened(tmp_path / "file" / "x", a_campaign()),
    ):
        pass


def test_to_go_on_needs_a_directory_and_may_begin(tmp_path):
    with (
        pytest.raises(UsageError, match="Name its directory"),
        opened(None, a_campaign(), resume=True),
    ):
        pass
    with opened(tmp_path / "new", a_campaign(), resume=True):
        assert states(tmp_path / "new") == ["NOT RUN"]


def test_without_a_directory_it_lies_among_the_runs():
    with opened(None, a_campaign()) as place:
        assert place.path.parent == runs_directory()
        assert place.path.name.endswith("-campaign-nightly")


def test_two_processes_do_not_work_in_one_directory(tmp_path):
    refused = pytest.raises(UsageError, match="Another process runs the campaign")
    with opened(tmp_path, a_campaign()), refused, opened(tmp_path, a_campaign(), resume=True):
        pass
    with opened(tmp_path, a_campaign(), resume=True):
        pass


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1, "runs": ["PASS"]}', "cannot be read"),
        ('{"format": 1, "runs": [{"state": "PASS"}]}', "cannot be read"),
        ('{"format": 1, "runs": [{"state": "GOOD"}]}', "cannot be read"),
        ('{"format": 2, "runs": []}', "is in format 2"),
    ],
)
def test_what_is_no_state_of_a_campaign_is_refused_and_stays(tmp_path, written, said):
    (tmp_path / CAMPAIGN_FILE).write_text(written)
    with pytest.raises(UsageError, match=said), opened(tmp_path, a_campaign(), resume=True):
        pass
    assert (tmp_path / CAMPAIGN_FILE).read_text() == written


def test_what_an_earlier_attempt_left_is_kept(tmp_path):
    campaign = a_campaign()
    (planned,) = campaign.runs
    with opened(tmp_path, campaign) as place:
        for number in range(3):
            path = place.room_for(planned)
            assert not path.exists()
            path.mkdir()
            (path / "evidence").write_text(str(number))
    kept = {each.parent.name: each.read_text() for each in tmp_path.glob("*/evidence")}
    name = planned.directory_name
    assert kept == {f"{name}.earlier-1": "0", f"{name}.earlier-2": "1", name: "2"}
