"""The plans of a run's workers: what its scenario asks of each, in the place where it happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rmqbench.amqp.connection import TICK_S
from rmqbench.amqp.dead_letters import Origin, origins
from rmqbench.amqp.topology import Topology
from rmqbench.amqp.vector import vector_path_is_on
from rmqbench.clients.consumer import Subscription
from rmqbench.clients.lifetime import Churn
from rmqbench.clients.producer import ProducerPlan
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.endpoint import Endpoint
from rmqbench.message import Recipe
from rmqbench.run_directory import RunDirectory
from rmqbench.scenarios import Scenario

__all__ = ["Planner", "drains_together"]

_TICKS_PER_S = (
    400  # of all clients of one kind together: a connection that does nothing costs little
)
_LONGEST_TICK_S = 0.5


_ONE_BY_ONE = 10  # queues: of more each would wait for all before it


def drains_together(scenario: Scenario, *, elsewhere: bool) -> bool:
    """Whether all queues are drained at the same time, as where one gets another's dead letters.

    Not many of them, where each consumer takes a process or a place of an executor.
    """
    if scenario.consume == "during" or any(scenario.origins):
        return True
    alone = elsewhere or any(fault.kind.kills_consumer for fault in scenario.faults)
    return len(scenario.queues) > _ONE_BY_ONE and not alone


@dataclass(frozen=True)
class Planner:
    """Makes the plans. ``topology`` is as declared, ``endpoint`` is the workers' own.

    ``together``: all queues are drained at the same time. ``epoch_ns`` makes the clocks of the
    workers the run's. ``in_place``: policies that are not the run's may apply.
    """

    scenario: Scenario
    recipe: Recipe
    directory: RunDirectory
    endpoint: Endpoint
    topology: Topology
    together: bool
    epoch_ns: int
    in_place: bool = False

    def declared_name(self, queue: str) -> str:
        """Return the name under which a queue of the scenario was declared."""
        return self.topology.queue_names[self.scenario.queue_names.index(queue)]

    def producers(self) -> list[ProducerPlan]:
        """Return the plans of all producers."""
        scenario = self.scenario
        schedule = scenario.schedule
        return [
            ProducerPlan(
                endpoint=self.endpoint,
                recipe=self.recipe,
                number=number,
                count=count,
                directory=self.directory.producer(number),
                exchange=self.topology.exchange,
                routing_key=self.topology.routing_key,
                window=scenario.window,
                schedule=schedule and schedule.share(number, scenario.producers),
                duration_s=scenario.duration_s,
                confirms=scenario.confirms,
                publish_again=scenario.publish_again,
                waits=True,
                vector=vector_path_is_on(),
                heartbeat_s=scenario.heartbeat_s,
                stall_s=scenario.stall_s,
                tick_s=_tick_s(scenario.producers),
                churn=self._churn(number, scenario.producers),
                epoch_ns=self.epoch_ns,
            )
            for number, count in enumerate(scenario.counts)
        ]

    def consumer(self, index: int) -> ConsumerPlan:
        """Return the plan of which each consumer of a queue gets a numbered copy."""
        scenario = self.scenario
        queue = scenario.queues[index]
        rate = queue.consume_rate
        name = self.topology.queue_names[index]
        consumers = scenario.clients - scenario.producers
        return ConsumerPlan(
            subscription=Subscription(
                endpoint=self.endpoint,
                queue=name,
                name="",
                tag="",
                prefetch=queue.prefetch,
                rate=rate / queue.consumers if rate else None,
                auto_ack=queue.auto_ack,
                vector=vector_path_is_on(),
                heartbeat_s=scenario.heartbeat_s,
                # Who holds a message for so long may stand before another that waits for its turn.
                stall_s=scenario.stall_s + max(each.longest_delay_s for each in queue.settlings),
                tick_s=TICK_S if rate else _tick_s(consumers),
                churn=self._churn(
                    scenario.producers + sum(each.consumers for each in scenario.queues[:index]),
                    consumers if self.together else queue.consumers,
                ),
            ),
            recipe=self.recipe,
            counts=scenario.counts,
            number=0,
            directory=self.directory.queue(index),
            settle=queue.settle,
            timed=scenario.schedule is not None,
            exchange=self.topology.exchange,
            routing_key=self.topology.routing_key,
            gets_all=scenario.gets_all[index],
            origins=self._origins[name],
            epoch_ns=self.epoch_ns,
        )

    @cached_property
    def _origins(self) -> Mapping[str, tuple[Origin, ...]]:
        limited = self.in_place  # by a policy, as by a fault
        limited |= any("removed" in fault.kind.expected for fault in self.scenario.faults)
        return origins(self.topology, may_be_limited=limited)

    def _churn(self, before: int, alike: int) -> Churn | None:
        """Return that of a client with so many ``before`` it, ``alike`` at work with it."""
        scenario = self.scenario
        if scenario.churn is None:
            return None
        together = scenario.clients if scenario.consume == "during" else alike
        return Churn(scenario.churn, together, before)


def _tick_s(clients: int) -> float:
    """Return how often each of so many clients looks at the clock, in seconds."""
    return min(max(TICK_S, clients / _TICKS_PER_S), _LONGEST_TICK_S)
