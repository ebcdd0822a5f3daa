"""How likely chance alone makes one side look as much smaller than the other: two exact tests.

Neither assumes anything of how the values are spread. Both are one-sided: the chance that values
would lie as low, or lower, if both sides were alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["chance_of_pairs", "chance_of_sides"]


def chance_of_pairs(differences: Sequence[float]) -> float:
    """Return the chance for differences of pairs to be as far below 0: Wilcoxon's signed ranks.

    What is 0 counts half to either sign. Without any pair it is 1.
    """
    ranks = _doubled_ranks([abs(each) for each in differences])
    below = 0
    for rank, each in zip(ranks, differences, strict=True):
        below += 2 * rank if each < 0 else rank if each == 0 else 0
    # Each sign is as likely as the other: the ranks below 0 are any of their subsets.
    ways = {0: 1}
    for rank in ranks:
        more = dict(ways)
        for total, count in ways.items():
            more[total + rank] = more.get(total + rank, 0) + count
        ways = more
    as_far = sum(count for total, count in ways.items() if 2 * total >= below)
    return as_far / (1 << len(ranks))


def chance_of_sides(lower: Sequence[float], higher: Sequence[float]) -> float:
    """Return the chance for one side to be as far below the other: Mann and Whitney's test.

    Without any value on a side it is 1.
    """
    ranks = _doubled_ranks([*lower, *higher])
    seen = sum(ranks[: len(lower)])
    # Any choice of as many of all ranks is as likely as any other.
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in lower)]
    for rank in ranks:
        for size in range(len(lower), 0, -1):
            for total, count in ways[size - 1].items():
                ways[size][total + rank] = ways[size].get(total + rank, 0) + count
    as_far = sum(count for total, count in ways[-1].items() if total <= seen)
    return as_far / math.comb(len(ranks), len(lower))


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Return twice the rank of each value, from 1 on; equal ones share the mean of theirs."""
    return [
        2 * sum(other < each for other in values) + sum(other == each for other in values) + 1
        for each in values
    ]
