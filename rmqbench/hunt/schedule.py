"""What a hunt tries: a workload and its faults, explicit, as a JSON file that replays it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from rmqbench.errors import UsageError
from rmqbench.scenarios import Scenario
from rmqbench.workloads import scenario_of, tables_of

__all__ = ["Schedule"]

_FORMAT: Final = 1


@dataclass(frozen=True)
class Schedule:
    """A workload and its faults, each at its anchor, and the run from which messages are computed.

    ``seed`` is that of which it was drawn (None: it was written, or made smaller). ``broker`` says
    on what it was tried: version, image and the image's digest, as far as there are any.
    """

    scenario: Scenario
    run: uuid.UUID
    seed: int | None = None
    broker: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that :meth:`write` wrote; raise UsageError where it is none."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != _FORMAT:
                raise UsageError(
                    f"{path} is a schedule of format {found['format']!r}, and this rmqbench reads "
                    f"format {_FORMAT}.",
                    "Use the rmqbench that wrote it.",
                )
            return cls(
                scenario_of(found["scenario"], str(path)),
                uuid.UUID(found["run"]),
                found.get("seed"),
                {str(name): str(value) for name, value in found.get("broker", {}).items()},
            )
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read: {error.strerror}.", "Name a schedule's file."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} is no schedule ({type(error).__name__}: {error}).",
                "Name a file that rmqbench hunt wrote.",
            ) from None

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        text = json.dumps(self.as_dict(), indent=2) + "\n"
        part = path.with_name(f"{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "format": _FORMAT,
            "run": str(self.run),
            "seed": self.seed,
            "broker": dict(self.broker),
            "scenario": tables_of(self.scenario),
        }

    def with_scenario(self, scenario: Scenario) -> Schedule:
        """Return it with another workload, which no seed gives."""
        return replace(self, scenario=scenario, seed=None)

    @property
    def steps(self) -> int:
        """How many things happen to the workload: its faults."""
        return len(self.scenario.faults)

    def __str__(self) -> str:
        """Return in a line what it does."""
        scenario = self.scenario
        parts = [f"{scenario.most_messages:,} messages"]
        if scenario.producers > 1:
            parts.append(f"{scenario.producers} producers")
        if scenario.size_bytes is not None:
            parts.append(f"of {scenario.size_bytes} bytes")
        if scenario.payload != "bytes":
            parts.append(f"of {scenario.payload}")
        queues = [
            f"{each.kind}" + (f" ({each.settle})" if each.settle != "ack" else "")
            for each in scenario.queues
        ]
        parts.append(f"{', '.join(queues)}; consumed {scenario.consume} publishing")
        faults = [f"{each.name} during {each.phase}" for each in scenario.faults]
        return f"{' '.join(parts)}; {', then '.join(faults) or 'no fault'}"
