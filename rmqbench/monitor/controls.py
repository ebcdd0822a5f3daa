"""What the keys of the dashboard set: a value, and the next one after a key."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rmqbench.monitor.model import SORTS, Sort

__all__ = ["Controls", "after"]

_INTERVALS_S = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Controls:
    """The current settings of the dashboard; ``interval_s`` is between two pictures."""

    interval_s: float = 3.0
    sort: Sort = "depth"
    paused: bool = False
    ended: bool = False


def after(controls: Controls, key: str) -> Controls:
    """Return the settings after a key; a key without a meaning changes nothing."""
    match key.lower():
        case "q":
            return replace(controls, ended=True)
        case "p" | " ":
            return replace(controls, paused=not controls.paused)
        case "s":
            following = SORTS[(SORTS.index(controls.sort) + 1) % len(SORTS)]
            return replace(controls, sort=following)
        case "+" | "=":  # the same key, without shift
            longer = [each for each in _INTERVALS_S if each > controls.interval_s]
            return replace(controls, interval_s=longer[0] if longer else controls.interval_s)
        case "-" | "_":
            shorter = [each for each in _INTERVALS_S if each < controls.interval_s]
            return replace(controls, interval_s=shorter[-1] if shorter else controls.interval_s)
    return controls
