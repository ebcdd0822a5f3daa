"""The tables of a campaign's file, multiplied out: which runs it asks for, in its own words.

Nothing is known here of what a setting means, only which there are and of what type they are.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Union, get_args, get_origin

from rmqbench.errors import UsageError
from rmqbench.scenarios import changes_taken
from rmqbench.units import read_per_second, read_seconds

__all__ = ["OWN_KEYS", "WITH_UNITS", "Combination", "accepted_types", "combinations", "meant"]

OWN_KEYS: Mapping[str, type] = {
    "scenario": str,
    "broker": str,
    "fault": str,
    "during": str,
    "repeats": int,
    "in_place": bool,
    "management_url": str,
    "executor": str,
}
"""The keys that are no changes of a scenario, with the type of each."""

WITH_UNITS: Mapping[str, Callable[[str], float]] = {
    **dict.fromkeys(("consume_rate", "churn"), read_per_second),
    **dict.fromkeys(("duration_s", "rest_s", "stall_s"), read_seconds),
}
"""The keys of numbers that may be texts, as on the command line, and what reads them."""

_MOST_RUNS = 10_000
_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list of texts",
    dict: "a table of texts and numbers",
}
_SCALARS = frozenset({bool, int, float, str})
_TABLES = ("run", "exclude")


@dataclass(frozen=True)
class Combination:
    """What a file says of one run, and how often it is to be done; ``where`` in the file."""

    where: str
    settings: Mapping[str, Any]
    repeats: int = 1

    @property
    def identity(self) -> str:
        """All that is said of the run, as one text: what has the same is the same run."""
        return json.dumps(self.settings, sort_keys=True)

    def __str__(self) -> str:
        """Return where it stands, and what makes it the one that it is."""
        said = ", ".join(f"{key} = {value!r}" for key, value in self.settings.items())
        return f"{self.where} ({said})"


def combinations(tables: Mapping[str, Any], file: str) -> list[Combination]:
    """Multiply out the tables of a file.

    What stands above all tables is said of every run. A list is multiplied out: each of its values
    makes runs of its own; what matches an ``[[exclude]]`` is left out. Raise UsageError, which
    names the file, the table and the key.
    """
    if not tables:
        raise UsageError(
            f"{file} is empty.",
            'Write what is to be run, such as scenario = "reliability" and broker = "local".',
        )
    shared = _settings(
        {key: value for key, value in tables.items() if key not in _TABLES}, f"{file}, at the top"
    )
    found: list[Combination] = []
    for where, table in _numbered(tables.get("run", [{}]), "run", file):
        axes = shared | _settings(table, where)
        found += _multiplied(axes, where)
    if not found:
        raise UsageError(f"{file}: there is no run in it.", "Write a [[run]], or leave out run.")
    left = _without_excluded(found, _numbered(tables.get("exclude", []), "exclude", file), file)
    seen: dict[str, Combination] = {}
    for each in left:
        other = seen.setdefault(each.identity, each)
        if other is not each:
            raise UsageError(
                f"{each}: it is the same run as one of {other.where}.",
                "Leave one of them out; repeats says how often a run is done.",
            )
    return left


def meant(name: str, known: Iterable[str]) -> str:
    """Return a sentence on the names that there are, the likeliest first if one is close."""
    known = list(known)
    (close, *_) = (*difflib.get_close_matches(name, known, n=1), "")
    return f"Did you mean {close}?" if close else f"There are {', '.join(known)}."


def accepted_types() -> dict[str, frozenset[type]]:
    """Return each key that a run may have, with the types of TOML that it takes."""
    hints = {**OWN_KEYS, **changes_taken()}
    hints["size"] = hints.pop("size_bytes")  # as the option is called
    types = {name: frozenset(_plain(hint)) for name, hint in hints.items()}
    return types | {name: types[name] | {str} for name in WITH_UNITS}


def _plain(hint: Any) -> Iterator[type]:
    """Yield the types in which TOML can give what a type hint asks for."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        for each in get_args(hint):
            yield from _plain(each)
    elif origin is Literal:
        yield str
    elif origin is float:
        yield from (float, int)
    elif origin is tuple:
        yield list
    elif origin is Mapping:
        yield dict
    elif origin in _IN_WORDS:
        yield origin


