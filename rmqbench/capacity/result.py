"""What a search for the capacity has come to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rmqbench.results.result import Result
from rmqbench.verdict.findings import Judgement

__all__ = ["CapacityResult", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One run at one rate, of one of several searches.

    ``ms`` is the largest of what was limited (None: not known, or beyond all that came). ``kept``:
    the limit was kept, and nothing else is wrong. ``late`` is where that is not known because
    rmqbench itself was late. ``directory`` is beneath that of the search.
    """

    search: int
    rate_per_s: float
    kept: bool
    late: bool
    ms: float | None
    lag_p99_ms: float | None
    verdict: str
    why: str
    directory: str

    @classmethod
    def of(cls, search: int, rate_per_s: float, result: Result) -> Trial:
        """Return what became of a trial."""
        measured = [each.ms for each in result.limits]
        known = [ms for ms in measured if ms is not None]
        return cls(
            search=search,
            rate_per_s=rate_per_s,
            kept=result.passed,
            late=result.verdict.passed and result.outcome is Judgement.INCONCLUSIVE,
            ms=max(known) if known and len(known) == len(measured) else None,
            lag_p99_ms=None if result.lag is None else result.lag.p99_ms,
            verdict=result.verdict.outcome.value,
            why="" if result.passed else result.why,
            directory=result.directory.name,
        )


@dataclass(frozen=True)
class CapacityResult:
    """The highest rates that kept the ``limits``, one of each search that has ended.

    ``limited_by_rmqbench``: a search ended where rmqbench itself was late, so that the broker may
    do more. ``failed`` says which trial came to no PASS for another reason than its limits, a lost
    message for example: that ends it, with the exit code ``failed_code``.
    """

    limits: tuple[str, ...]
    scenario: Mapping[str, Any] = field(hash=False)
    broker: Mapping[str, str] = field(hash=False)
    trials: tuple[Trial, ...]
    rates_per_s: tuple[float, ...]
    directory: Path
    failed: str = ""
    failed_code: int = 0
    finished: bool = False

    @property
    def rate_per_s(self) -> float | None:
        """The median of the rates; None where no search has ended."""
        return statistics.median(self.rates_per_s) if self.rates_per_s else None

    @property
    def limited_by_rmqbench(self) -> bool:
        """Whether a search ended at a rate that rmqbench itself could not keep."""
        lowest: dict[int, Trial] = {}
        for each in self.trials:
            before = lowest.get(each.search)
            if not each.kept and (before is None or each.rate_per_s < before.rate_per_s):
                lowest[each.search] = each
        return any(each.late for each in lowest.values())

    @property
    def exit_code(self) -> int:
        """That of a trial that failed; 3 where no rate is known; else 0."""
        if self.failed:
            return self.failed_code
        return 0 if self.finished and self.rate_per_s else 3

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as they stand in ``capacity.json``."""
        return {
            "limits": list(self.limits),
            "rate_per_s": self.rate_per_s,
            "least_per_s": min(self.rates_per_s, default=None),
            "most_per_s": max(self.rates_per_s, default=None),
            "rates_per_s": list(self.rates_per_s),
            "limited_by_rmqbench": self.limited_by_rmqbench,
            "failed": self.failed,
            "finished": self.finished,
            "exit_code": self.exit_code,
            "trials": [asdict(each) for each in self.trials],
            "broker": dict(self.broker),
            "scenario": dict(self.scenario),
            "directory": str(self.directory),
        }
