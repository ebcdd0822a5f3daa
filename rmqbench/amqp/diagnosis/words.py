"""How what pika and the broker say is quoted in a sentence."""

from __future__ import annotations

import re

__all__ = ["brief", "without_code"]


def brief(error: BaseException) -> str:
    """Return what an error says of itself, without a full stop."""
    return (str(error) or repr(error)).rstrip(".")


def without_code(text: str) -> str:
    """Return the broker's text without the name of its code in front and a full stop behind."""
    return re.sub(r"^[A-Z_]+ - ", "", text).rstrip(".")
