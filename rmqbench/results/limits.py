"""Whether a run kept the limits on its latencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rmqbench.limits import Limit
from rmqbench.results.latencies import Latency, Percentiles
from rmqbench.verdict.findings import Judgement

__all__ = ["LimitCheck", "LimitError", "checked"]


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """Whether a limit was kept: through one queue, or in the confirms of all messages.

    ``ms`` is what was measured (None: more than all that came, which is known to be late).
    ``outcome`` is INCONCLUSIVE where it is over the limit only by as much as the producers
    themselves were late, or as the clocks of two hosts may differ.
    """

    limit: str
    queue: str | None
    ms: float | None
    outcome: Judgement

    def __str__(self) -> str:
        """Return it in a line."""
        where = f" of {self.queue}" if self.queue else ""
        measured = "never" if self.ms is None else f"{self.ms:,.3g} ms"
        words = {
            Judgement.PASS: "kept",
            Judgement.FAIL: "exceeded",
            Judgement.INCONCLUSIVE: "not known: rmqbench itself was late, or the clocks differ",
        }
        return f"{self.limit}{where}: {measured}, {words[self.outcome]}"


class LimitError(AssertionError):
    """A run that was required to pass did not keep a limit."""


def checked(
    limits: Sequence[str],
    confirm: Latency | None,
    queues: Mapping[str, tuple[Latency | None, Latency | None]],
    clocks_differ_ms: float = 0.0,
) -> Iterator[LimitCheck]:
    """Yield whether each limit was kept, by each queue that it is about.

    ``queues`` has the latencies of deliveries and acknowledgements, ``clocks_differ_ms`` is by how
    much the times of two hosts may differ.
    """
    for each in map(Limit.of, limits):
        if each.latency == "confirm":
            yield _check(each, None, confirm, 0.0)
            continue
        for name, pair in queues.items():
            latency = pair[each.latency == "acknowledge"]
            yield _check(each, name, latency, clocks_differ_ms)


def _check(
    limit: Limit, queue: str | None, latency: Latency | None, clocks_differ_ms: float
) -> LimitCheck:
    if latency is None:  # nothing came at all
        return LimitCheck(str(limit), queue, None, Judgement.INCONCLUSIVE)
    measured, least = _figure(latency, limit), _figure(latency.without_lag or latency, limit)
    if measured is not None and measured + clocks_differ_ms <= limit.most_ms:
        outcome = Judgement.PASS
    elif least is None or least - clocks_differ_ms > limit.most_ms:
        outcome = Judgement.FAIL
    else:
        outcome = Judgement.INCONCLUSIVE
    return LimitCheck(str(limit), queue, measured, outcome)


def _figure(latency: Percentiles, limit: Limit) -> float | None:
    """Return what is limited; None where it is beyond all that came."""
    if limit.figure == "max_ms" and latency.missing:
        return None
    value: float | None = getattr(latency, limit.figure)
    return value
