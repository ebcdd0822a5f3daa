"""Where nothing happens nothing is found: many runs, each of another shape."""

from dataclasses import replace

import pytest

from rmqbench import reliability, run

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.random

SHAPES = st.fixed_dictionaries(
    {
        "queue_kind": st.sampled_from(["classic", "lazy", "quorum"]),
        "producers": st.integers(1, 3),
        "consumers": st.integers(1, 3),
        "window": st.sampled_from([1, 7, 500, 5000]),
        "prefetch": st.sampled_from([1, 10, 1000]),
        "size_bytes": st.sampled_from([None, 100, 5000, 140_000, "140:5000", "200*5,140000"]),
        "text": st.text(max_size=20),
        "persistent": st.booleans(),
        "publish_again": st.booleans(),
    }
)


@pytest.mark.timeout(1800)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=SHAPES, messages=st.integers(3, 300))
def test_nothing_is_found_in_a_run_of_any_shape(rmqbench_broker, tmp_path_factory, shape, messages):
    # A head and the longest text fit into 140 bytes.
    if shape["size_bytes"] == 100:
        shape = shape | {"text": shape["text"][:10]}
    scenario = replace(reliability(**shape), messages=messages)
    result = run(scenario, rmqbench_broker, directory=tmp_path_factory.mktemp("run") / "run")
    result.verdict.require_pass()
    assert result.verdict.found() == {}
