"""Test a verifier: the proxy that alters AMQP traffic on purpose, under its public name.

See :mod:`rmqbench.proxy`.
"""

from rmqbench.proxy import (
    Alteration,
    Applied,
    Proxy,
    cut,
    cut_inside,
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)

__all__ = [
    "Alteration",
    "Applied",
    "Proxy",
    "cut",
    "cut_inside",
    "delay",
    "drop",
    "flip",
    "forge",
    "misroute",
    "repeat",
    "swap",
]
