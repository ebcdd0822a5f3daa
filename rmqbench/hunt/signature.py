"""By what a failure is known again: what was found, in a queue of which kind, in which role."""

from __future__ import annotations

from typing import Final, NamedTuple

from rmqbench.museum import Exhibit, exhibits
from rmqbench.results.result import Result
from rmqbench.scenarios import Scenario
from rmqbench.verdict.findings import Effect, FindingName

__all__ = ["Signature", "known_as", "signatures_of"]


_USUAL: Final = ("work", "")


class Signature(NamedTuple):
    """What makes two failures the same: not how many messages, nor which.

    ``role`` is that of the queue: ``newborn`` where a node is killed soon after it was declared,
    ``dead letters`` where it gets or has any, else ``work``. ``kind`` and ``role`` are empty for
    what is about no queue.
    """

    finding: str
    kind: str
    role: str

    def __str__(self) -> str:
        """Return it in words."""
        where = f" in a {self.kind} queue" if self.kind else ""
        return f"{self.finding}{where}" + (f" ({self.role})" if self.role not in _USUAL else "")


def signatures_of(scenario: Scenario, result: Result) -> dict[Signature, int]:
    """Return what fails a run, and of how many messages."""
    roles = _roles(scenario)
    found: dict[Signature, int] = {}
    for each in result.verdict.findings:
        # Who never connected, or never heard, tells of the machine: nothing is known to be lost.
        is_known = each.name not in (FindingName.UNSENT, FindingName.INDETERMINATE)
        if each.effect is Effect.FAILS and each.count and is_known:
            signature = Signature(each.name.value, *roles.get(each.queue or "", ("", "")))
            found[signature] = found.get(signature, 0) + each.count
    return found


def known_as(signature: Signature, version: str) -> list[Exhibit]:
    """Return the exhibits of the museum that show so on this version."""
    return [
        each
        for each in exhibits()
        if each.reference and each.affects(version) and _shown_by(each) == signature
    ]


def _shown_by(exhibit: Exhibit) -> Signature:
    return Signature(exhibit.shows, *_roles(exhibit.workload)[exhibit.queue])


def _roles(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """Return kind and role of each queue; lazy ones are classic queues."""
    origins = scenario.origins
    involved = {place for places in origins for place in places}
    involved |= {place for place, places in enumerate(origins) if places}
    young = any(
        each.kind.within_s or scenario.rest_s < each.kind.rest_s / 4 for each in scenario.faults
    )
    return {
        queue.name: (
            queue.declared().type,
            "newborn" if young else "dead letters" if place in involved else "work",
        )
        for place, queue in enumerate(scenario.queues)
    }
