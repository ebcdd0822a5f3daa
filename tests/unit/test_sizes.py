"""A size follows from run, producer and sequence, and is one of those that were asked for."""

import uuid

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.errors import UsageError
from rmqbench.sizes import SizeRange, Sizes
from rmqbench.splitmix import seeds_of

RUN = uuid.UUID("01234567-89ab-4cde-8f01-23456789abcd")
PRODUCERS = 4096
MAX_SIZE = (1 << 32) - 1

ranges = st.builds(
    lambda smallest, more, weight: SizeRange(smallest, min(smallest + more, MAX_SIZE), weight),
    st.integers(0, MAX_SIZE),
    st.sampled_from([0, 1, 2, 900, 1 << 20, MAX_SIZE]),
    st.integers(1, 1 << 29),
)
sizes = st.lists(ranges, min_size=1, max_size=5).map(lambda those: Sizes(tuple(those)))
identities = st.lists(
    st.tuples(st.integers(0, PRODUCERS - 1), st.integers(0, (1 << 48) - 1)), max_size=20
)


def all_of(value, count, producer=0, run=RUN):
    """Give the sizes of the first messages of a producer."""
    return Sizes.of(value).sizes_of(seeds_of(run, PRODUCERS)[producer], np.arange(count))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (100, [(100, 100, 1)]),
        ("100", [(100, 100, 1)]),
        ("100:16384", [(100, 16384, 1)]),
        ("100*9,16384", [(100, 100, 9), (16384, 16384, 1)]),
        ("100:1000*9,1048576", [(100, 1000, 9), (1048576, 1048576, 1)]),
        (f"0:{MAX_SIZE}*{MAX_SIZE}", [(0, MAX_SIZE, MAX_SIZE)]),
    ],
)
def test_sizes_are_read_as_documented(value, expected):
    assert Sizes.of(value).ranges == tuple(expected)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "'' is no size"),
        ("abc", "'abc' is no size"),
        ("100,", "'' is no size"),
        ("100:", "'100:' is no size"),
        ("100*", r"'100\*' is no size"),
        ("100 : 200", "'100 : 200' is no size"),
        ("1e3", "'1e3' is no size"),
        ("\u0661\u0660\u0660", "is no size"),
        ("100:50", "100 is more than 50"),
        ("100*0", r"'100\*0' is never chosen"),
        (-5, "'-5' is no size"),
        (f"{MAX_SIZE + 1}", "at most 4,294,967,295"),
        (f"100*{MAX_SIZE},200", "at most 4,294,967,295"),
        ("9" * 5000, "is no size"),
        (100.5, "neither a number nor a text"),
        (True, "neither a number nor a text"),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(value, why):
    with pytest.raises(UsageError, match=why) as refused:
        Sizes.of(value)
    assert "100:16384" in refused.value.remedy


@given(sizes, st.uuids(), identities)
def test_many_sizes_are_those_of_each(those, run, messages):
    producers = np.array([producer for producer, _ in messages], np.intp)
    sequences = np.array([sequence for _, sequence in messages], np.int64)
    found = those.sizes_of(seeds_of(run, PRODUCERS)[producers], sequences)
    assert found.dtype == np.int64
    assert found.tolist() == [those.size_of(run, *message) for message in messages]


@given(sizes, st.uuids(), identities)
def test_each_size_is_of_one_of_the_ranges(those, run, messages):
    for message in messages:
        size = those.size_of(run, *message)
        assert any(each.smallest <= size <= each.largest for each in those.ranges)
        assert those.smallest <= size <= those.largest


def splitmix64(seed):
    """Yield the numbers of https://prng.di.unimi.it/splitmix64.c."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


def test_the_numbers_are_those_of_splitmix64():
    """Of run 0 and producer 0 the seed is 0, for which the first ones are published."""
    numbers = splitmix64(0)
    first = [next(numbers) for _ in range(3)]
    assert first == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    found = Sizes.of(f"0:{MAX_SIZE}").sizes_of(seeds_of(uuid.UUID(int=0), 1)[0], np.arange(3))
    assert found.tolist() == [number % 2**32 * 2**32 >> 32 for number in first]


@pytest.mark.parametrize(
    ("value", "count"), [("100:103", 4), ("100,101,102,103", 4), ("100,101:102*2,103", 4)]
)
def test_each_size_of_a_range_is_as_likely(value, count):
    found, often = np.unique(all_of(value, 100_000), return_counts=True)
    assert found.tolist() == [100, 101, 102, 103]
    assert often / 100_000 == pytest.approx([1 / count] * count, rel=0.03)


@pytest.mark.parametrize(
    ("value", "share"), [("100*9,16384", 0.9), ("16384,100*9", 0.9), ("100*3,16384*5", 0.375)]
)
def test_a_size_is_chosen_by_its_weight(value, share):
    found = all_of(value, 100_000)
    assert (found == 100).mean() == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("value", [100, "100:16384", "100:1000*9,1048576", "100,300:301*2"])
def test_the_mean_is_that_of_many(value):
    assert all_of(value, 200_000).mean() == pytest.approx(Sizes.of(value).mean, rel=0.02)


def test_each_producer_and_each_run_has_sizes_of_its_own():
    value = "100:16384"
    first = all_of(value, 1000)
    others = [all_of(value, 1000, producer=1), all_of(value, 1000, run=uuid.UUID(int=RUN.int + 1))]
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.1
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("value", "mixed"), [(100, False), ("100:100", False), ("100,100*2", False), ("100:101", True)]
)
def test_sizes_are_mixed_where_there_are_two(value, mixed):
    assert Sizes.of(value).are_mixed is mixed
