"""Compare two sides, of a run or several each: what changed, and what is more than noise."""

from rmqbench.comparing.comparison import Change, Comparison, compare
from rmqbench.comparing.conditions import Condition
from rmqbench.comparing.running import run_in_turn

__all__ = ["Change", "Comparison", "Condition", "compare", "run_in_turn"]
