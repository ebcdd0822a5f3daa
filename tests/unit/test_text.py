"""Numbers agree with their nouns; what others wrote is neither obeyed nor taken for ours."""

from __future__ import annotations

import pytest

from rmqbench.text import counted, grouped, is_utf8, visible, visible_line


@pytest.mark.parametrize(("n", "words"), [(0, "0 queues"), (1, "1 queue"), (2000, "2000 queues")])
def test_a_noun_agrees_with_its_number(n: int, words: str) -> None:
    assert counted(n, "queue") == words


def test_a_plural_may_be_named_and_thousands_set_apart() -> None:
    assert counted(1, "copy is", "copies are", form=",") == "1 copy is"
    assert counted(2000, "copy is", "copies are", form=",") == "2,000 copies are"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([4], "consumer 4 of q"),
        ([1, 0], "consumers 0 and 1 of q"),
        ([9, 10, 11], "consumers 9 to 11 of q"),
        ([*range(20)], "consumers 0 to 19 of q"),
        ([0, 1, 2, 7, 8], "consumers 0 to 2, 7 and 8 of q"),
        ([*range(0, 40, 2)], "consumers 0 to 38 (20 of them) of q"),
    ],
)
def test_names_that_differ_in_their_number_are_one(numbers: list[int], words: str) -> None:
    assert grouped(f"consumer {number} of q" for number in numbers) == words


def test_other_names_stand_beside_each_other_and_of_many_some() -> None:
    assert grouped([]) == ""
    assert grouped(["producer 1", "consumer 0 of a", "producer 0", "the judge"]) == (
        "the judge, producers 0 and 1 and consumer 0 of a"
    )
    queues = [f"consumer 0 of q.{number}" for number in range(100)]
    assert grouped(queues) == (
        "consumer 0 of q.0, consumer 0 of q.1, consumer 0 of q.2, consumer 0 of q.3, "
        "consumer 0 of q.4 and 95 others"
    )
    assert grouped(queues[:6]).endswith("q.4 and consumer 0 of q.5")


@pytest.mark.parametrize(
    ("text", "is_it"), [("", True), ("ü😀\x00", True), ("\ud83d", False), ("a\udcff", False)]
)
def test_half_of_a_surrogate_pair_is_not_utf8(text: str, is_it: bool) -> None:
    assert is_utf8(text) is is_it


def test_control_characters_are_written_out_and_line_feeds_stay() -> None:
    assert visible("ü\x1b[2J\r\x85\u2028\nx") == "ü\\x1b[2J\\r\\x85\\u2028\nx"


def test_a_line_has_no_line_feed() -> None:
    assert visible_line("a\nb\x1b") == "a\\nb\\x1b"
