"""Numbers agree with their nouns; what others wrote is neither obeyed nor taken for ours."""

from __future__ import annotations

import pytest

from rmqbench.text import counted, is_utf8, visible, visible_line


@pytest.mark.parametrize(("n", "words"), [(0, "0 queues"), (1, "1 queue"), (2000, "2000 queues")])
def test_a_noun_agrees_with_its_number(n: int, words: str) -> None:
    assert counted(n, "queue") == words


def test_a_plural_may_be_named_and_thousands_set_apart() -> None:
    assert counted(1, "copy is", "copies are", form=",") == "1 copy is"
    assert counted(2000, "copy is", "copies are", form=",") == "2,000 copies are"


@pytest.mark.parametrize(
    ("text", "is_it"), [("", True), ("ü😀\x00", True), ("\ud83d", False), ("a\udcff", False)]
)
def test_half_of_a_surrogate_pair_is_not_utf8(text: str, is_it: bool) -> None:
    assert is_utf8(text) is is_it


def test_control_characters_are_written_out_and_line_feeds_stay() -> None:
    assert visible("ü\x1b[2J\r\x85\u2028\nx") == "ü\\x1b[2J\\r\\x85\\u2028\nx"


def test_a_line_has_no_line_feed() -> None:
    assert visible_line("a\nb\x1b") == "a\\nb\\x1b"
