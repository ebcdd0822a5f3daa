"""Test a verifier: a proxy between clients and a broker that alters AMQP traffic on purpose.

::

    with Proxy(endpoint, [drop("delivery", 3), flip("delivery", 5, byte=50)]) as proxy:
        ...  # connect a consumer to proxy.endpoint
    proxy.applied  # the alterations that were made

A good verifier reports the third message as lost and the fifth as corrupted.
"""

from rmqbench.proxy.alterations import (
    Alteration,
    Applied,
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
from rmqbench.proxy.proxy import Proxy

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
