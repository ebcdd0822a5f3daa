"""Virtual time: its order, its tasks, and their ends."""

import gc

import pytest

from rmqbench.simulation.world import World


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


def test_what_is_due_at_one_moment_happens_in_the_order_in_which_it_was_asked_for(world):
    seen = []
    for delay_s, name in ((2, "c"), (1, "a"), (1, "b"), (0, "first"), (2, "d")):
        world.call_later(delay_s, lambda name=name: seen.append((world.now(), name)))
    world.run(lambda: world.sleep(3))
    assert seen == [(0, "first"), (1, "a"), (1, "b"), (2, "c"), (2, "d")]


def test_what_is_asked_for_later_at_the_same_moment_comes_behind(world):
    seen = []

    def first():
        seen.append("first")
        world.call_later(0, lambda: seen.append("behind"))
        world.call_later(-5, lambda: seen.append("behind that"))

    world.call_later(1, first)
    world.call_later(1, lambda: seen.append("second"))
    world.run(lambda: world.sleep(2))
    assert seen == ["first", "second", "behind", "behind that"]


def test_what_is_cancelled_does_not_happen(world):
    world.call_later(1, pytest.fail).cancel()
    world.run(lambda: world.sleep(2))
    assert world.now() == 2


def test_a_world_returns_what_its_main_task_returns_and_raises_what_it_raises(world):
    assert world.run(lambda: 7) == 7

    def fail():
        world.sleep(1)
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        world.run(fail)


def test_the_clock_is_that_of_the_world(world):
    begun_ns = world.clock.time_ns()

    def main():
        world.clock.sleep(1.5)
        return world.clock.monotonic(), world.clock.time_ns() - begun_ns

    assert world.run(main) == (1.5, 1_500_000_000)


def test_tasks_take_turns(world):
    seen = []

    def task(name, step_s):
        for _ in range(3):
            seen.append(name)
            world.sleep(step_s)
        return name

    def main():
        tasks = [world.spawn(name, lambda n=name: task(n, 1)) for name in "ab"]
        world.sleep(10)
        return [each.result for each in tasks], [each.ended for each in tasks]

    assert world.run(main) == (["a", "b"], [True, True])
    assert seen == list("ababab")


def test_the_error_of_a_task_is_kept(world):
    def main():
        task = world.spawn("bad", lambda: 1 / 0)
        world.sleep(1)
        return task.ended, task.error

    ended, error = world.run(main)
    assert ended
    assert isinstance(error, ZeroDivisionError)


def test_a_task_that_ends_wakes_nobody(world):
    """One that was started by another leads back to the world, not to that other one."""

    def main():
        world.spawn("child", lambda: world.sleep(1))
        world.sleep(5)
        first = world.now()
        world.sleep(5)
        return first, world.now()

    assert world.run(main) == (5, 10)


def test_a_waiting_task_is_woken_early_once(world):
    def main():
        here = world.current()
        world.call_later(2, here.wake)
        world.call_later(2, here.wake)
        world.wait(10)
        first = world.now()
        world.sleep(3)
        return first, world.now()

    assert world.run(main) == (2, 5)


def test_waking_a_task_that_does_not_wait_is_nothing(world):
    def main():
        world.current().wake()
        world.sleep(1)
        return world.now()

    assert world.run(main) == 1


def test_a_main_task_that_waits_for_too_long_is_an_error(world):
    with pytest.raises(RuntimeError, match="has not ended after"):
        world.run(lambda: world.sleep(100), limit_s=99)


def test_a_main_task_that_never_gets_on_is_an_error(world, monkeypatch):
    monkeypatch.setattr("rmqbench.simulation.world._MOST_EVENTS", 50)

    def main():
        while True:
            world.sleep(0)

    with pytest.raises(RuntimeError, match="50 events"):
        world.run(main)


def test_a_killed_task_runs_no_more(world):
    seen = []

    def victim():
        try:
            seen.append("begun")
            world.sleep(2)
            seen.append("went on")
        finally:
            seen.append("finally")

    def main():
        task = world.spawn("victim", victim)
        world.sleep(1)
        task.kill()
        task.wake()
        del task
        world.sleep(5)
        gc.collect()
        return list(seen)

    assert world.run(main) == ["begun"]
    gc.collect()
    assert seen == ["begun"]
    world.close()
    assert seen == ["begun", "finally"]


def test_a_task_that_is_killed_before_it_has_begun_never_begins(world):
    def main():
        task = world.spawn("victim", pytest.fail)
        task.kill()
        world.sleep(1)
        return task.ended

    assert world.run(main)


def test_what_is_closed_waits_for_nothing_any_more(world):
    seen = []

    def stubborn():
        try:
            world.sleep(1000)
        finally:
            seen.append("ends")
            world.sleep(1)
            seen.append("still there")

    def main():
        world.spawn("stubborn", stubborn)
        world.sleep(1)

    world.run(main)
    world.close()
    world.close()
    assert seen == ["ends"]
    assert world.now() == 1
