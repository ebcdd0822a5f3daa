"""The verdict: evidence, the rules by which it is judged, and the directory that holds it all."""

from rmqbench.verdict.findings import (
    FINDINGS,
    OUTCOMES,
    Effect,
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
    "Finding",
    "FindingName",
    "Judgement",
    "NamedMessage",
    "Verdict",
    "VerdictError",
]
