"""What changed from a base to something new, figure by figure, and what is more than noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmqbench.comparing.chance import chance_of_pairs, chance_of_sides
from rmqbench.comparing.conditions import FIGURES, Condition, figure_of
from rmqbench.errors import RmqbenchError, UsageError

__all__ = ["Broken", "Change", "Comparison", "compare"]

_NOISE = 0.05  # what chance alone may make more often than that is noise
_GATE = 0.1  # five pairs, of which one is a little off, are 3 of 32
_ENOUGH = 5  # runs of a side: of fewer no test can say that chance is as unlikely as that


@dataclass(frozen=True, slots=True)
class Change:
    """One figure on both sides. None: it is not known on a side.

    ``base`` and ``new`` are medians, ``ratio`` is that of new to base: of pairs the median of
    theirs. ``chance`` is how likely chance alone makes a difference as large as this, in its
    direction, where both sides are alike (None: too few runs to say). ``is_noise``: it may well be.
    """

    figure: str
    base: float | None
    new: float | None
    ratio: float | None
    chance: float | None

    @property
    def is_noise(self) -> bool:
        """Whether the difference is not more than chance alone would make of it."""
        return self.chance is None or self.chance > _NOISE


@dataclass(frozen=True, slots=True)
class Broken:
    """A condition that is met, and so fails the comparison; ``why`` in a sentence."""

    condition: str
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, compared. ``in_pairs``: their runs were done in turn, each with one of the other.

    ``unlike`` says in what their scenarios differ. ``failed`` are the conditions that are met;
    ``not_passed`` are runs of either side whose outcome is no PASS: they are not compared.
    """

    base: str
    new: str
    runs: tuple[int, int]
    in_pairs: bool
    changes: tuple[Change, ...]
    unlike: tuple[str, ...] = ()
    failed: tuple[Broken, ...] = ()
    not_passed: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where a condition is met, 3 where a side has no run that passed, else 0."""
        if self.failed:
            return 1
        return 0 if all(self.runs) else RmqbenchError.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "base": self.base,
            "new": self.new,
            "runs": {"base": self.runs[0], "new": self.runs[1]},
            "in_pairs": self.in_pairs,
            "changes": [{**asdict(each), "is_noise": each.is_noise} for each in self.changes],
            "unlike": list(self.unlike),
            "failed": [asdict(each) for each in self.failed],
            "not_passed": list(self.not_passed),
            "exit_code": self.exit_code,
        }


def compare(
    base: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    conditions: Sequence[Condition] = (),
    *,
    names: tuple[str, str] = ("base", "new"),
    in_pairs: bool = False,
) -> Comparison:
    """Compare results, each as ``result.json`` has it.

    With ``in_pairs`` the first of the one side was done beside the first of the other, and so on:
    what the machine did meanwhile is the same for both then. A condition is met where the ratio of
    the medians meets it, and chance alone would make that of a ratio at its bound in less than one
    case of ten; of fewer than five runs of a side, where it is met by every ratio that there is.

    Raise UsageError where a condition names what no result has.
    """
    kept = [[each for each in side if each["outcome"] == "PASS"] for side in (base, new)]
    if in_pairs:
        both = [
            pair
            for pair in zip(base, new, strict=True)
            if all(each["outcome"] == "PASS" for each in pair)
        ]
        kept = [[pair[0] for pair in both], [pair[1] for pair in both]]
    not_passed = tuple(
        f"{name} {number}: {each['outcome']}"
        for name, side in zip(names, (base, new), strict=True)
        for number, each in enumerate(side, 1)
        if each["outcome"] != "PASS"
    )
    figures = dict.fromkeys((*FIGURES, *(each.figure for each in conditions)))
    sides = {figure: [_values(side, figure) for side in kept] for figure in figures}
    for each in conditions:
        _require_known(each, sides[each.figure])
    changes = [_change(figure, *sides[figure], in_pairs=in_pairs) for figure in figures]
    failed = [
        broken
        for each in conditions
        if (broken := _broken(each, *sides[each.figure], in_pairs=in_pairs)) is not None
    ]
    return Comparison(
        base=names[0],
        new=names[1],
        runs=(len(kept[0]), len(kept[1])),
        in_pairs=in_pairs,
        changes=tuple(each for each in changes if each is not None),
        unlike=tuple(_unlike(*kept)),
        failed=tuple(failed),
        not_passed=not_passed,
    )


def _unlike(base: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield in what the scenarios of the first runs differ, of those that say what they were."""
    scenarios = [dict(side[0].get("scenario") or {}) for side in (base, new) if side]
    if len(scenarios) == 2:
        for key in dict.fromkeys(each for scenario in scenarios for each in scenario):
            one, other = (scenario.get(key) for scenario in scenarios)
            if one != other and key != "queues":
                yield f"{key} is {one!r} in the base, and {other!r} in the new"


