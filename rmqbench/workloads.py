"""A scenario as plain tables, as TOML and JSON have them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dacite

from rmqbench.errors import UsageError
from rmqbench.scenarios import Scenario

__all__ = ["scenario_of", "tables_of"]

_HOW = dacite.Config(strict=True, cast=[tuple])  # TOML and JSON have lists


def scenario_of(tables: Mapping[str, Any], where: str = "the scenario") -> Scenario:
    """Return the scenario that tables describe: the fields of :class:`Scenario`, of its queues, …

    Raise UsageError for a field that there is not, is missing, or is of the wrong type; ``where``
    says of what.
    """
    try:
        return dacite.from_dict(Scenario, tables, _HOW)
    except UsageError as error:
        raise UsageError(f"{where}: {error.what}", error.remedy) from None
    except dacite.DaciteError as error:
        raise UsageError(
            f"{where} is none: {error}.", "See the fields of a scenario, of its queues and faults."
        ) from None


def tables_of(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as tables, from which :func:`scenario_of` makes it again."""
    return {name: value for name, value in asdict(scenario).items() if value is not None}
