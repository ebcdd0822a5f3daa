"""A campaign is read, checked as a whole, and put into order."""

import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rmqbench
from rmqbench.campaign.plan import SCENARIOS, Campaign
from rmqbench.campaign.tables import accepted_types
from rmqbench.cli.run import DEFAULTS
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS

RUN = {"scenario": "reliability", "broker": "local"}


def campaign(text, **environment):
    return Campaign.of(tomllib.loads(text), name="n", file="n.toml", environment=environment)


def test_a_campaign_knows_the_scenarios_of_the_command_line():
    assert set(SCENARIOS) == set(DEFAULTS)


def test_settings_become_the_scenario_that_python_makes_of_them():
    (planned,) = campaign(
        """
        scenario = "online"
        broker = "rabbitmq:4-management"
        size = 200
        queue-kind = "quorum"
        allowed = ["removed"]
        queue_arguments = {x-max-length = 5}
        in_place = true
        executor = "tcp://scheduler:8786"
        """
    ).runs
    assert planned.scenario == rmqbench.online(
        size_bytes=200,
        queue_kind="quorum",
        allowed=("removed",),
        queue_arguments={"x-max-length": 5},
    )
    assert planned.in_place
    assert planned.executor == "tcp://scheduler:8786"
    assert planned.broker.image == "rabbitmq:4-management"


def test_rates_and_durations_may_be_written_as_on_the_command_line():
    (planned,) = campaign(
        """
        scenario = "reliability"
        broker = "local"
        churn = "50/s"
        publish_rate = "1000/s"
        consume_rate = "1500"
        duration_s = "1m30s"
        rest_s = "2s"
        stall_s = "1m"
        """
    ).runs
    assert planned.scenario == rmqbench.reliability(
        churn=50.0, publish_rate="1000/s", consume_rate=1500.0, duration_s=90, rest_s=2, stall_s=60
    )
    runs = campaign('scenario = "online"\nbroker = "local"\nchurn = ["5/s", 10]').runs
    assert [(each.title, each.scenario.churn) for each in runs] == [
        ("online, churn 5/s", 5.0),
        ("online, churn 10", 10),
    ]


def test_a_fault_becomes_the_scenario_that_python_makes_of_it():
    text = 'scenario = "faults"\nbroker = "local"\n'
    assert campaign(text).runs[0].scenario == rmqbench.faulty()
    text += 'fault = "purge-queue"\nduring = "drain"\nmessages = 500\n'
    assert campaign(text).runs[0].scenario == rmqbench.faulty("purge-queue", "drain", messages=500)


def test_runs_on_one_broker_are_together_and_repeats_apart():
    runs = campaign(
        """
        repeats = 2
        scenario = "reliability"
        queue_kind = ["classic", "quorum"]
        broker = ["local", "container"]
        """
    ).runs
    assert [(each.broker.name, each.repeat, each.settings["queue_kind"]) for each in runs] == [
        (broker, repeat, kind)
        for broker in ("local", "container")
        for repeat in (1, 2)
        for kind in ("classic", "quorum")
    ]


def test_a_title_has_what_tells_a_run_from_the_others():
    runs = campaign(
        """
        broker = "local"
        messages = 100
        [[run]]
        scenario = "reliability"
        size = [100, 200]
        persistent = [true, false]
        [[run]]
        scenario = "faults"
        fault = "kill-consumer"
        publish_again = true
        """
    ).runs
    assert [each.title for each in runs] == [
        "reliability, size 100, persistent yes",
        "reliability, size 100, persistent no",
        "reliability, size 200, persistent yes",
        "reliability, size 200, persistent no",
        "faults, kill-consumer",
    ]
    assert runs[0].name == runs[0].title
    (*_, last) = campaign('broker = "local"\nscenario = "online"\nrepeats = 2').runs
    assert last.name == "online #2"


