"""``rmqbench run FILE.toml`` as a person or a nightly job runs it."""

import json
import re
import signal
from pathlib import Path

import psutil
import pytest
from support.tools import rmqbench, start_rmqbench, wait_until

PAGE = Path(__file__).parents[2] / ".github" / "docs" / "campaigns.md"


@pytest.fixture
def campaign(tmp_path, vhost, monkeypatch):
    """Write a campaign whose broker is the session's, and whose password is in the environment."""
    url = vhost.url().replace(f":{vhost.password}@", ":${OUR_PASSWORD}@")
    assert "${OUR_PASSWORD}" in url
    monkeypatch.setenv("OUR_PASSWORD", vhost.password)

    def write(text):
        path = tmp_path / "nightly.toml"
        top = f'broker = "{url}"\nmanagement_url = "{vhost.management_url}"\n'
        path.write_text(top + text)
        return str(path)

    return write


def states(directory):
    written = json.loads((directory / "campaign.json").read_text())
    return [run["state"] for run in written["runs"]]


@pytest.mark.slow
def test_a_campaign_keeps_the_evidence_of_each_run_and_no_password(campaign, tmp_path, vhost):
    file = campaign('scenario = ["reliability", "online"]\nmessages = 500\nrepeats = 2\n')
    camp = tmp_path / "camp"
    ended = rmqbench("run", file, "--directory", str(camp), "--json", str(tmp_path / "out.json"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("PASS nightly, 4 runs: 4 PASS\n")
    assert len(re.findall(r"^RabbitMQ .* at ", ended.stderr, re.MULTILINE)) == 1, "opened once"
    written = json.loads((tmp_path / "out.json").read_text())
    assert [run["repeat"] for run in written["runs"]] == [1, 1, 2, 2]
    for run in written["runs"]:
        result = json.loads((camp / run["directory"] / "result.json").read_text())
        assert result["verdict"] == run["state"] == "PASS"
        assert result["publish"]["rate_per_s"] == run["publish_rate_per_s"] > 0
        assert result["confirmed"] == run["confirmed"] == 500
    for alike in written["alike"]:
        assert alike["publish_rate_per_s"]["least"] > 0
        assert alike["passed"] == 2
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    texts += [ended.stdout.encode(), ended.stderr.encode()]
    assert not any(vhost.password.encode() in text for text in texts)


@pytest.mark.slow
def test_what_a_limit_drops_fails_the_campaign_and_the_others_are_run(campaign, tmp_path):
    file = campaign(
        """
        scenario = "reliability"
        messages = 500
        [[run]]
        queue_arguments = {x-max-length = 100}
        [[run]]
        """
    )
    ended = rmqbench("run", file, "--directory", str(tmp_path / "camp"))
    assert ended.returncode == 1, ended.stderr
    assert states(tmp_path / "camp") == ["FAIL", "PASS"]
    assert "400 removed in work.queue" in ended.stdout


def test_ctrl_c_keeps_what_is_done_and_the_same_campaign_goes_on(
    campaign, tmp_path, rmqbench_broker
):
    file = campaign(
        """
        scenario = "online"
        [[run]]
        messages = 300
        [[run]]
        duration_s = 4
        publish_rate = 1000
        [[run]]
        messages = 200
        """
    )
    camp = tmp_path / "camp"
    process = start_rmqbench("run", file, "--directory", str(camp))
    try:
        wait_until((camp / "campaign.json").exists, "the campaign")
        second = json.loads((camp / "campaign.json").read_text())["runs"][1]["directory"]
        journal = camp / second / "producer-0" / "journal.jsonl"
        wait_until(
            lambda: journal.exists() and '"started"' in journal.read_text(), "the publishing"
        )
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 130
    assert states(camp) == ["PASS", "INTERRUPTED", "NOT RUN"]
    assert out.startswith("INCONCLUSIVE nightly, 3 runs: 1 PASS, 1 INTERRUPTED, 1 NOT RUN\n")
    assert "rmqbench: interrupted: ending the run under way." in errors
    assert "Traceback" not in errors
    assert family, "no worker is there"
    assert psutil.wait_procs(family, timeout=10)[1] == []
    with rmqbench_broker.management as management:
        names = {exchange["vhost"] for exchange in management.exchanges()}
    assert not any(re.fullmatch(r"rmqbench-[0-9a-f]{12}", name) for name in names)

    before = (camp / "campaign.json").read_bytes()
    refused = rmqbench("run", file, "--directory", str(camp))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (camp / "campaign.json").read_bytes() == before

    again = rmqbench("run", file, "--directory", str(camp), "--resume")
    assert again.returncode == 0, again.stderr
    assert states(camp) == ["PASS"] * 3
    assert "1 of 3 runs came to a verdict before." in again.stderr
    ended = re.findall(r"^PASS (.*?):", again.stderr, re.MULTILINE)
    assert len(ended) == 2, "what had passed was run again"
    assert (camp / f"{second}.earlier-1" / "run.json").exists()
    judged = rmqbench("judge", str(camp / f"{second}.earlier-1"))
    assert "The run was interrupted." in judged.stdout


@pytest.mark.slow
def test_a_killed_campaign_goes_on_where_it_was(campaign, tmp_path):
    file = campaign(
        """
        scenario = "online"
        [[run]]
        messages = 300
        [[run]]
        duration_s = 3
        publish_rate = 500
        """
    )
    camp = tmp_path / "camp"
    process = start_rmqbench("run", file, "--directory", str(camp))
    try:
        wait_until(
            lambda: len(list(camp.glob("*/producer-0/journal.jsonl"))) == 2, "the second run"
        )
    finally:
        process.kill()
        process.communicate(timeout=10)
    assert states(camp) == ["PASS", "NOT RUN"]
    again = rmqbench("run", file, "--directory", str(camp), "--resume")
    assert again.returncode == 0, again.stderr
    assert states(camp) == ["PASS", "PASS"]
    assert len(list(camp.glob("*.earlier-1"))) == 1


def test_a_broker_that_is_not_there_is_an_error_of_its_runs_alone(campaign, tmp_path):
    file = campaign(
        """
        scenario = "reliability"
        messages = 200
        [[run]]
        broker = "amqp://ann@127.0.0.1:1"
        [[run]]
        """
    )
    ended = rmqbench("run", file, "--directory", str(tmp_path / "camp"))
    assert ended.returncode == 4
    assert states(tmp_path / "camp") == ["ERROR", "PASS"]
    assert "Traceback" not in ended.stderr
    assert "127.0.0.1:1" in ended.stdout


def test_a_wrong_password_is_not_shown(campaign, tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_PASSWORD", "not-the-password")
    file = campaign('scenario = "reliability"\nmessages = 200\n')
    ended = rmqbench("run", file, "--directory", str(tmp_path / "camp"))
    assert ended.returncode == 4
    kept = (tmp_path / "camp" / "campaign.json").read_text()
    assert "not-the-password" not in ended.stdout + ended.stderr + kept


def test_bad_input_is_one_paragraph(campaign, tmp_path):
    file = campaign('scenario = "reliability"\nmessages = "many"\n')
    ended = rmqbench("run", file, "--directory", str(tmp_path / "camp"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"Error: {file}, at the top, messages: it is 'many'. Give a whole number.\n"
    )
    assert not (tmp_path / "camp").exists()


@pytest.mark.slow
def test_the_example_of_the_page_passes_as_it_stands(tmp_path, rmqbench_broker):
    if rmqbench_broker.kind != "local":
        pytest.skip("the example starts a local node")
    (example, *_) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "nightly.toml").write_text(example)
    camp = tmp_path / "camp"
    ended = rmqbench("run", str(tmp_path / "nightly.toml"), "--directory", str(camp), timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert states(camp) == ["PASS"] * 9
    assert len(re.findall(r"^RabbitMQ .* at ", ended.stderr, re.MULTILINE)) == 1


@pytest.mark.slow
def test_a_broker_that_a_fault_ends_is_there_for_the_runs_behind_it(tmp_path, rmqbench_broker):
    if rmqbench_broker.kind != "local":
        pytest.skip("the campaign starts a local node")
    file = tmp_path / "nightly.toml"
    file.write_text(
        """
        broker = "local"
        messages = 2000
        [[run]]
        scenario = "faults"
        fault = ["kill-broker", "restart-broker", "disk-alarm"]
        during = "publish"
        [[run]]
        scenario = "reliability"
        """
    )
    ended = rmqbench("run", str(file), "--directory", str(tmp_path / "camp"), timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert states(tmp_path / "camp") == ["PASS"] * 4
