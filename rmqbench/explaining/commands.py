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

_LOAD = ("messages", "size_bytes", "queue_kind", "producers", "consumers", "window", "prefetch")
_OPTIONS = {
    "reliability": _LOAD,
    "online": _LOAD,
    "stress": _LOAD,
    "faults": ("messages", "queue_kind", "consumers"),
}
_NAMES = {"size_bytes": "size"}


def explain_message(directory: Path, message_id: str) -> str:
    """Return the command that shows the life of a message."""
    return shlex.join(["rmqbench", "explain", str(directory), message_id])


def run_again(description: Mapping[str, Any]) -> str:
    """Return the command that does a run again, and publishes again what is unknown.

    ``description`` is what ``run.json`` says. A broker that was named is named again, without its
    password: RMQBENCH_PASSWORD is to have that. One of our own is another of its kind. "" where the
    run was none of the command line's, or publishes again already.
    """
    scenario = description.get("scenario")
    if not isinstance(scenario, Mapping):
        return ""
    name = str(scenario.get("name"))
    if name not in _OPTIONS or scenario.get("publish_again"):
        return ""
    words = ["rmqbench", "run", name]
    given = {field: scenario.get(field) for field in _OPTIONS[name]}
    given = {field: value for field, value in given.items() if value is not None}
    try:
        if name == "faults":
            (fault,) = scenario["faults"]
            again = scenarios.faulty(fault["name"], fault["during"], **given)
            words += ["--fault", fault["name"]]
            words += ["--during", fault["during"]] if fault["during"] else []
        else:
            again = getattr(scenarios, name)(**given)
    except (UsageError, TypeError, ValueError, KeyError):
        return ""
    if _plain(again.as_dict()) != _plain(scenario):
        return ""
    for field, value in given.items():
        words += [f"--{_NAMES.get(field, field).replace('_', '-')}", str(value)]
    return shlex.join([*words, "--publish-again", *_where(description)])


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