def test_a_run_has_the_same_directory_whatever_else_the_campaign_holds():
    one = campaign('broker = "local"\nscenario = "online"').runs
    several = campaign('scenario = ["online", "stress"]\nbroker = ["local", "auto"]').runs
    names = [each.directory_name for each in several]
    assert len(set(names)) == 4
    assert one[0].directory_name == names[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('scenario = "online"', r"n\.toml, \[\[run\]\] 1 .*: There is no broker\..*local"),
        ('broker = "local"', r"There is no scenario\..*reliability"),
        ('broker = "local"\nscenario = "relability"', r"Did you mean reliability\?"),
        ('broker = "local"\nscenario = "stress"\nwindow = 0', r"window = 0\): window is 0"),
        ('broker = "local"\nscenario = "stress"\nchurn = "50/m"', r"churn = '50/m'.* such as 50/s"),
        ('broker = "local"\nscenario = "stress"\nduration_s = "soon"', "such as 90s or 8h"),
        ('broker = "local"\nscenario = "stress"\nqueue_kind = "stream"', "classic, lazy, quorum"),
        ('broker = "local"\nscenario = "stress"\nfault = "latency"', "fault is of the scenario"),
        ('broker = "local"\nscenario = "stress"\nduring = "drain"', "during is of the scenario"),
        ('broker = "local"\nscenario = "faults"\nfault = "kill"', "There is no fault 'kill'"),
        (
            'broker = "local"\nscenario = "faults"\nfault = "kill-consumer"\nduring = "publish"',
            "kill-consumer is not for the phase",
        ),
        ('broker = "amqp://h"\nscenario = "faults"', "Faults strike no broker that is there"),
        ('broker = "local"\nscenario = "online"\nin_place = true\nauto_ack = true', "in place"),
        ('broker = "amqp://a:b@h"\nscenario = "online"', "has a password in it"),
        (
            'broker = "local"\nscenario = "online"\nexecutor = "scheduler:8786"',
            "'scheduler:8786' is not the address of a Dask scheduler",
        ),
        (
            'broker = "local"\nscenario = "faults"\nfault = "kill-consumer"\nexecutor = "tcp://h:1"',
            "kill-consumer acts on processes or connections of this host",
        ),
        (
            'broker = "local"\nscenario = "soak"\nexecutor = "tcp://h:1"',
            "With lets_go the evidence is judged where it is recorded",
        ),
    ],
)
def test_what_makes_no_run_is_refused_before_any_begins(text, said):
    with pytest.raises(UsageError, match=said):
        campaign(text)


def test_a_later_run_is_checked_as_the_first_is():
    with pytest.raises(UsageError, match=r"\[\[run\]\] 2 .*prefetch is 0"):
        campaign('broker = "local"\nscenario = "online"\n[[run]]\n[[run]]\nprefetch = 0')


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"a = 1\nscenario = ?", "is no TOML: .*line 2"),
        (b"text = '\xff'", "is no TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, written, said):
    path = tmp_path / "n.toml"
    if written is not None:
        path.write_bytes(written)
    with pytest.raises(UsageError, match=said):
        Campaign.read(path)


def test_a_file_is_read_with_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "nightly.toml"
    path.write_text('scenario = "online"\nbroker = "amqp://ann:${OUR_PASSWORD}@h"')
    monkeypatch.setenv("OUR_PASSWORD", "hidden")
    read = Campaign.read(path)
    assert read.name == "nightly"
    assert read.runs[0].broker.spec == "amqp://ann:hidden@h"
    assert "hidden" not in repr(read)


WORDS = st.sampled_from(["local", "online", "faults", "quorum", "drain", "amqp://h", "x", *FAULTS])
VALUE = WORDS | st.integers(-2, 3) | st.floats() | st.booleans() | st.lists(WORDS, max_size=2)
VALUE |= st.dictionaries(WORDS, st.integers(), max_size=1) | st.lists(st.integers(), max_size=2)
TABLE = st.dictionaries(st.sampled_from([*accepted_types(), "run", "other"]), VALUE, max_size=4)


@given(TABLE, st.lists(TABLE, max_size=2), st.lists(TABLE, max_size=1))
def test_any_table_is_a_campaign_or_wrong_usage(top, runs, excludes):
    tables = {**RUN, **top, "run": runs or [{}], "exclude": excludes}
    with suppress(UsageError):
        read = Campaign.of(tables, name="n", environment={})
        assert len({each.directory_name for each in read.runs}) == len(read.runs) > 0
