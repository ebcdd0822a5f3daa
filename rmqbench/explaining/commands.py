"""What to type next: commands that a shell takes as they stand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["explain_message", "run_again"]

_PLAIN: dict[str, tuple[object, ...]] = {
    "persistent": (True,),
    "confirms": (True,),
    "durable": (True,),
    "auto_ack": (False,),
    "queue_arguments": ({},),
    "work_queue": ("work.queue", "work.queue.1m"),
    "audit_queue": ("audit.queue", "audit.queue.1m"),
}
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


def run_again(scenario: Mapping[str, Any]) -> str:
    """Return the command that does a run again, and publishes again what is unknown.

    "" where it was none of the command line's, or publishes again already.
    """
    name = scenario.get("name")
    if name not in _OPTIONS or scenario.get("publish_again") or not _is_plain(scenario):
        return ""
    words = ["rmqbench", "run", str(name)]
    if name == "faults":
        faults = list(scenario.get("faults") or [])
        if len(faults) != 1 or not isinstance(faults[0], Mapping):
            return ""
        words += ["--fault", str(faults[0].get("name"))]
        if faults[0].get("during"):
            words += ["--during", str(faults[0]["during"])]
    for field in _OPTIONS[name]:
        if scenario.get(field) is not None:
            option = _NAMES.get(field, field).replace("_", "-")
            words += [f"--{option}", str(scenario[field])]
    return shlex.join([*words, "--publish-again"])


def _is_plain(scenario: Mapping[str, Any]) -> bool:
    """Whether the command line can ask for it: two queues as they come, and its own faults."""
    if scenario.get("faults") and scenario["name"] != "faults":
        return False
    return all(scenario.get(field) in plain for field, plain in _PLAIN.items())
