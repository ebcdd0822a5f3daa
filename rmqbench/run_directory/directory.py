"""Where in a run's directory everything is."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from rmqbench.clock import REAL_CLOCK, Clock
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.run_directory.journal import JOURNAL_FILE, Journal
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.whole_file import write_whole
from rmqbench.text import counted

__all__ = ["FORMAT", "RunDirectory"]

FORMAT: Final = 4
"""The version of the format: a directory of another version is refused."""


class RunDirectory:
    """Knows where in a run's directory everything is."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.path = path
        self._new = new

    @classmethod
    def make(cls, directory: str | os.PathLike[str] | None, name: str) -> RunDirectory:
        """Make the directory of a new run; one that already holds something is not written over.

        Without a ``directory`` it is one of this ``name`` among the user's runs, see
        :func:`rmqbench.run_directory.keeping.make_among_runs`. Raise UsageError where it cannot be
        made.
        """
        try:
            if directory is None:
                from rmqbench.run_directory.keeping import make_among_runs  # noqa: PLC0415

                return cls(make_among_runs(name), new=True)
            path = Path(directory).absolute()
            cls.require_free(path)
            new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(error) from None
        return cls(path, new=new)

    @classmethod
    def require_free(cls, directory: str | os.PathLike[str]) -> None:
        """Raise UsageError for a directory that holds something, or cannot be made.

        It is asked before anything is begun: nothing is made.
        """
        path = Path(directory).absolute()
        try:
            there = next(each for each in (path, *path.parents) if each.exists())
            if there == path and any(path.iterdir()):
                raise UsageError(
                    f"The directory {path} is not empty.", "Name a new one for each run."
                )
            if not there.is_dir():
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
            if not os.access(there, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(there))
        except OSError as error:
            raise _not_made(error) from None

    def require_room(self, publishes: int, deliveries: int, *, timed: bool = False) -> None:
        """Raise RmqbenchError where the disk has no room for the evidence of so many.

        ``timed``: they are those of an open load.

        It is asked before anything is written: to reserve as much as there is would take it from
        all others.
        """
        needed = publishes * PublishLedger.row_bytes(timed=timed)
        needed += deliveries * DeliveryLedger.row_bytes(timed=timed)
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise RmqbenchError(
                f"The evidence of up to {counted(publishes, 'message')} takes "
                f"{needed / 2**30:,.1f} GiB, and the disk of {self.path} has {free / 2**30:,.1f}.",
                "Ask for fewer messages, or for a lower rate or a shorter time where the time says "
                "how many there are; or name a directory on another disk.",
            )

    def remove(self, *others: str) -> None:
        """Remove a run that has not begun, as far as that is possible: it is no evidence.

        ``others`` are files of it besides its description and journal. What else is there is
        somebody else's. A directory that was there before :meth:`make` stays.
        """
        for name in ("run.json", JOURNAL_FILE, *others):
            with suppress(OSError):
                (self.path / name).unlink()
        if self._new:
            with suppress(OSError):
                self.path.rmdir()

    @property
    def journal_path(self) -> Path:
        """The journal of the run as a whole."""
        return self.path / JOURNAL_FILE

    def producer(self, number: int) -> Path:
        """Return the directory of one producer."""
        return self.path / f"producer-{number}"

    def queue(self, index: int) -> Path:
        """Return the directory of one queue's consumers, by its place in the scenario's list."""
        return self.path / f"queue-{index}"

    def consumer(self, index: int, number: int) -> Path:
        """Return the directory of one consumer of a queue."""
        return self.queue(index) / f"consumer-{number}"

    def consumers(self, index: int) -> list[Path]:
        """Return the directories of the consumers that a queue has had, in their order."""
        numbered = {
            int(found[1]): each
            for each in self.queue(index).glob("consumer-*")
            if (found := re.fullmatch(r"consumer-(\d+)", each.name))
        }
        return [numbered[number] for number in sorted(numbered)]

    def publish_ledgers(self, producers: int) -> list[PublishLedger]:
        """Open the ledgers of all producers for reading."""
        return [PublishLedger.read(self.producer(number)) for number in range(producers)]

    def open_journal(self, clock: Clock = REAL_CLOCK) -> Journal:
        """Open the run's journal for writing."""
        return Journal(self.journal_path, clock)

    @property
    def broker_log_path(self) -> Path:
        """The end of the log of a broker that was the run's own, as the run was judged."""
        return self.path / "broker.log"

    def write_broker_log(self, text: str) -> None:
        """Write ``broker.log``."""
        write_whole(self.broker_log_path, text)

    def write_description(self, description: Mapping[str, Any]) -> None:
        """Write ``run.json``: what was asked for, of what."""
        text = _as_json({"format": FORMAT, **description})
        (self.path / "run.json").write_text(text, encoding="utf-8")

    def read_description(self) -> dict[str, Any]:
        """Read ``run.json``; raise UsageError where it is missing or of another format."""
        path = self.path / "run.json"
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                f"{self.path} is not the directory of a run: there is no run.json in it.",
                "Name the directory that the run printed.",
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}.", "Name another run.") from None
        if not isinstance(description, dict) or "format" not in description:
            raise UsageError(f"{path} does not describe a run.", "Name another run.")
        found = description["format"]
        if found != FORMAT:
            raise UsageError(
                f"{self.path} holds a run in format {found}, and this rmqbench reads format "
                f"{FORMAT}.",
                "Judge it with the version of rmqbench that wrote it.",
            )
        return dict(description)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: what came of it. It is there only as a whole."""
        write_whole(self.path / "result.json", _as_json(result))


def _not_made(error: OSError) -> UsageError:
    return UsageError(f"The run's directory cannot be made: {error}.", "Name another one.")


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
