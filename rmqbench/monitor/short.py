"""Short forms: at most four characters for a number, one line for foreign text."""

from __future__ import annotations

from rmqbench.text import visible

__all__ = ["line", "short", "short_bytes", "short_rate"]

_UNITS = ("", "K", "M", "G", "T", "P", "E")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_LONGEST = 500  # wider than a screen, and a client may give its connection a longer name


def short(number: float) -> str:
    """Return a number in at most four characters: ``999``, ``1K``, ``1.5M``, ``12M``."""
    return "".join(_scaled(number, _UNITS))


def short_rate(per_second: float) -> str:
    """Return a rate; a slow one is not rounded down to 0: ``0.2/s``, ``<0.1/s``."""
    if 0 < per_second < 0.1:
        return "<0.1/s"
    return f"{per_second:.1f}/s" if 0 < per_second < 9.95 else f"{short(per_second)}/s"


def short_bytes(number: float) -> str:
    """Return bytes in decimal units: ``512 B``, ``1.5 MB``."""
    return " ".join(_scaled(number, _BYTES))


def line(text: str) -> str:
    """Return foreign text as one line that a terminal shows and does not obey.

    Variation selectors are removed: terminals do not agree on their width.
    """
    shown = visible(text[:_LONGEST]).replace("\n", "\\n")
    return "".join(each for each in shown if not "\ufe00" <= each <= "\ufe0f")


def _scaled(number: float, units: tuple[str, ...]) -> tuple[str, str]:
    value, last = float(number), units[-1]
    for unit in units:
        # What would be rounded up to 1000 belongs to the next unit.
        if value < 999.5 or unit == last:
            break
        value /= 1000
    digits = f"{value:.1f}" if value < 9.95 and unit != units[0] else f"{value:.0f}"
    return digits.removesuffix(".0"), unit