def _settings(table: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """Return the values of each key of a table: one, or those of a list."""
    accepted = accepted_types()
    found: dict[str, list[Any]] = {}
    for written, value in table.items():
        key = written.replace("-", "_")
        if key not in accepted:
            raise UsageError(
                f"{where}: there is no key {written!r}.", meant(key, [*accepted, *_TABLES])
            )
        if key in found:
            raise UsageError(f"{where}: {written} is said twice.", "Write it once.")
        values = _values(value, accepted[key])
        if not values:
            raise UsageError(f"{where}, {written}: the list is empty.", "Leave the key out.")
        if key == "repeats" and isinstance(value, list):
            raise UsageError(f"{where}, repeats: it is a list.", "Give one number.")
        for number, each in enumerate(values):
            if not _fits(each, accepted[key]):
                wanted = " or ".join(
                    words for kind, words in _IN_WORDS.items() if kind in accepted[key]
                )
                raise UsageError(f"{where}, {written}: it is {each!r}.", f"Give {wanted}.")
            if each in values[:number]:
                raise UsageError(
                    f"{where}, {written}: {each!r} is in the list twice.",
                    "Write it once; repeats says how often a run is done.",
                )
        found[key] = values
    return found


def _values(value: Any, accepted: frozenset[type]) -> list[Any]:
    """Return what a list multiplies out to; where the value is a list by itself, of lists."""
    if not isinstance(value, list):
        return [value]
    if list in accepted and not (value and all(isinstance(each, list) for each in value)):
        return [value]
    return list(value)


def _fits(value: Any, accepted: frozenset[type]) -> bool:
    if isinstance(value, list):
        return list in accepted and all(isinstance(each, str) for each in value)
    if isinstance(value, dict):
        return dict in accepted and all(_fits(each, _SCALARS) for each in value.values())
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return type(value) in accepted  # not isinstance: true is no number


def _multiplied(axes: Mapping[str, list[Any]], where: str) -> Iterator[Combination]:
    axes = dict(axes)
    (repeats,) = axes.pop("repeats", [1])
    if repeats < 1:
        raise UsageError(f"{where}, repeats: it is {repeats}.", "Give a number from 1 on.")
    if repeats * math.prod(map(len, axes.values())) > _MOST_RUNS:
        raise UsageError(
            f"{where}: these are more than {_MOST_RUNS:,} runs.",
            "Multiply out fewer lists, or make several campaigns of it.",
        )
    for values in product(*axes.values()):
        yield Combination(where, dict(zip(axes, values, strict=True)), repeats)


def _numbered(given: Any, name: str, file: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each table of a list of them, with its place in the file."""
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise UsageError(
            f"{file}: {name} is no list of tables.",
            f"Write [[{name}]] above each, in two brackets.",
        )
    return [(f"{file}, [[{name}]] {number}", table) for number, table in enumerate(given, 1)]


def _without_excluded(
    found: Sequence[Combination], excludes: Sequence[tuple[str, Mapping[str, Any]]], file: str
) -> list[Combination]:
    left = list(found)
    for where, table in excludes:
        unwanted = _settings(table, where)
        if "repeats" in unwanted or not unwanted:
            raise UsageError(
                f"{where}: it does not say what a run is like.",
                "Name the settings of the runs that are to be left out.",
            )
        kept = [each for each in left if not _matches(each, unwanted)]
        if len(kept) == len(left):
            raise UsageError(f"{where}: no run is like that.", "Correct it, or leave it out.")
        left = kept
    if not left:
        raise UsageError(f"{file}: every run is excluded.", "Exclude fewer of them.")
    return left


def _matches(each: Combination, unwanted: Mapping[str, list[Any]]) -> bool:
    return all(each.settings.get(key) in values for key, values in unwanted.items())
