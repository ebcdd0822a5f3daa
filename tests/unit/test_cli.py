"""What the subcommands share: told in-process, without a broker."""

from __future__ import annotations

import pytest

from rmqbench import cli
from rmqbench.errors import QueueNotFound


def test_no_error_tells_the_password_of_a_url_that_was_taken_for_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli._explain(QueueNotFound("There is no queue 'amqp://ann:secret@h'.")) == 2
    assert capsys.readouterr().err == "Error: There is no queue 'amqp://ann:***@h'.\n"
