"""What is asked of a run and of what, as ``run.json`` has it."""

from __future__ import annotations

import platform
import re
import uuid
from dataclasses import asdict
from importlib.metadata import version

from rmqbench.amqp.vector import vector_path_is_on
from rmqbench.broker import Broker
from rmqbench.message import Recipe
from rmqbench.scenarios import Scenario

__all__ = ["describe"]


def describe(
    run: uuid.UUID, scenario: Scenario, recipe: Recipe, broker: Broker, *, in_place: bool
) -> dict[str, object]:
    """Return all that is known of a run before it begins, as plain values."""
    return {
        "run": str(run),
        "scenario": scenario.as_dict(),
        "counts": list(scenario.counts),
        "schedule": scenario.schedule and scenario.schedule.as_list(),
        "recipe": recipe.as_dict(),
        "queues": [
            asdict(queue)
            | {
                "gets_all": gets_all,
                "dead_letters_of": list(origins),
                "keeps_dead_letters": keeps_dead_letters,
            }
            for queue, gets_all, origins, keeps_dead_letters in zip(
                scenario.queues,
                scenario.gets_all,
                scenario.origins,
                scenario.keeps_dead_letters,
                strict=True,
            )
        ],
        "allowed": list(scenario.allowed),
        "faults": [fault.name for fault in scenario.faults],
        "broker": {
            "kind": broker.kind,
            "version": broker.version,
            "how": broker.how,
            **({"image_digest": broker.image_digest} if broker.image_digest else {}),
            "endpoint": str(broker.endpoint),
            "management_url": _without_login(broker.endpoint.management_url or ""),
        },
        "in_place": in_place,
        "vector": vector_path_is_on(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("rmqbench", "pika", "numpy")},
        },
        "platform": platform.platform(),
    }


def _without_login(url: str) -> str:
    return re.sub(r"(?<=://)[^/]*@", "", url)
