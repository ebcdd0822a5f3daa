"""What others wrote is shown, and neither obeyed nor taken for a line of ours."""

from __future__ import annotations

from rmqbench.text import visible, visible_line


def test_control_characters_are_written_out_and_line_feeds_stay() -> None:
    assert visible("ü\x1b[2J\r\x85\u2028\nx") == "ü\\x1b[2J\\r\\x85\\u2028\nx"


def test_a_line_has_no_line_feed() -> None:
    assert visible_line("a\nb\x1b") == "a\\nb\\x1b"
