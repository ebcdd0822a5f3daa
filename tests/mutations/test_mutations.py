"""The checks on which the verdict's honesty rests, each switched off in turn: a test must fail.

A check that can be switched off unnoticed is one that nobody would miss if it broke. Each mutation
is made in a copy of the package, on which the one test runs that is to notice it; the same tests
pass on an unchanged copy.
"""

from dataclasses import replace

import pytest
from support.mutations.against_a_broker import AGAINST_A_BROKER
from support.mutations.change import Mutation
from support.mutations.drained import DRAINED
from support.mutations.judged import JUDGED, rules
from support.mutations.let_go import LET_GO
from support.mutations.recognized import RECOGNIZED
from support.mutations.recorded import READ, RECORDED
from support.mutations.taken import TAKEN

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
pytestmark = pytest.mark.mutation

WITHOUT_A_BROKER = [*JUDGED, *READ, *RECORDED, *RECOGNIZED, *TAKEN, *DRAINED, *LET_GO]


def unchanged(mutations: list[Mutation]) -> Mutation:
    """Switch nothing off, and run all tests that are to notice something."""
    tests = tuple(dict.fromkeys(test for each in mutations for test in each.tests))
    return Mutation("rmqbench.verdict.rules", "nothing", "", "", tests)


def name_of(change: Mutation) -> str:
    """Name a mutation by its module and the check that is off in it."""
    return f"{change.module.removeprefix('rmqbench.')}: {change.name}"


def require_noticed(ended, change):
    """One test failed, and no more is wrong than that."""
    print(ended.output)
    if ended.code == 0:
        pytest.fail(f"no test notices that this check is off: {name_of(change)}", pytrace=False)
    assert ended.failed == 1, f"it ended with {ended.code}, which is no failed test"


@pytest.mark.parametrize("change", WITHOUT_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed(copy, change):
    require_noticed(copy.run(change), change)


@pytest.mark.parametrize("change", AGAINST_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed_against_a_broker(copy, broker_environment, change):
    require_noticed(copy.run(change, broker_environment), change)


def test_where_nothing_is_off_nothing_is_noticed(copy):
    ended = copy.run(unchanged(WITHOUT_A_BROKER))
    assert ended.code == 0, ended.output


def test_where_nothing_is_off_nothing_is_noticed_against_a_broker(copy, broker_environment):
    ended = copy.run(unchanged(AGAINST_A_BROKER), broker_environment)
    assert ended.code == 0, ended.output


NO_IMPORT = rules(
    "none", "import numpy as np\n", "import nowhere\n", "test_missing_evidence_is_inconclusive"
)
NO_TEST = rules("none", "", "", "test_that_is_not_there")


@pytest.mark.parametrize("change", [NO_IMPORT, NO_TEST], ids=["import", "test"])
def test_what_could_not_run_has_noticed_nothing(copy, change):
    ended = copy.run(change)
    assert ended.code != 0
    assert ended.failed == 0


def test_nothing_but_the_copy_is_run(copy):
    ended = copy.run(unchanged([NO_IMPORT]), {"CHANGED_MODULE": "json"})
    assert "json was imported from" in ended.output
    assert ended.code != 0


@pytest.mark.parametrize("original", ["no such source", "import"])
def test_a_mutation_of_what_is_not_there_once_no_longer_applies(copy, original):
    with pytest.raises(pytest.fail.Exception, match="no longer applies: update it"):
        copy.run(replace(NO_IMPORT, original=original))
