"""The directory of a run: it is the run's result, and all that a report needs."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rmqbench.errors import UsageError
from rmqbench.verdict.ledger import PublishLedger

__all__ = ["Event", "RunDirectory"]


EventKind = Literal["stage", "fault", "interruption"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a run, and when (Unix nanoseconds).

    ``kind``: a stage of the run, a fault, or that a worker was interrupted.
    """

    time_ns: int
    kind: EventKind
    event: str


class RunDirectory:
    """Knows where in a run's directory everything is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, path: Path | None, prefix: str) -> RunDirectory:
        """Make the directory of a new run; one that already holds something is not written over.

        Without a ``path`` it is a new one under the system's temporary directory.
        """
        try:
            if path is None:
                return cls(Path(tempfile.mkdtemp(prefix=prefix)))
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(
                    f"The directory {path} is not empty.", "Name a new one for each run."
                )
        except OSError as error:
            raise UsageError(
                f"The run's directory cannot be made: {error}.", "Name another one."
            ) from None
        return cls(path.absolute())

    def producer(self, number: int) -> Path:
        """Give the place of one producer's ledger."""
        return self.path / f"producer-{number}"

    def queue(self, index: int) -> Path:
        """Give the place of one queue's consumers; the work queue is 0, the audit queue 1."""
        return self.path / f"queue-{index}"

    def publish_ledgers(self, producers: int) -> list[PublishLedger]:
        """Open the ledgers of all producers for reading."""
        return [PublishLedger.read(self.producer(number)) for number in range(producers)]

    def write_description(self, description: Mapping[str, Any]) -> None:
        """Write ``run.json``: what was asked for, of what."""
        self._write("run.json", description)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: what came of it."""
        self._write("result.json", result)

    def note_event(self, event: str, kind: EventKind = "stage", at_ns: int | None = None) -> None:
        """Append to ``events.jsonl`` what happens, or happened at a time in Unix nanoseconds."""
        noted = Event(at_ns or time.time_ns(), kind, event)
        line = json.dumps(asdict(noted))
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self) -> list[Event]:
        """Read what has happened, in the order in which it did."""
        lines = (self.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return sorted((Event(**json.loads(line)) for line in lines), key=lambda e: e.time_ns)

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
