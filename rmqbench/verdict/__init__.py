"""The verdict: what evidence is, and the rules by which it is judged. It reads no file."""

from rmqbench.verdict.findings import (
    FINDINGS,
    OUTCOMES,
    Effect,
    Explanation,
    Finding,
    FindingName,
    Judgement,
    NamedMessage,
    Verdict,
    VerdictError,
)

__all__ = [
    "FINDINGS",
    "OUTCOMES",
    "Effect",
    "Explanation",
    "Finding",
    "FindingName",
    "Judgement",
    "NamedMessage",
    "Verdict",
    "VerdictError",
]
