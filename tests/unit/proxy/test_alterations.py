"""Alterations are values, and nonsense is refused."""

from dataclasses import replace

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")

from rmqbench.errors import UsageError
from rmqbench.proxy import (
    cut,
    cut_inside,
    delay,
    drop,
    flip,
    forge,
    misroute,
    swap,
)
from rmqbench.proxy.alterations import AlterationPlan


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: drop("delivery", 0), "no delivery 0"),
        (lambda: drop("letter", 1), "'letter' is not something that can be altered"),
        (lambda: drop(["delivery"], 1), "is not something that can be altered"),
        (lambda: delay("publish", 1, -0.1), "is not possible"),
        (lambda: delay("publish", 1, float("nan")), "is not possible"),
        (lambda: flip("delivery", 1), "There is no byte"),
        (lambda: flip("delivery", 1, byte=-1), "There is no byte"),
        (lambda: flip("delivery", 1, byte=0, mask=0), "changes no byte"),
        (lambda: flip("delivery", 1, byte=0, mask=256), "changes no byte"),
        (lambda: flip("delivery", 1, byte=0, part="method"), "no part 'method'"),
        (lambda: flip("confirm", 1, byte=0), "A confirm has no body"),
        (lambda: forge("confirm", 1, b""), "A confirm cannot be followed"),
        (lambda: forge("publish", 1, b"", pika.BasicProperties(type=7)), "cannot be encoded"),
        (lambda: misroute("publish", 1), "the exchange and routing key that it has"),
        (lambda: misroute("confirm", 1, "e"), "A confirm has no exchange"),
        (lambda: misroute("publish", 1, "é" * 128), "too long"),
        (lambda: cut("sideways", 1), "no direction 'sideways'"),
        (lambda: cut("to_client", -1), "has a byte -1"),
        (lambda: cut_inside("publish", -1), "no publish -1"),
        (lambda: AlterationPlan(["drop"]), "'drop' is not an alteration"),
        (
            lambda: AlterationPlan([drop("publish", 1), flip("publish", 1, byte=0)]),
            "dropped and also altered",
        ),
        (lambda: AlterationPlan([swap("publish", 1), swap("publish", 2)]), "change places twice"),
        (lambda: AlterationPlan([swap("publish", 1), swap("publish", 1)]), "change places twice"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(make, said):
    with pytest.raises(UsageError, match=said) as caught:
        make()
    assert caught.value.remedy


def test_alterations_are_values():
    assert drop("delivery", 3) == drop("delivery", 3)
    assert replace(drop("delivery", 3), nth=4) == drop("delivery", 4)
    forged = {forge("publish", 1, b"x", pika.BasicProperties(type="t")) for _ in range(2)}
    assert len(forged) == 1
