"""A check can be switched off only where its text stands: the deep suite then does that."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from support.mutations.against_a_broker import AGAINST_A_BROKER
from support.mutations.drained import DRAINED
from support.mutations.judged import JUDGED
from support.mutations.let_go import LET_GO
from support.mutations.of_histories import RULES
from support.mutations.recognized import RECOGNIZED
from support.mutations.recorded import READ, RECORDED
from support.mutations.taken import TAKEN

ALL = (
    *(*AGAINST_A_BROKER, *DRAINED, *JUDGED, *LET_GO, *READ, *RECOGNIZED, *RECORDED),
    *(*TAKEN, *RULES),
)


@pytest.mark.parametrize("mutation", ALL, ids=lambda each: f"{each.module}: {each.name}")
def test_the_text_of_a_check_stands_once(mutation):
    source = Path(find_spec(mutation.module).origin).read_text(encoding="utf-8")
    assert source.count(mutation.original) == 1
    assert mutation.mutated != mutation.original
