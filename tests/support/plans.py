"""Plans of workers, of little more than what a test is about."""

from dataclasses import fields

from rmqbench.clients.consumer import Subscription
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.endpoint import Endpoint

_OF_SUBSCRIPTION = {field.name for field in fields(Subscription)}


def consumer_plan(recipe, counts, directory, **changes):
    """Return the plan of consumer 0 of work.queue.

    ``changes`` are fields of it or of its subscription.
    """
    of_subscription = {k: v for k, v in changes.items() if k in _OF_SUBSCRIPTION}
    others = {k: v for k, v in changes.items() if k not in _OF_SUBSCRIPTION}
    subscription = {
        "endpoint": Endpoint(),
        "queue": "work.queue",
        "name": "consumer",
        "tag": "consumer",
        **of_subscription,
    }
    plan = {"number": 0, "exchange": "x", "routing_key": "k", **others}
    return ConsumerPlan(
        subscription=Subscription(**subscription),
        recipe=recipe,
        counts=counts,
        directory=directory,
        **plan,
    )
