"""The causes that a queue's own arguments are for it to drop messages."""

import pytest

from rmqbench.verdict.evidence import removals_by_arguments


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        ({}, []),
        ({"x-message-ttl": 5}, ["x-message-ttl=5"]),
        ({"x-expires": 6}, ["x-expires=6"]),
        ({"x-delivery-limit": 7}, ["x-delivery-limit=7"]),
        ({"x-max-length": 8}, ["x-max-length=8 with overflow drop-head"]),
        ({"x-max-length-bytes": 9}, ["x-max-length-bytes=9 with overflow drop-head"]),
        (
            {"x-max-length": 8, "x-overflow": "drop-head"},
            ["x-max-length=8 with overflow drop-head"],
        ),
        ({"x-max-length": 8, "x-overflow": "reject-publish"}, []),
        ({"x-max-length": 8, "x-overflow": "reject-publish-dlx"}, []),
    ],
)
def test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else(arguments, causes):
    assert [removal.cause for removal in removals_by_arguments(arguments)] == causes
