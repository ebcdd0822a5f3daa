"""A campaign: many runs as a value, read from a file and checked before the first one begins."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rmqbench.campaign.brokers import BrokerChoice
from rmqbench.campaign.tables import WITH_UNITS, Combination, combinations, meant
from rmqbench.errors import UsageError
from rmqbench.faults import Phase
from rmqbench.runner.executor import require_address
from rmqbench.runner.possible import require_possible
from rmqbench.scenarios import Scenario, faulty, latency, online, reliability, soak, storm, stress

__all__ = ["SCENARIOS", "Campaign", "PlannedRun"]

SCENARIOS: Mapping[str, Callable[..., Scenario]] = {
    "reliability": reliability,
    "online": online,
    "stress": stress,
    "latency": latency,
}
_OF_FAULTS = ("fault", "during")
# What is said of their faults.
_UNDER_FAULTS = {"faults": _OF_FAULTS, "storm": ("fault",), "soak": ("fault",)}
_FIRST = ("name", "scenario", *_OF_FAULTS, "queue_kind", "broker")  # of a title, by values alone


@dataclass(frozen=True)
class PlannedRun:
    """One run of a campaign.

    ``settings`` are what the file says of it, ``title`` what tells it from the others. Its
    producers and consumers work on the hosts of the Dask scheduler ``executor`` (None: on this
    one). It is number ``repeat`` of ``repeats`` alike.
    """

    settings: Mapping[str, Any] = field(hash=False)
    identity: str
    title: str
    scenario: Scenario
    broker: BrokerChoice
    in_place: bool = False
    executor: str | None = None
    repeat: int = 1
    repeats: int = 1

    @property
    def name(self) -> str:
        """The title, with the number of the repeat where there are several."""
        return f"{self.title} #{self.repeat}" if self.repeats > 1 else self.title

    @property
    def directory_name(self) -> str:
        """The name of its directory: the same whatever else the campaign holds."""
        words = [str(self.settings[key]) for key in _FIRST if key in self.settings]
        name = re.sub(r"[^\w-]+", "-", "-".join(words)).strip("-")[:60]
        digest = hashlib.sha256(self.identity.encode()).hexdigest()[:8]
        return f"{name}-{digest}-{self.repeat}"


@dataclass(frozen=True)
class Campaign:
    """Runs, in the order in which they are done: those on one broker behind each other.

    Repeats of a run do not follow each other directly: all runs on a broker are done once, then
    all a second time, so that a slow hour of the machine concerns all of them alike.
    """

    name: str
    runs: tuple[PlannedRun, ...]

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ
    ) -> Campaign:
        """Read the campaign of a TOML file. Raise UsageError for what makes no campaign."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                tables = tomllib.load(file)
        except OSError as error:
            raise UsageError(
                f"The campaign {path} cannot be read: {error.strerror}.", "Name a TOML file."
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no TOML: {error}.", "See https://toml.io.") from None
        return cls.of(tables, name=path.stem, file=str(path), environment=environment)

    @classmethod
    def of(
        cls,
        tables: Mapping[str, Any],
        *,
        name: str,
        file: str = "the campaign",
        environment: Mapping[str, str] = os.environ,
    ) -> Campaign:
        """Return the campaign of tables that are read already. Raise UsageError."""
        found = combinations(tables, file)
        titles = _titles([each.settings for each in found])
        planned = [
            _planned(each, title, environment) for each, title in zip(found, titles, strict=True)
        ]
        return cls(name, tuple(_in_order(planned)))


def _planned(each: Combination, title: str, environment: Mapping[str, str]) -> PlannedRun:
    settings = dict(each.settings)
    try:
        for key in ("scenario", "broker"):
            if key not in settings:
                raise UsageError(
                    f"There is no {key}.", f"Give one, here or above all tables: {_EXAMPLES[key]}."
                )
        broker = BrokerChoice.of(
            settings.pop("broker"), settings.pop("management_url", None), environment
        )
        in_place = settings.pop("in_place", False)
        executor = settings.pop("executor", None)
        if executor is not None:
            require_address(executor)
        scenario = _scenario(settings)
        require_possible(scenario, in_place=in_place, elsewhere=executor is not None)
        if scenario.faults and not broker.owned:
            raise UsageError(
                f"Faults strike no broker that is there already, such as {broker.name!r}.",
                "Choose one that is started for it: local, container or an image.",
            )
    except UsageError as error:
        raise UsageError(f"{each}: {error.what}", error.remedy) from None
    return PlannedRun(
        settings=each.settings,
        identity=each.identity,
        title=title,
        scenario=scenario,
        broker=broker,
        in_place=in_place,
        executor=executor,
        repeats=each.repeats,
    )


_EXAMPLES = {"scenario": 'scenario = "reliability"', "broker": 'broker = "local"'}


def _scenario(settings: Mapping[str, Any]) -> Scenario:
    """Return the scenario that is meant by its name and its changes."""
    changes: dict[str, Any] = {
        "size_bytes" if key == "size" else key: _value(key, value)
        for key, value in settings.items()
        if key not in ("scenario", *_OF_FAULTS)
    }
    name = settings["scenario"]
    if name not in SCENARIOS and name not in _UNDER_FAULTS:
        known = [*SCENARIOS, *_UNDER_FAULTS]
        raise UsageError(f"There is no scenario {name!r}.", meant(name, known))
    of_fault = {key: settings[key] for key in _OF_FAULTS if key in settings}
    for key in of_fault.keys() - _UNDER_FAULTS.get(name, ()):
        others = " or ".join(each for each, keys in _UNDER_FAULTS.items() if key in keys)
        raise UsageError(
            f"{key} is of the scenario {others}, and this one is {name}.",
            f"Name that scenario, or leave {key} out.",
        )
    if name == "faults":
        during = cast("Phase | None", of_fault.get("during"))
        return faulty(of_fault.get("fault", "kill-broker"), during, **changes)
    if name == "storm":
        return storm(of_fault.get("fault", "restart-broker"), **changes)
    if name == "soak":
        return soak(fault=of_fault.get("fault"), **changes)
    return SCENARIOS[name](**changes)


def _value(key: str, value: Any) -> Any:
    """Return a value of a file as the scenario takes it."""
    if key in ("allowed", "limits"):
        return tuple(value)
    if key in WITH_UNITS and isinstance(value, str):
        return WITH_UNITS[key](value)
    return value


def _titles(all_settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a title of each run: its scenario, and all in which runs of that scenario differ."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for each in all_settings:
        alike.setdefault(each.get("scenario", ""), []).append(each)
    everywhere = {"scenario", *(_differing(all_settings) & set(_FIRST))}
    shown = {name: everywhere | _differing(runs) for name, runs in alike.items()}
    return [_title(each, shown[each.get("scenario", "")]) for each in all_settings]


def _differing(all_settings: Sequence[Mapping[str, Any]]) -> set[str]:
    keys = {key for each in all_settings for key in each}
    return {key for key in keys if len({repr(each.get(key)) for each in all_settings}) > 1}


def _title(settings: Mapping[str, Any], shown: set[str]) -> str:
    keys = [key for key in dict.fromkeys([*_FIRST, *settings]) if key in settings and key in shown]
    return ", ".join(
        str(settings[key]) if key in _FIRST else f"{key} {_shown(settings[key])}" for key in keys
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _in_order(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return every repeat of each run, those on one broker behind each other."""
    planned = list(planned)
    brokers = list(dict.fromkeys(each.broker for each in planned))
    repeated = [
        replace(each, repeat=repeat) for each in planned for repeat in range(1, each.repeats + 1)
    ]
    return sorted(repeated, key=lambda each: (brokers.index(each.broker), each.repeat))
