"""Capacity: the highest rate at which a broker keeps a limit on its latencies."""

from rmqbench.capacity.measuring import measure_capacity
from rmqbench.capacity.result import CapacityResult, Trial

__all__ = ["CapacityResult", "Trial", "measure_capacity"]
