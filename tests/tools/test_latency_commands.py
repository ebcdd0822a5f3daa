"""``rmqbench run latency`` and ``capacity``, as a person types them."""

import json

import pytest
from support.tools import rmqbench


def test_latency_is_shown_for_each_queue_and_kept_limits_pass(vhost, tmp_path):
    ended = rmqbench(
        *("run", "latency", "--url", vhost.url(), "--rate", "100:300@1s", "--p99-ms", "60000"),
        *("--limit", "confirm.p50_ms <= 60000", "--json", str(tmp_path / "out.json")),
        *("--directory", str(tmp_path / "run")),
    )
    assert ended.returncode == 0, ended.stderr
    for what in ("confirm", "deliver work.queue", "acknowledge audit.queue", "send (its own lag)"):
        assert f"\ndue to {what}" in ended.stdout
    assert ended.stdout.count(": p50 ") == 6
    assert "delivery.p99_ms <= 60000 of audit.queue" in ended.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["outcome"], result["messages"]) == ("PASS", 200)
    assert [each["outcome"] for each in result["limits"]] == ["PASS"] * 3
    assert result["publish"]["lag"]["count"] == 200


def test_a_limit_that_is_exceeded_fails_a_run_that_lost_nothing(vhost, tmp_path):
    run = str(tmp_path / "run")
    ended = rmqbench(
        *("run", "latency", "--url", vhost.url(), "--rate", "200", "--duration", "1s"),
        *("--limit", "confirm.p50_ms <= 0.001", "--directory", run),
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.startswith("FAIL latency, ")
    assert "confirm.p50_ms <= 0.001: " in ended.stdout
    assert "exceeded" in ended.stdout
    again = rmqbench("judge", run)
    assert again.returncode == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("latency", "--rate", "fast"), "'fast' cannot be kept"),
        (("latency", "--rate", "5@3s", "--duration", "9s"), "its parts last 3 s"),
        (("latency", "--limit", "p99 < 5"), "'p99 < 5' is no limit on a latency"),
        (("capacity",), "Give the limit that is to be kept"),
        (("capacity", "--p99-ms", "20", "--rate", "0/s"), "a rate or a time is not more than 0"),
        (("reliability", "--rate", "1000,2000"), "nothing says how long its parts last"),
    ],
)
def test_what_makes_no_load_is_told_before_anything_is_begun(options, said):
    ended = rmqbench("run", *options, "--broker", "local")
    assert ended.returncode == 2, ended.stderr
    assert said in " ".join(ended.stderr.replace("│", " ").split())
    assert "Starting" not in ended.stderr


@pytest.mark.slow
def test_a_search_that_finds_nothing_says_so(vhost, tmp_path):
    place = tmp_path / "capacity"
    ended = rmqbench(
        *("run", "capacity", "--url", vhost.url(), "--rate", "4", "--trial", "1s"),
        *("--limit", "confirm.p50_ms <= 0.001", "--searches", "1", "--directory", str(place)),
    )
    assert ended.returncode == 3, ended.stderr
    assert "No rate was found that keeps confirm.p50_ms <= 0.001" in ended.stdout
    assert "search 1, 4/s: not kept" in ended.stderr
    written = json.loads((place / "capacity.json").read_text())
    assert [each["rate_per_s"] for each in written["trials"]] == [4, 2, 1]
    for each in written["trials"]:
        assert (place / each["directory"] / "result.json").exists()


@pytest.mark.slow
def test_the_capacity_of_a_real_broker_is_found(vhost, tmp_path):
    ended = rmqbench(
        *("run", "capacity", "--url", vhost.url(), "--rate", "8000", "--trial", "2s"),
        *("--p99-ms", "200", "--searches", "2", "--precision", "0.5", "--json", "-"),
        *("--directory", str(tmp_path / "capacity")),
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found["rates_per_s"]) == 2
    assert found["least_per_s"] <= found["rate_per_s"] <= found["most_per_s"]
    assert found["rate_per_s"] > 500, "a machine of two cores does far more"
    assert {each["verdict"] for each in found["trials"]} == {"PASS"}
