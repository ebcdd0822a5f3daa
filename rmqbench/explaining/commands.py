"""What to type next: commands that a shell takes as they stand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmqbench import scenarios
from rmqbench.errors import UsageError

__all__ = ["explain_message", "run_again"]

_SHAPE = (
    *("size_bytes", "payload", "queue_kind", "producers", "consumers"),
    *("window", "prefetch", "processes"),
)
_TIME = ("publish_rate", "duration_s")
_LOAD = ("messages", *_SHAPE, "settle", *_TIME, "churn")
_OPTIONS = {
    "latency": (*_SHAPE, *_TIME, "limits"),
    "reliability": _LOAD,
    "online": _LOAD,
    "stress": _LOAD,
    "faults": ("messages", "size_bytes", "payload", "queue_kind", "consumers", "settle"),
}
_NAMES = {
    "size_bytes": "size",
    "publish_rate": "rate",
    "duration_s": "duration",
    "limits": "limit",
}


def explain_message(directory: Path, message_id: str) -> str:
    """Return the command that shows the life of a message."""
    return shlex.join(["rmqbench", "explain", str(directory), message_id])


def run_again(description: Mapping[str, Any], *, publish_again: bool = True) -> str:
    """Return the command that does a run again.

    With ``publish_again`` it publishes again what is unknown: "" where the run did so already.
    ``description`` is what ``run.json`` says. A broker that was named is named again, without its
    password: RMQBENCH_PASSWORD is to have that. One of our own is another of its kind. "" where the
    run was none of the command line's.
    """
    scenario = description.get("scenario")
    if not isinstance(scenario, Mapping):
        return ""
    name = str(scenario.get("name"))
    published_again = bool(scenario.get("publish_again"))
    if name not in _OPTIONS or (published_again and publish_again):
        return ""
    words = ["rmqbench", "run", name]
    given = {field: scenario.get(field) for field in _OPTIONS[name]}
    given = {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in given.items()
        if value not in (None, [], ())
    }
    described: dict[str, Any] = {**given, "publish_again": published_again}
    try:
        if name == "faults":
            (fault,) = scenario["faults"]
            again = scenarios.faulty(fault["name"], fault["during"], **described)
            words += ["--fault", fault["name"]]
            words += ["--during", fault["during"]] if fault["during"] else []
        else:
            again = getattr(scenarios, name)(**described)
    except (UsageError, TypeError, ValueError, KeyError):
        return ""
    if _plain(again.as_dict()) != _plain(scenario):
        return ""
    for field, value in given.items():
        for each in value if isinstance(value, tuple) else [value]:
            words += [f"--{_NAMES.get(field, field).replace('_', '-')}", str(each)]
    more = ["--publish-again"] if publish_again or published_again else []
    return shlex.join([*words, *more, *_where(description)])


def _where(description: Mapping[str, Any]) -> list[str]:
    """Return the options that name a broker: its URL, or of our own ones the kind."""
    broker = description.get("broker")
    if not isinstance(broker, Mapping) or not broker.get("kind"):
        return []
    words = ["--broker", str(broker.get("kind"))]
    if broker.get("kind") == "external":
        words = ["--url", str(broker.get("endpoint"))]
        if broker.get("management_url"):
            words += ["--management-url", str(broker["management_url"])]
    return [*words, "--in-place"] if description.get("in_place") else words


def _plain(scenario: Mapping[str, Any]) -> Any:
    """Return a scenario as JSON has it."""
    return json.loads(json.dumps(dict(scenario)))