def _values(side: Sequence[Mapping[str, Any]], figure: str) -> list[float | None]:
    return [figure_of(each, figure) for each in side]


def _require_known(condition: Condition, sides: Sequence[Sequence[float | None]]) -> None:
    for side in sides:
        if side and all(value is None for value in side):
            raise UsageError(
                f"{condition.figure} is not known of any run of a side.",
                "Compare what was measured: see result.json.",
            )


def _known(
    base: Sequence[float | None], new: Sequence[float | None], *, in_pairs: bool
) -> tuple[list[float], list[float]]:
    """Return the values that are known and more than 0; of pairs, those of which both are."""
    if in_pairs:
        both = [(a, b) for a, b in zip(base, new, strict=True) if a and b]
        return [a for a, _ in both], [b for _, b in both]
    return [each for each in base if each], [each for each in new if each]


def _change(
    figure: str, base: Sequence[float | None], new: Sequence[float | None], *, in_pairs: bool
) -> Change | None:
    a, b = _known(base, new, in_pairs=in_pairs)
    if not a or not b:
        return None
    ratio = _ratio(a, b, in_pairs=in_pairs)
    chance = None
    if min(len(a), len(b)) >= _ENOUGH:
        chance = _chance(a, b, below=ratio < 1, factor=1.0, in_pairs=in_pairs)
    return Change(figure, statistics.median(a), statistics.median(b), ratio, chance)


def _broken(
    condition: Condition,
    base: Sequence[float | None],
    new: Sequence[float | None],
    *,
    in_pairs: bool,
) -> Broken | None:
    a, b = _known(base, new, in_pairs=in_pairs)
    if not a or not b:
        return None
    ratio = _ratio(a, b, in_pairs=in_pairs)
    if not condition.holds(ratio):
        return None
    said = f"{condition.figure} is {ratio:.3f} times the base"
    if min(len(a), len(b)) < _ENOUGH:
        pairs = zip(a, b, strict=True) if in_pairs else ((x, y) for x in a for y in b)
        if not all(condition.holds(y / x) for x, y in pairs):
            return None
        few = f"{min(len(a), len(b))} of {_ENOUGH} runs that a test needs"
        return Broken(str(condition), f"{said}, and so is every ratio that there is ({few})")
    chance = _chance(a, b, below=condition.is_below, factor=condition.factor, in_pairs=in_pairs)
    if chance > _GATE:
        return None
    return Broken(str(condition), f"{said}; chance alone: {chance:.3f}")


def _ratio(base: Sequence[float], new: Sequence[float], *, in_pairs: bool) -> float:
    if in_pairs:
        return statistics.median(b / a for a, b in zip(base, new, strict=True))
    return statistics.median(new) / statistics.median(base)


def _chance(
    base: Sequence[float], new: Sequence[float], *, below: bool, factor: float, in_pairs: bool
) -> float:
    """Return the chance that the new side is so far below, or above, ``factor`` times the base."""
    sign = 1 if below else -1
    if in_pairs:
        ratios = (b / a / factor for a, b in zip(base, new, strict=True))
        return chance_of_pairs([sign * math.log(each) for each in ratios])
    scaled = [sign * math.log(each * factor) for each in base]
    return chance_of_sides([sign * math.log(each) for each in new], scaled)
