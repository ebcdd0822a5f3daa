"""The tables of a campaign's file: multiplied out as promised, and refused by name."""

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.campaign.tables import OWN_KEYS, accepted_types, combinations
from rmqbench.errors import UsageError
from rmqbench.scenarios import reliability

RUN = {"scenario": "reliability", "broker": "local"}


def settings(tables):
    return [dict(each.settings) for each in combinations(tables, "n.toml")]


def test_a_list_makes_a_run_for_each_of_its_values():
    found = settings({**RUN, "queue_kind": ["classic", "quorum"], "size": [100, 200]})
    assert [(each["queue_kind"], each["size"]) for each in found] == [
        ("classic", 100),
        ("classic", 200),
        ("quorum", 100),
        ("quorum", 200),
    ]


def test_a_run_says_more_than_the_top_and_wins_over_it():
    tables = {**RUN, "messages": 5, "run": [{"messages": 6}, {"window": 7}]}
    assert settings(tables) == [{**RUN, "messages": 6}, {**RUN, "messages": 5, "window": 7}]


def test_a_key_may_be_written_as_the_option_is():
    assert settings({**RUN, "queue-kind": "quorum"}) == [{**RUN, "queue_kind": "quorum"}]


def test_a_list_of_findings_is_one_value_and_a_list_of_lists_several():
    assert settings({**RUN, "allowed": ["removed", "lost"]}) == [
        {**RUN, "allowed": ["removed", "lost"]}
    ]
    found = settings({**RUN, "allowed": [["removed"], []]})
    assert [each["allowed"] for each in found] == [["removed"], []]


def test_what_is_excluded_is_left_out_and_nothing_else():
    tables = {
        **RUN,
        "queue_kind": ["classic", "quorum"],
        "size": [100, 200, 300],
        "exclude": [{"queue_kind": "quorum", "size": [100, 300]}],
    }
    assert [(each["queue_kind"], each["size"]) for each in settings(tables)] == [
        ("classic", 100),
        ("classic", 200),
        ("classic", 300),
        ("quorum", 200),
    ]


def test_repeats_are_counted_and_no_setting():
    (found,) = combinations({**RUN, "repeats": 3}, "n.toml")
    assert (found.repeats, found.settings) == (3, RUN)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"qeue_kind": "quorum"}, r"n\.toml, at the top: there is no key 'qeue_kind'\. Did you"),
        ({"qeue_kind": "quorum"}, r"Did you mean queue_kind\?"),
        ({"run": [{}, {"speed": 1}]}, r"n\.toml, \[\[run\]\] 2: there is no key 'speed'"),
        ({"exclude": [{"speed": 1}]}, r"n\.toml, \[\[exclude\]\] 1: there is no key 'speed'"),
        ({"messages": "many"}, r"at the top, messages: it is 'many'\. Give a whole number"),
        ({"messages": True}, "messages: it is True"),
        ({"messages": 1.5}, r"messages: it is 1\.5"),
        ({"messages": [1, "2"]}, "messages: it is '2'"),
        ({"messages": []}, "the list is empty"),
        ({"messages": [1, 1]}, "1 is in the list twice"),
        ({"publish_rate": math.nan}, "publish_rate: it is nan"),
        ({"duration_s": math.inf}, "duration_s: it is inf"),
        ({"text": date(2026, 1, 1)}, "Give a text"),
        ({"allowed": "lost"}, "Give a list of texts"),
        ({"allowed": [1]}, "Give a list of texts"),
        ({"queue_arguments": {"x": [1]}}, "Give a table of texts and numbers"),
        ({"in_place": 1}, "Give true or false"),
        ({"queue_kind": "quorum", "queue-kind": "classic"}, "queue-kind is said twice"),
        ({"repeats": [1, 2]}, "repeats: it is a list"),
        ({"repeats": 0}, "repeats: it is 0"),
        ({"repeats": 10_001}, "more than 10,000 runs"),
        ({"size": [*range(101)], "window": [*range(101)]}, "more than 10,000 runs"),
        ({"run": {"messages": 1}}, r"Write \[\[run\]\] above each"),
        ({"exclude": [1]}, r"Write \[\[exclude\]\] above each"),
        ({"exclude": [{}]}, "does not say what a run is like"),
        ({"exclude": [{"repeats": 1}]}, "does not say what a run is like"),
        ({"exclude": [{"queue_kind": "quorom"}]}, r"\[\[exclude\]\] 1: no run is like that"),
        ({"exclude": [{"scenario": "reliability"}]}, "every run is excluded"),
        ({"run": [{}, {}]}, r"\[\[run\]\] 2 \(.*\): it is the same run as one of .*run\]\] 1"),
        ({"run": []}, "there is no run"),
    ],
)
def test_what_is_wrong_is_named_with_file_table_and_key(tables, said):
    with pytest.raises(UsageError, match=said) as caught:
        combinations({**RUN, **tables}, "n.toml")
    assert "n.toml" in caught.value.what
    assert caught.value.remedy


def test_a_file_that_is_empty_says_so_and_what_to_write():
    with pytest.raises(UsageError, match=r"^n\.toml is empty\. Write .*scenario = ") as caught:
        combinations({}, "n.toml")
    assert "[[run]]" not in str(caught.value)


def test_all_that_a_scenario_takes_is_a_key():
    taken = set(accepted_types()) - set(OWN_KEYS) - {"size"}
    plain = {name for name, kinds in accepted_types().items() if kinds}
    assert plain == set(accepted_types()), "a type that no value of TOML has"
    values = {"name": "any", "queue_arguments": {"x-max-length": 5}, "consume_rate": 10.0}
    assert set(values) < taken
    assert reliability(**values).queues[0].arguments == {"x-max-length": 5}


@given(
    st.dictionaries(
        st.sampled_from(["size", "messages", "window", "prefetch"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    )
)
def test_each_combination_is_there_once(axes):
    found = settings({**RUN, **axes})
    assert len(found) == math.prod(map(len, axes.values()))
    assert len({tuple(sorted(each.items())) for each in found}) == len(found)
    for each in found:
        assert all(each[key] in values for key, values in axes.items())
