"""One check switched off, and how lists of such are written."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One check switched off: ``name`` says which, and ``tests`` are run, of which one must fail.

    ``original`` stands exactly once in the source of ``module``.
    """

    module: str
    name: str
    original: str
    mutated: str
    tests: tuple[str, ...]


def checks(module: str, file: str) -> Callable[[str, str, str, str], Mutation]:
    """Return a function that makes mutations of a module, each noticed by a test of this file."""

    def check(name: str, original: str, mutated: str, noticed_by: str) -> Mutation:
        test = f"tests/{file}::{noticed_by}"
        return Mutation(f"rmqbench.{module}", name, original, mutated, (test,))

    return check
